"""What conduits allow, as packet classes: derived from the policy alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address

import msgspec
import pytest

from appliance.core.errors import InputError
from appliance.formats.network_policy import NetworkPolicy
from builder.network.classes import (
    NO_USER,
    PacketClass,
    allowed_classes,
    own_addresses,
    solicited_nodes,
)
from builder.network.fillings import representatives
from builder.network.intervals import IntervalSet, contains, of_peers, single
from builder.network.listing import Ruleset
from tests.support.policies import UIDS, arp, conduit, everything, tiny

replace = msgspec.structs.replace


def of(policy: NetworkPolicy, name: str, filled: Mapping[str, Sequence[str]] | None = None) -> list[PacketClass]:
    return [one for one in allowed_classes(policy, uids=UIDS, filled=filled or {}) if one.conduit == name]


def address(text: str) -> IntervalSet:
    return single(int(ip_address(text)))


def summary(one: PacketClass) -> tuple[object, ...]:
    return one.part, one.hook, one.family, one.iif or one.oif, "/".join(sorted(one.states))


def test_outbound_needs_user_and_cgroup_then_cgroup_then_nothing() -> None:
    new, established, answers = of(tiny(), "broker")
    assert summary(new) == ("opens", "output", "ipv4", "uplink0", "new")
    assert (new.users, new.cgroups) == (single(UIDS["uplink"]), frozenset({"uplink"}))
    assert (new.source, new.destination) == (address("192.168.20.10"), address("192.168.20.5"))
    assert (new.protocols, new.source_ports, new.destination_ports) == (single(6), None, single(8883))
    assert summary(established) == ("opens", "output", "ipv4", "uplink0", "established")
    assert (established.users, established.cgroups) == (None, frozenset({"uplink"}))
    assert summary(answers) == ("answers", "input", "ipv4", "uplink0", "established")
    assert (answers.users, answers.cgroups) == (None, None)
    assert (answers.source_ports, answers.destination_ports) == (single(8883), None)


def test_inbound_asks_the_first_packet_for_the_listener() -> None:
    new, established, answers = of(everything(), "results")
    assert summary(new) == ("opens", "input", "ipv4", "cell10", "new")
    assert (new.cgroups, established.cgroups) == (frozenset({"inference"}), None)
    assert new.destination == address("10.10.0.1") and new.destination_ports == ((8000, 8010),)
    assert summary(answers) == ("answers", "output", "ipv4", "cell10", "established")
    assert not contains(new.source or (), int(ip_address("10.10.0.1"))), "the device's own address is no source"


def test_an_unfilled_slot_allows_nothing_and_a_filled_one_its_addresses() -> None:
    assert of(everything(), "broker") == []
    new, *_ = of(everything(), "broker", {"broker": ["192.168.20.5", "192.168.20.6"]})
    assert new.destination == of_peers(["192.168.20.5", "192.168.20.6"], 4)
    assert of(everything(), "broker-v6", {"broker": ["192.168.20.5"]}) == []


def test_the_kernel_answers_an_echo_without_a_user() -> None:
    new, established, answers = of(everything(), "ping-in")
    assert (new.icmp_types, answers.icmp_types) == (single(8), single(0))
    assert (new.cgroups, established.cgroups, answers.users) == (None, None, single(NO_USER))


def test_errors_are_related_and_go_one_way() -> None:
    (too_big,) = of(everything(), "mtu-in")
    assert summary(too_big) == ("error", "input", "ipv6", "uplink0", "related")
    assert (too_big.protocols, too_big.icmp_types) == (single(58), single(2))
    (unreachable,) = of(everything(), "errors-out")
    assert summary(unreachable) == ("error", "output", "ipv4", "cell20", "related")
    assert unreachable.users == single(NO_USER)


def test_neighbour_discovery_is_untracked_and_comes_from_the_link() -> None:
    solicitation, advertisement = of(everything(), "neighbours-from-site")
    assert summary(solicitation) == ("message", "input", "ipv6", "uplink0", "untracked")
    assert solicitation.hop_limits == single(255)
    assert solicitation.destination == of_peers(["2001:db8:20::10", "ff02::1:ff00:10"], 6)
    assert advertisement.destination == of_peers(["2001:db8:20::10", "ff02::1"], 6)
    out, _ = of(everything(), "neighbours-to-site")
    assert out.destination == of_peers(["2001:db8:20::/125", "ff02::1:ff00:0/125"], 6)
    assert out.users == single(NO_USER)


def test_arp_has_an_operation_and_both_addresses() -> None:
    request, reply = of(tiny(), "arp-from-site")
    assert (request.operations, reply.operations) == (single(1), single(2))
    assert (request.source, request.destination) == (address("192.168.20.5"), address("192.168.20.10"))
    assert summary(request) == ("message", "input", "arp", "uplink0", "untracked")
    for one in of(everything(), "arp-from-site"):
        assert contains(one.source or (), int(ip_address("192.168.20.9")))
        assert not contains(one.source or (), int(ip_address("192.168.20.10"))), "nobody else has the device's address"


def test_forwarding_names_both_interfaces() -> None:
    opens, answers = of(everything(), "historian")
    assert (opens.hook, opens.iif, opens.oif) == ("forward", "cell10", "uplink0")
    assert (answers.iif, answers.oif, answers.states) == ("uplink0", "cell10", frozenset({"established"}))
    assert opens.destination == answers.source == of_peers(["192.168.20.40", "192.168.20.41"], 4)


def test_loopback_is_a_conduit_with_two_services() -> None:
    found = [one for one in of(everything(), "models") if one.family == "ipv4"]
    assert [(*summary(one)[:2], one.cgroups) for one in found] == [
        ("opens", "output", frozenset({"uplink"})),
        ("opens", "output", frozenset({"uplink"})),
        ("opens", "input", frozenset({"inference"})),
        ("opens", "input", None),
        ("answers", "output", None),
        ("answers", "input", None),
    ]


def test_limits_of_each_direction() -> None:
    new, established, answers = of(tiny(), "broker")
    packets = "200/second burst 100"
    assert new.limits("new") == {packets, "10/second burst 10", "connections 4"}
    assert established.limits("established") == answers.limits("established") == {packets}
    assert of(tiny(), "arp-to-site")[0].limits("untracked") == {"10/second burst 100"}
    assert of(everything(), "ping-in")[0].limits("new") == {packets, "10/second burst 10"}
    assert of(everything(), "models")[2].limits("new") == frozenset()


def test_no_class_is_empty_and_all_conduits_have_one() -> None:
    policy = everything()
    filled = {"broker": ["192.168.20.5"], "broker-v6": ["2001:db8:20::5"]}
    classes = allowed_classes(policy, uids=UIDS, filled=filled)
    assert not any(one.is_empty for one in classes)
    assert {one.conduit for one in classes} == {one.id for one in policy.conduits}


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        ("2001:db8::1:10", "2001:db8::1:10", [(0x010010, 0x010010)]),
        ("2001:db8::ff:fffe", "2001:db8::100:1", [(0, 1), (0xFFFFFE, 0xFFFFFF)]),
        ("2001:db8::", "2001:db8::ffff:ffff", [(0, 0xFFFFFF)]),
    ],
)
def test_solicited_nodes(first: str, last: str, expected: list[tuple[int, int]]) -> None:
    base = int(ip_address("ff02::1:ff00:0"))
    found = solicited_nodes(((int(ip_address(first)), int(ip_address(last))),))
    assert found == tuple((base + begin, base + end) for begin, end in expected)


BAD = (
    (
        {"uids": {}},
        conduit("x", "device", "site", "tcp", service="uplink", ports=(1,), peers=("192.168.20.5",)),
        "conduit x: the service `uplink` has no user",
    ),
    (
        {},
        conduit("x", "device", "moon", "tcp", service="uplink", ports=(1,)),
        "conduit x: the zone `moon` is on no link",
    ),
    (
        {},
        conduit("x", "site", "device", "icmp", service="kernel", messages=("packet-too-big",), peers=("192.168.20.5",)),
        "conduit x: icmp has no message `packet-too-big`",
    ),
    (
        {},
        conduit("x", "site", "device", "arp", service="kernel", messages=("echo-request",), peers=("192.168.20.5",)),
        "conduit x: arp has no message `echo-request`",
    ),
)


@pytest.mark.parametrize(("more", "bad", "message"), BAD, ids=[row[2] for row in BAD])
def test_a_conduit_without_a_meaning_is_refused(more: dict[str, dict[str, int]], bad: object, message: str) -> None:
    policy = replace(tiny(), conduits=(bad,))
    with pytest.raises(InputError) as caught:
        allowed_classes(policy, **{"uids": UIDS, "filled": {}, **more})
    assert caught.value.message == message


def test_own_addresses_are_those_of_the_family() -> None:
    links = everything().links
    assert own_addresses(links[:1], "ipv4") == address("192.168.20.10")
    assert own_addresses(links[:1], "ipv6") == address("2001:db8:20::10")
    assert own_addresses(links[1:2], "ipv4") == ()


def test_representatives_stand_on_both_sides_of_every_number() -> None:
    policy = replace(everything(), conduits=arp("site", "192.168.20.64/30"))
    found = representatives(policy, Ruleset(()))
    assert found["broker"] == ("192.168.20.0", "192.168.20.11", "192.168.20.64", "192.168.20.68", "192.168.20.127")
    assert "192.168.20.10" not in found["broker"], "the device's own address fills no slot"
    assert found["broker-v6"][0] == "2001:db8:20::1", "the second slot takes the next address of each piece"
