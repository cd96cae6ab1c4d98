"""Conduits become elements of verdict maps: which, where, and never two for one packet."""

from __future__ import annotations

import msgspec
import pytest

from appliance.formats.conduit_elements import conduit_elements, verdict_maps
from appliance.formats.network_policy import Conduit, NetworkPolicy, Slot
from appliance.formats.spans import Span, address_spans
from tests.support.policies import arp, conduit, everything, tiny

replace = msgspec.structs.replace


def texts(policy: NetworkPolicy, **filled: tuple[str, ...]) -> list[str]:
    return [f"{each.table} {each.map} {each.text()}" for each in conduit_elements(policy, filled)]


def only(*conduits: Conduit) -> NetworkPolicy:
    return replace(everything(), conduits=conduits)


def out(name: str = "one", service: str = "uplink", **more: object) -> Conduit:
    return conduit(name, "device", "site", "tcp", **{"service": service, "ports": (443,), **more})


ROWS: list[tuple[str, Conduit, list[str]]] = [
    (
        "outbound: what opens by the service, the answers by the peer",
        out(peers=("192.168.20.5",)),
        [
            "inet in_uplink0_answers_4 192.168.20.5 . 6 . 443 : goto b_one",
            "inet out_uplink0_uplink_4 192.168.20.5 . 6 . 443 : goto c_one",
        ],
    ),
    (
        "inbound: what opens by the peer, answers too",
        conduit("one", "cell-20", "device", "udp", service="inference", ports=(53,), peers=("2001:db8:a020::/125",)),
        [
            "inet in_cell20_begin_6 2001:db8:a020::/125 . 17 . 53 : goto c_one",
            "inet out_cell20_answers_6 2001:db8:a020::/125 . 17 . 53 : goto b_one",
        ],
    ),
    (
        "ports and addresses that touch are one range",
        out(ports=(80, "81-90", 91), peers=("192.168.20.4", "192.168.20.5", "192.168.20.7")),
        [
            f"inet {name} {peers} . 6 . 80-91 : goto {chain}_one"
            for name, chain in (("in_uplink0_answers_4", "b"), ("out_uplink0_uplink_4", "c"))
            for peers in ("192.168.20.4/31", "192.168.20.7")
        ],
    ),
    (
        "echo: request one way, reply the other",
        conduit("one", "site", "device", "icmp", service="kernel", messages=("echo-request",), peers=("192.168.20.5",)),
        [
            "inet in_uplink0_begin_icmp 192.168.20.5 . 8 : goto c_one",
            "inet out_uplink0_answers_icmp 192.168.20.5 . 0 : goto b_one",
        ],
    ),
    (
        "an ICMP error has no answer",
        conduit(
            "one", "site", "device", "icmpv6", service="kernel", messages=("packet-too-big",), peers=("2001:db8:20::1",)
        ),
        ["inet in_uplink0_errors_icmpv6 2001:db8:20::1 . 2 : goto c_one"],
    ),
    (
        "a solicitation goes to the address and to its group",
        conduit(
            "one",
            "device",
            "site",
            "icmpv6",
            service="kernel",
            messages=("neighbour-solicitation",),
            peers=("2001:db8:20::5",),
        ),
        [
            "inet out_uplink0_neighbours 2001:db8:20::5 . 135 : goto c_one",
            "inet out_uplink0_neighbours ff02::1:ff00:5 . 135 : goto c_one",
        ],
    ),
    (
        "an advertisement comes to the device's address or to all nodes",
        conduit(
            "one",
            "site",
            "device",
            "icmpv6",
            service="kernel",
            messages=("neighbour-advertisement",),
            peers=("2001:db8:20::5",),
        ),
        [
            "inet in_uplink0_neighbours 2001:db8:20::5 . 2001:db8:20::10 . 136 : goto c_one",
            "inet in_uplink0_neighbours 2001:db8:20::5 . ff02::1 . 136 : goto c_one",
        ],
    ),
    (
        "ARP has a table of its own",
        arp("site", "192.168.20.5")[0],
        [
            "arp out_uplink0 1 . 192.168.20.5 : goto c_arp-to-site",
            "arp out_uplink0 2 . 192.168.20.5 : goto c_arp-to-site",
        ],
    ),
    (
        "forwarding: both ends are in the key, answers have them the other way round",
        conduit("one", "cell-10", "site", "tcp", ports=(4840,), peers=("10.10.0.16/28",), targets=("192.168.20.40",)),
        [
            "inet fwd_cell10_uplink0_begin_4 10.10.0.16/28 . 192.168.20.40 . 6 . 4840 : goto c_one",
            "inet fwd_uplink0_cell10_answers_4 192.168.20.40 . 10.10.0.16/28 . 6 . 4840 : goto b_one",
        ],
    ),
    (
        "loopback: a packet passes both hooks",
        conduit(
            "one", "loopback", "loopback", "tcp", service="uplink", listener="inference", ports=(1,), peers=("::1",)
        ),
        [
            "inet in_lo_answers_6 ::1 . 6 . 1 : goto b_one",
            "inet in_lo_begin_6 ::1 . 6 . 1 : goto a_one",
            "inet out_lo_answers_6 ::1 . 6 . 1 : goto b_one",
            "inet out_lo_uplink_6 ::1 . 6 . 1 : goto c_one",
        ],
    ),
]


@pytest.mark.parametrize(("what", "one", "expected"), ROWS, ids=[row[0] for row in ROWS])
def test_elements_of_a_conduit(what: str, one: Conduit, expected: list[str]) -> None:
    assert texts(only(one)) == expected, what


def test_every_element_is_in_a_map_with_its_type() -> None:
    maps = {(one.table, one.name): one.type for one in verdict_maps(everything())}
    for element in conduit_elements(everything(), {"broker": ("192.168.20.5",), "broker-v6": ("2001:db8:20::5",)}):
        assert len(element.key) == len(maps[(element.table, element.map)])


def test_a_slot_has_maps_before_it_is_filled_and_elements_after() -> None:
    slot = Slot(name="mqtt", within=("192.168.20.0/24",), most=2, purpose="the broker")
    policy = replace(tiny(), slots=(slot,), conduits=(out("broker", slot="mqtt"),))
    assert [one.name for one in verdict_maps(policy)] == ["in_uplink0_answers_4", "out_uplink0_uplink_4"]
    assert texts(policy) == []
    assert texts(policy, mqtt=("192.168.20.5",)) == texts(only(out("broker", peers=("192.168.20.5",))))


def test_another_address_takes_the_place_of_the_old_one() -> None:
    slot = Slot(name="mqtt", within=("192.168.20.0/24",), purpose="the broker")
    policy = replace(tiny(), slots=(slot,), conduits=(*tiny().conduits, out("second", slot="mqtt")))
    before, after = (set(texts(policy, mqtt=(address,))) for address in ("192.168.20.6", "192.168.20.7"))
    assert {text.replace("20.6", "20.7") for text in before - after} == after - before
    assert len(before - after) == 2


def test_two_slots_with_one_address_belong_to_the_first_conduit() -> None:
    """A plant with one server for both repositories: the kernel refuses overlapping keys."""
    slots = tuple(Slot(name=name, within=("192.168.20.0/24",), purpose=name) for name in ("vendor", "site"))
    conduits = (out("vendor", "update", slot="vendor"), out("site", "update", slot="site", ports=("440-450",)))
    found = texts(replace(tiny(), slots=slots, conduits=conduits), vendor=("192.168.20.6",), site=("192.168.20.6",))
    assert [line for line in found if "out_uplink0_update_4" in line] == [
        "inet out_uplink0_update_4 192.168.20.6 . 6 . 443 : goto c_vendor",
        "inet out_uplink0_update_4 192.168.20.6 . 6 . 440-442 : goto c_site",
        "inet out_uplink0_update_4 192.168.20.6 . 6 . 444-450 : goto c_site",
    ]


def test_two_services_and_one_peer_have_openings_of_their_own() -> None:
    """The answers of both are the same packets."""
    found = texts(only(out("a", "uplink", peers=("192.168.20.5",)), out("b", "update", peers=("192.168.20.5",))))
    assert found == [
        "inet in_uplink0_answers_4 192.168.20.5 . 6 . 443 : goto b_a",
        "inet out_uplink0_update_4 192.168.20.5 . 6 . 443 : goto c_b",
        "inet out_uplink0_uplink_4 192.168.20.5 . 6 . 443 : goto c_a",
    ]


@pytest.mark.parametrize(
    ("peers", "text"),
    [
        (("10.0.0.0/24",), ["10.0.0.0/24"]),
        (("10.0.0.0/25", "10.0.0.128/25"), ["10.0.0.0/24"]),
        (("10.0.0.1", "10.0.0.2"), ["10.0.0.1-10.0.0.2"]),
        (("10.0.0.9", "10.0.0.2", "2001:db8::1"), ["10.0.0.2", "10.0.0.9"]),
        ((), []),
    ],
)
def test_addresses_as_nft_writes_them(peers: tuple[str, ...], text: list[str]) -> None:
    assert [span.text() for span in address_spans(peers, 4)] == text


def test_a_solicited_range_that_wraps_has_two_groups() -> None:
    peers = ("2001:db8:20::ff:fffe/127", "2001:db8:20::100:0/127")
    messages = ("neighbour-solicitation",)
    one = conduit("one", "device", "site", "icmpv6", service="kernel", messages=messages, peers=peers)
    groups = [each.key[0] for each in conduit_elements(only(one), {}) if isinstance(each.key[0], Span)]
    assert [span.text() for span in groups if span.low >> 120 == 0xFF] == [
        "ff02::1:ff00:0/127",
        "ff02::1:ffff:fffe/127",
    ]
