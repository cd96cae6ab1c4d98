"""The policies that packets are sent at: the shipped profiles', and one that says everything a policy can say."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import msgspec

from appliance.formats.network_policy import NetworkPolicy, Rate, Slot
from builder.network.classes import LOOPBACK_INTERFACE, PacketClass, allowed_classes
from builder.network.ruleset import compile_ruleset
from builder.profile.load import load_profile
from builder.rootfs.files import SERVICE_UIDS
from tests.support.netlab import addresses_of
from tests.support.netlab_facts import Facts
from tests.support.netlab_points import addresses_on_links, errors_about, flows, new_points, plain_flows, representative
from tests.support.netlab_sweep import Outcome, Sweeper
from tests.support.policies import everything

PROFILES = ("industrial-pc", "npu-gateway", "smart-camera", "virtual-arm64", "virtual-x86_64")
NAMES = ("everything", *PROFILES)
UIDS = {"network": 0, **SERVICE_UIDS}
_FILLED = {"everything": {"broker": ("192.168.20.5", "192.168.20.6"), "broker-v6": ("2001:db8:20::5",)}}
UNLIMITED = Rate(packets=1_000_000, burst=100_000, new=10_000, connections=100_000)


@dataclass(frozen=True)
class Case:
    """A policy, its slots filled, compiled. ruleset: as in the image, in which no slot is filled."""

    name: str
    policy: NetworkPolicy
    filled: dict[str, tuple[str, ...]]
    ruleset: str
    classes: tuple[PacketClass, ...]


@cache
def case(name: str, *, rate: Rate | None = UNLIMITED) -> Case:
    """rate: of every conduit; None: its own. UNLIMITED is the greatest: a sweep would be over any other."""
    policy = everything() if name == "everything" else load_profile(name).network
    if rate is not None:
        changed = (msgspec.structs.replace(conduit, rate=rate) for conduit in policy.conduits)
        policy = msgspec.structs.replace(policy, conduits=tuple(changed))
    filled = _FILLED.get(name) or {slot.name: _addresses(policy, slot) for slot in policy.slots}
    ruleset = compile_ruleset(policy, name=name, uids=UIDS).decode()
    return Case(name, policy, filled, ruleset, allowed_classes(policy, uids=UIDS, filled=filled))


def _addresses(policy: NetworkPolicy, slot: Slot) -> tuple[str, ...]:
    """As many as the slot takes, two at most: its last hosts, which are nobody's."""
    taken: set[str | None] = {address for link in policy.links for address, _ in addresses_of(link)}
    taken |= {link.gateway for link in policy.links}
    network = ipaddress.ip_network(slot.within[0])
    last = int(network[-1]) - (network.num_addresses > 2)
    hosts = (str(type(network[0])(last - step)) for step in range(network.num_addresses))
    free = (host for host in hosts if host not in taken)
    return tuple(next(free) for _ in range(min(slot.most, 2, network.num_addresses)))


@dataclass(frozen=True)
class Plan:
    """All packets of a full sweep, made once: they do not depend on the ruleset."""

    listeners: Sequence[Facts]
    points: Sequence[Facts]
    flows: Sequence[Facts]
    plain: Sequence[Facts]


def plan(made: Case, sweeper: Sweeper) -> Plan:
    """The packets at the boundaries of the classes of `made`."""
    on_loopback = [one for one in made.classes if one.iif == LOOPBACK_INTERFACE and one.cgroups]
    return Plan(
        [representative(made.policy, one) for one in on_loopback],
        new_points(made.policy, made.classes, sweeper.identities),
        flows(made.policy, made.classes),
        plain_flows(made.policy, made.classes),
    )


def sweep(made: Case, sweeper: Sweeper, planned: Plan, ruleset: str) -> list[Outcome]:
    """Everything that was seen of the packets of `planned` while `ruleset` was loaded."""
    return [one for part in parts(made, sweeper, planned, ruleset) for one in part]


def parts(made: Case, sweeper: Sweeper, planned: Plan, ruleset: str) -> Iterator[list[Outcome]]:
    """The same, part by part: who has seen enough stops."""
    sweeper.by_kernel.clear()
    sweeper.listen(planned.listeners)
    yield sweeper.begin(ruleset, planned.points)
    yield sweeper.asked_for(addresses_on_links(made.policy, made.classes), 4)
    yield sweeper.established(ruleset, planned.flows)
    yield sweeper.related(ruleset, planned.plain, lambda flow: errors_about(made.policy, made.classes, flow))
    yield list(sweeper.by_kernel)
