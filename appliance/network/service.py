"""edgeseal-network: keeps the sealed ruleset in force, fills its slots, and tells what it drops.

The ruleset is in force before this service starts: edgeseal-ruleset.service loads it before any interface is
configured. Here it is loaded once more, so that what the kernel lists for it is known, and then watched.
"""

from __future__ import annotations

import hashlib
import os
import select
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.core.errors import DecodeError, EdgesealError, InputError
from appliance.formats.network_policy import NetworkPolicy, decode_network_policy
from appliance.formats.site_network import SITE_NETWORK_CREDENTIAL, decode_site_network, fill
from appliance.machine.audit_client import AuditClient
from appliance.machine.clock import system_clock
from appliance.machine.config import read_sealed
from appliance.machine.credentials import Credentials
from appliance.machine.entry import StopFlag
from appliance.machine.notify import Notifier, say
from appliance.machine.uplink_client import AlarmBell
from appliance.network.driftwatch import Changes, Clocks, DriftWatch
from appliance.network.drops import Drops
from appliance.network.dropwatch import DropWatch
from appliance.network.keeper import Keeper
from appliance.network.settings import Settings
from appliance.network.slots import slot_commands
from appliance.network.sockets import DropSocket, GenerationSocket
from appliance.network.tables import KernelTables
from appliance.network.teller import Teller

SERVICE = "edgeseal-network"
CGROUPS = Path("/sys/fs/cgroup")
ROUND_S = 5.0

SEALED = Settings()
Slots = Mapping[str, Sequence[str]]
Watched = StopFlag | Changes | DropSocket


@dataclass(frozen=True)
class Sealed:
    """What the root says. digest: sha256 of the ruleset."""

    ruleset: str
    digest: str
    policy: NetworkPolicy


def serve(settings: Settings = SEALED) -> None:
    """Run until SIGTERM. Raises EdgesealError: when the ruleset cannot be loaded, the device is closed then."""
    stop = StopFlag()
    teller = Teller(AuditClient(settings.audit_socket), _drift_alarm(settings.uplink_socket))
    try:
        _serve(settings, stop, teller)
    finally:
        teller.stop()


def _serve(settings: Settings, stop: StopFlag, teller: Teller) -> None:
    notifier = Notifier.from_environment()
    sealed = read_root(settings)
    filled = site_slots(sealed.policy, teller)
    generations = GenerationSocket()
    keeper = Keeper(KernelTables(), generations, cgroup_of, sealed.ruleset, slot_commands(sealed.policy, filled))
    clocks = Clocks(steady=time.monotonic, work=time.process_time)
    drift = DriftWatch(
        keeper, generations, teller, sealed.digest, check_s=settings.check_s, clocks=clocks, own_pid=os.getpid()
    )
    drift.start()
    filled = tell_slots(filled, keeper.slots_refused, teller)
    conduits, closed = len(sealed.policy.conduits), closed_conduits(sealed.policy, filled)
    teller.tell("ruleset-loaded", sha256=sealed.digest, conduits=conduits, closed=closed)
    drops = DropWatch(Drops(), teller, flush_s=settings.flush_s)
    notifier.ready("the sealed ruleset is in force")
    teller.tell("service-started", service=SERVICE)
    while not stop:
        now = time.monotonic()
        watched: list[Watched] = [stop, *drift.watched(now), *drops.watched()]
        wait = min(ROUND_S, drift.wait_s(now), drops.wait_s(now))
        readable, _, _ = select.select(watched, [], [], wait)
        if drops.socket in readable:
            drops.read()
        drift.round(awake=generations in readable)
        drops.round(time.monotonic())
        notifier.alive(f"in force; {drift.restored} times restored, {drops.seen} drops seen")
    notifier.stopping()
    teller.tell("service-stopped", service=SERVICE, reason="asked to")


def _drift_alarm(path: str) -> Callable[[bool, str], None] | None:
    """Raises and clears the alarm; None when the site has not named the device."""
    try:
        bell = AlarmBell(path, Credentials.from_environment().device_id())
    except EdgesealError:
        return None
    clock = system_clock()
    return lambda active, text: bell.set("ruleset-drift", active, text, clock())


def read_root(settings: Settings) -> Sealed:
    """Raises EdgesealError when a file cannot be read, DecodeError when it is not one."""
    ruleset = read_sealed(settings.ruleset)
    policy = decode_network_policy(read_sealed(settings.policy))
    try:
        text = ruleset.decode()
    except UnicodeDecodeError as error:
        raise DecodeError(f"{settings.ruleset}: not UTF-8 text") from error
    return Sealed(text, hashlib.sha256(ruleset).hexdigest(), policy)


def site_slots(policy: NetworkPolicy, teller: Teller) -> Slots:
    """The addresses that the site gave. What is not right in every part is refused as a whole: slots stay closed."""
    try:
        data = Credentials.from_environment().optional_bytes(SITE_NETWORK_CREDENTIAL.removeprefix("edgeseal."))
    except EdgesealError:  # not one credential for this service
        data = None
    if data is None:
        say("<5>the site gave no addresses: what waits for them stays closed")
        return {}
    try:
        return fill(policy, decode_site_network(data))
    except InputError as error:
        return tell_slots({}, str(error), teller)


def tell_slots(filled: Slots, refused: str, teller: Teller) -> Slots:
    """What is in force of it. refused: why nothing is, or empty."""
    if refused:
        say(f"<3>{refused}")
        teller.tell("slots-refused", "failure", reason=refused[:1024])
        return {}
    for slot, addresses in filled.items():
        teller.tell("slot-filled", slot=slot, addresses=", ".join(addresses)[:1024])
    return filled


def closed_conduits(policy: NetworkPolicy, filled: Slots) -> int:
    """How many conduits are closed because nobody filled their slot."""
    return sum(one.slot is not None and not filled.get(one.slot) for one in policy.conduits)


def cgroup_of(service: str) -> str | None:
    """Where systemd has put the unit of a service; None while it does not run."""
    path = f"system.slice/edgeseal-{service}.service"
    return path if (CGROUPS / path).is_dir() else None
