"""What a packet claims to be: part of a connection that nobody knows, or sent by the device itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address

import pytest

from builder.host.paths import source_root
from tests.support.netlab import Lab, lab
from tests.support.netlab_cases import UIDS, Case, case
from tests.support.netlab_facts import Facts
from tests.support.netlab_frames import ACK
from tests.support.netlab_points import representative
from tests.support.netlab_shapes import Shot
from tests.support.netlab_sweep import Sweeper

SYSCTLS = source_root() / "builder/rootfs/static/usr/lib/sysctl.d/90-edgeseal.conf"
LOOSE = "net/netfilter/nf_conntrack_tcp_loose"
THROUGH_EACH_HOOK = ("results", "broker", "historian")
OWN = {"the link's": "192.168.20.10", "another link's": "10.10.0.1"}


@pytest.fixture(scope="module")
def made() -> Case:
    return case("everything")


@pytest.fixture(scope="module")
def built(made: Case) -> Iterator[Lab]:
    with lab(made.policy, uids=UIDS, filled=made.filled) as found:
        found.introduce()
        yield found


def opening(made: Case, conduit: str, operation: int = 1) -> Facts:
    """operation: of ARP."""
    found = (one for one in made.classes if one.conduit == conduit and one.part in ("opens", "message"))
    points = (representative(made.policy, one) for one in found)
    return next(point for point in points if point.operation == operation)


@pytest.mark.parametrize("loose", ["1", "0"])
def test_no_connection_is_taken_up_in_its_middle(made: Case, built: Lab, loose: str) -> None:
    """Linux takes the middle of an unknown connection for the beginning of one, unless it is told not to."""
    built.device.sysctl({LOOSE: loose})
    points = [replace(opening(made, conduit), flags=ACK) for conduit in THROUGH_EACH_HOOK]
    sweeper = Sweeper(built)
    seen = sweeper.begin(made.ruleset, points)
    sweeper.hang_up()
    assert [one.accepted for one in seen] == [loose == "1" for _ in points]
    assert f"{LOOSE.replace('/', '.')} = 0" in SYSCTLS.read_text().splitlines(), "the image says so"


@pytest.mark.parametrize("operation", [1, 2], ids=["request", "reply"])
@pytest.mark.parametrize("whose", OWN)
def test_nobody_else_has_the_address_of_the_device(made: Case, built: Lab, whose: str, operation: int) -> None:
    sweeper = Sweeper(built)
    sweeper.load(made.ruleset)
    honest = opening(made, "arp-from-site", operation)
    claimed = replace(honest, source=int(ip_address(OWN[whose])))
    assert [one.accepted for one in sweeper.send([Shot(honest), Shot(claimed)])] == [True, False]
    listed = json.loads(built.device.command(["nft", "-j", "list", "chain", "arp", "edgeseal", "x_arp-in-spoofed"]))
    [*_, last] = [entry["rule"]["expr"] for entry in listed["nftables"] if "rule" in entry]
    assert last[0]["counter"]["packets"] == 1
