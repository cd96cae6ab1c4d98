"""What the conduits do not allow, one sentence each, with real sockets; and what is over a conduit's limits."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from builder.network.classes import LOOPBACK_INTERFACE, NO_CGROUP, OTHER_CGROUP, PacketClass
from tests.support.netlab import SERVICES, Lab, lab
from tests.support.netlab_cases import UIDS, Case, case
from tests.support.netlab_frames import ACK, SYN
from tests.support.netlab_points import representative
from tests.support.netlab_shapes import Shot
from tests.support.netlab_station import Identity
from tests.support.netlab_sweep import Outcome, Sweeper

SECONDS = 0.4


@pytest.fixture(scope="module")
def made() -> Case:
    return case("everything", rate=None)


@pytest.fixture
def built(made: Case) -> Iterator[Lab]:
    with lab(made.policy, uids=UIDS, filled=made.filled) as found:
        found.introduce()
        yield found


def test_only_the_service_itself_gets_through_its_conduit(made: Case, built: Lab) -> None:
    Sweeper(built, deaf=False).load(made.ruleset)
    broker = built.zones["site"].open(Identity(0, None), socket.AF_INET, socket.SOCK_STREAM)
    built.zones["site"].bind(broker, ("192.168.20.5", 8883), True)
    uplink = built.service("uplink")
    others = [Identity(uplink.uid, built.service(name).cgroup) for name in SERVICES if name != "uplink"]
    others += [Identity(built.service(name).uid, uplink.cgroup) for name in SERVICES if name != "uplink"]
    others += [Identity(uplink.uid, None), Identity(0, uplink.cgroup)]
    assert {str(who): connects(built, who) for who in others} == {str(who): False for who in others}
    assert connects(built, uplink)


def connects(built: Lab, who: Identity) -> bool:
    number = built.device.open(who, socket.AF_INET, socket.SOCK_STREAM)
    done = built.device.connect(number, ("192.168.20.5", 8883), SECONDS)
    built.device.close(number)
    return bool(done)


def test_a_listener_in_another_cgroup_hears_nothing(made: Case, built: Lab) -> None:
    sweeper = Sweeper(built)
    inward = [one for one in made.classes if one.hook == "input" and one.part == "opens"]
    opened = [one for one in inward if one.cgroups and one.iif != LOOPBACK_INTERFACE]
    heard = {}
    for cgroup in (*SERVICES, OTHER_CGROUP, NO_CGROUP):
        sweeper.hang_up()
        points = [replace(representative(made.policy, one), cgroup=cgroup) for one in opened]
        heard[cgroup] = [seen.accepted for seen in sweeper.begin(made.ruleset, points)]
    expected = {cgroup: [cgroup in (one.cgroups or ()) for one in opened] for cgroup in heard}
    assert heard == expected and any(map(any, heard.values()))


def test_a_conduit_whose_slot_is_not_filled_is_closed(made: Case, built: Lab) -> None:
    built.load(made.ruleset)
    broker = built.zones["site"].open(Identity(0, None), socket.AF_INET, socket.SOCK_STREAM)
    built.zones["site"].bind(broker, ("192.168.20.5", 8883), True)
    assert not connects(built, built.service("uplink"))


def test_every_refusal_is_counted_under_its_reason(made: Case, built: Lab) -> None:
    sweeper = Sweeper(built)
    into = replace(representative(made.policy, opening(made, "results")), cgroup=NO_CGROUP)
    out = representative(made.policy, opening(made, "broker"))
    through = representative(made.policy, opening(made, "historian"))
    reasons = {
        "in-spoofed": replace(into, source=out.destination),
        "in-invalid": replace(into, flags=SYN | ACK),
        "in-no-conduit": replace(into, dport=9),
        "out-spoofed": replace(out, source=into.source),
        "out-wrong-service": replace(out, cgroup="update"),
        "out-no-conduit": replace(out, dport=9),
        "fwd-no-conduit": replace(through, dport=9),
    }
    sweeper.load(made.ruleset)
    counted = {}
    for reason, point in reasons.items():
        before = counters(built)
        assert [one.accepted for one in sweeper.send([Shot(point)])] == [False]
        after = counters(built)
        counted[reason] = {name for name in after if after[name] > before[name]}
        # The kernel says things by itself all the time, and none of it comes in.
        counted[reason] -= {name for name in counted[reason] if name.startswith("out-")} - {reason}
    assert counted == {reason: {reason} for reason in reasons}


def counters(built: Lab) -> dict[str, int]:
    """What each reason has dropped so far."""
    listed = json.loads(built.device.command(["nft", "-j", "list", "table", "inet", "edgeseal"]))["nftables"]
    rules = [entry["rule"] for entry in listed if "rule" in entry and entry["rule"]["chain"].startswith("x_")]
    found = [(rule["chain"].removeprefix("x_"), part) for rule in rules for part in rule["expr"] if "counter" in part]
    return {reason: part["counter"]["packets"] for reason, part in found}


def test_what_is_over_a_limit_is_dropped(made: Case, built: Lab) -> None:
    """The limits of tests/support/policies.py: 200 packets/s and 100 at once, 10 new/s, 4 connections."""
    sweeper = Sweeper(built)
    names = representative(made.policy, opening(made, "trigger"))
    queries = sweeper.begin(made.ruleset, [replace(names, sport=2000 + index) for index in range(300)])
    assert 1 <= accepted(queries) <= 4
    sweeper.established(made.ruleset, [names])
    begun = time.monotonic()
    packets = sweeper.send([Shot(names) for _ in range(3000)])
    spent = time.monotonic() - begun
    assert 100 <= accepted(packets) <= 100 + 200 * spent + 1


def opening(made: Case, conduit: str) -> PacketClass:
    return next(one for one in made.classes if one.conduit == conduit and one.part == "opens")


def accepted(outcomes: Sequence[Outcome]) -> int:
    return sum(one.accepted for one in outcomes)
