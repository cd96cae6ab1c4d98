"""What a reviewer is told: every field of every conduit, and a sentence on each protocol, asked for or not."""

from __future__ import annotations

import json

import msgspec
import pytest

from appliance.formats.network_policy import Conduit, NetworkPolicy
from builder.network.show import policy_data, policy_text, stance
from builder.profile.load import load_profile, profile_names
from tests.support.policies import conduit, everything, tiny

replace = msgspec.structs.replace


def test_every_field_of_a_policy_is_in_the_data() -> None:
    """--json is what another tool reads: nothing that a profile says is lost."""
    policy = everything()
    data = policy_data(policy, name="everything")
    assert json.loads(json.dumps(data)) == data
    plain = msgspec.json.decode(msgspec.json.encode(policy))
    for part in ("links", "zones", "slots", "conduits"):
        for said, shown in zip(plain[part], data[part], strict=True):
            assert said == {key: shown[key] for key in said}


@pytest.mark.parametrize("name", profile_names())
def test_the_table_has_every_conduit_with_what_an_approval_needs(name: str) -> None:
    policy = load_profile(name).network
    text = policy_text(policy_data(policy, name=name))
    for one in policy.conduits:
        for fact in (one.id, one.data, one.purpose, one.owner, one.review, f"{one.rate.packets} packets/s"):
            assert fact in text


@pytest.mark.parametrize(
    ("name", "way"),
    [("broker", "out"), ("results", "in"), ("historian", "through"), ("models", "inside"), ("arp-from-site", "in")],
)
def test_directions(name: str, way: str) -> None:
    data = policy_data(everything(), name="x")
    assert next(one["direction"] for one in data["conduits"] if one["id"] == name) == way


def flow(protocol: str, port: int | str) -> Conduit:
    return conduit("one", "device", "site", protocol, service="network", ports=(port,), peers=("192.168.20.5",))


STANCES: list[tuple[str, NetworkPolicy, str]] = [
    ("IPv6", tiny(), "closed: every packet is dropped; the kernel has it switched off (ipv6.disable=1)"),
    (
        "IPv6",
        everything(),
        "by broker-v6, names, cell-io, trigger-v6, ping6-in, mtu-in, neighbours-to-site, neighbours-from-site, "
        "historian-v6, models; else dropped",
    ),
    ("ARP", tiny(), "by arp-to-site, arp-from-site; else dropped"),
    ("ARP", replace(tiny(), conduits=()), "closed: no neighbour is reached by IPv4"),
    ("NDP", tiny(), "closed: no neighbour is reached by IPv6"),
    ("NDP", everything(), "by neighbours-to-site, neighbours-from-site; else dropped"),
    ("ICMP", tiny(), "closed: no echo, no errors"),
    ("ICMP", everything(), "by ping-in, ping-out, ping6-in, errors-in, errors-out, mtu-in, ping-through; else dropped"),
    ("DHCP", tiny(), "closed: addresses are static; a client would use packet sockets, which no ruleset sees"),
    ("DHCP", replace(tiny(), conduits=(flow("udp", "60-70"),)), "by one; else dropped"),
    ("DNS", tiny(), "closed: no name is asked for; peers are addresses"),
    ("DNS", replace(tiny(), conduits=(flow("tcp", 853),)), "by one; else dropped"),
    ("NTP", tiny(), "closed: no time is asked for, by NTP or NTS"),
    ("NTP", replace(tiny(), conduits=(flow("tcp", 4460),)), "by one; else dropped"),
    ("multicast", tiny(), "closed: no group is joined"),
    (
        "multicast",
        everything(),
        "the groups of neighbour discovery, by neighbours-to-site, neighbours-from-site; else dropped",
    ),
    ("forwarding", tiny(), "closed: nothing is forwarded between zones"),
    ("forwarding", everything(), "by historian, historian-v6, ping-through; else dropped"),
    ("loopback", tiny(), "closed: services do not speak over loopback"),
    ("before load", tiny(), "no interface is brought up before the ruleset is loaded"),
    ("on failure", tiny(), "no interface is brought up when the ruleset cannot be loaded; the audit log is told"),
]


@pytest.mark.parametrize(("what", "policy", "sentence"), STANCES, ids=[f"{row[0]}-{row[2][:20]}" for row in STANCES])
def test_stance(what: str, policy: NetworkPolicy, sentence: str) -> None:
    assert stance(policy)[what] == sentence


def test_defaults_name_every_hook_and_family() -> None:
    rows = policy_data(tiny(), name="x")["defaults"]
    assert {row["default"] for row in rows} == {"drop"}
    assert [(row["hook"], row["family"]) for row in rows] == [
        *((hook, family) for hook in ("input", "output", "forward") for family in ("IPv4", "IPv6")),
        ("input", "ARP"),
        ("output", "ARP"),
    ]
