"""The prover's parts: interval sets, boxes, each expression over all packets, packet classes, words."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from appliance.core.errors import InputError
from builder.network.boxes import Box, Union, meet, minus, outside
from builder.network.bytecode import (
    Bitwise,
    ByteOrder,
    Cmp,
    CtState,
    Expression,
    Immediate,
    Limit,
    Lookup,
    Meta,
    Note,
    Payload,
    Range,
    SocketCgroup,
    Verdict,
)
from builder.network.explore import Explorer, Life, Region
from builder.network.intervals import contains, intersect, of_peers, subtract, union, within
from builder.network.listing import Chain, Element, Rule, Set, Table
from builder.network.packet import packet_of
from builder.network.space import Space, interface_name, interface_number

DOMAINS: Box = {"x": ((0, 99),), "y": ((0, 99),)}
IPV4 = Space("output", "ipv4", ("update", "uplink"))
IPV6 = Space("input", "ipv6", ("update", "uplink"))
ARP = Space("input", "arp", ())
DROP = Verdict("drop")


# ---- interval sets


def test_interval_sets() -> None:
    assert union([(5, 9), (1, 2), (3, 3), (8, 12)]) == ((1, 3), (5, 12))
    assert intersect(((1, 3), (5, 12)), ((3, 6), (12, 20))) == ((3, 3), (5, 6), (12, 12))
    assert subtract(((1, 12),), ((0, 1), (5, 5), (12, 20))) == ((2, 4), (6, 11))
    assert subtract(((1, 3),), ()) == ((1, 3),)
    assert contains(((1, 3), (5, 12)), 5) and not contains(((1, 3), (5, 12)), 4)
    assert within(((2, 3),), ((1, 3), (5, 12))) and not within(((3, 4),), ((1, 3), (5, 12)))
    assert of_peers(["192.0.2.1", "2001:db8::/32", "192.0.2.2/31"], 4) == ((0xC0000201, 0xC0000203),)


# ---- boxes


def test_what_is_left_of_a_box_is_disjoint_and_complete() -> None:
    one, two = {"x": ((0, 9),)}, {"x": ((5, 20),), "y": ((3, 4),)}
    left = list(minus(one, two, DOMAINS))
    assert left == [{"x": ((0, 4),)}, {"x": ((5, 9),), "y": ((0, 2), (5, 99))}]
    assert meet(left[0], left[1]) is None
    assert meet(one, two) == {"x": ((5, 9),), "y": ((3, 4),)}


def test_a_union_finds_the_boxes_near_a_box() -> None:
    boxes = Union([{"x": ((10 * n, 10 * n + 5),), "y": ((n, n),)} for n in range(10)] + [{"y": ((50, 60),)}])
    assert list(boxes.near({"x": ((5, 10),)})) == [0, 1, 10]
    assert list(boxes.near({"x": ((6, 9),)})) == [10]
    assert list(boxes.near({"x": ((5, 10),), "y": ((1, 40),)})) == [1]
    assert list(boxes.near({"y": ((11, 12),)})) == []


def test_outside_finds_the_hole_and_knows_when_there_is_none() -> None:
    rows = [{"y": ((n, n),)} for n in range(100) if n != 42]
    found = outside({"x": ((3, 3),)}, [Union(rows)], DOMAINS)
    assert found == {"x": ((3, 3),), "y": ((42, 42),)}
    assert outside({}, [Union(rows), Union([{"x": ((0, 50),)}, {"x": ((51, 99),), "y": ((40, 45),)}])], DOMAINS) is None
    assert outside({}, [], DOMAINS) == {}


def test_outside_is_exact_where_no_field_alone_has_a_hole() -> None:
    board = [{"x": ((x, x),), "y": ((y, y),)} for x in range(10) for y in range(10) if (x, y) != (7, 3)]
    whole: Box = {"x": ((0, 9),), "y": ((0, 9),)}
    assert outside(whole, [Union(board)], DOMAINS) == {"x": ((7, 7),), "y": ((3, 3),)}
    assert outside(whole, [Union([*board, {"x": ((7, 7),), "y": ((3, 3),)}])], DOMAINS) is None


# ---- one rule over all packets


def matched(space: Space, *expressions: Expression, sets: tuple[Set, ...] = ()) -> list[Box]:
    """What a rule drops, when it is the only one of a chain that accepts."""
    rule = Rule(("inet", "t"), "c", 1, expressions, "the rule")
    chain = Chain("c", hook=space.hook, policy="accept", rules=(rule,))
    table = Table("inet", "t", {"c": chain}, {each.name: each for each in sets})
    outcomes = Explorer(table, space, Life()).run(chain, [Region({})])
    return [dict(outcome.region.box) for outcome in outcomes if outcome.verdict == "drop"]


def only(space: Space, *expressions: Expression, sets: tuple[Set, ...] = ()) -> Box:
    (box,) = matched(space, *expressions, Immediate(DROP), sets=sets)
    return box


def data(text: str) -> bytes:
    return bytes.fromhex(text)


HAS_HEADER = {"header": ((1, 1),)}


def test_an_unconditional_rule_matches_everything() -> None:
    assert only(IPV4, Note("counter")) == {}


def test_meta_constants_decide_the_family() -> None:
    ipv4 = (Meta("nfproto", 1), Cmp("eq", 1, data("02000000")))
    assert only(IPV4, *ipv4) == {}
    assert matched(IPV6, *ipv4, Immediate(DROP)) == []
    assert only(IPV6, Meta("protocol", 1), Cmp("eq", 1, data("86dd0000"))) == {}


def test_interfaces_are_compared_whole() -> None:
    name = b"uplink0".ljust(16, b"\0")
    assert only(IPV4, Meta("oifname", 1), Cmp("eq", 1, name)) == {"oif": ((interface_number("uplink0"),) * 2,)}
    assert matched(IPV4, Meta("iifname", 1), Cmp("eq", 1, name), Immediate(DROP)) == []
    assert interface_name(interface_number("uplink0")) == "uplink0"


def test_a_user_is_in_host_order_and_breaks_where_there_is_none() -> None:
    assert only(IPV4, Meta("skuid", 1), Cmp("eq", 1, data("be020000"))) == {"user": ((702, 702),)}
    swapped = (Meta("skuid", 1), ByteOrder(1, 1, 4, 4), Range("eq", 1, data("00000001"), data("00000014")))
    assert only(IPV4, *swapped) == {"user": ((1, 20),)}
    negated = (Meta("skuid", 1), Cmp("neq", 1, data("be020000")))
    assert only(IPV4, *negated) == {"user": ((0, 701), (703, (1 << 32) - 2))}


def test_a_cgroup_is_a_service_by_number() -> None:
    cgroups = Set("cg_uplink", ("cgroupsv2",), False, (Element(data("0200000000000000"), data("0200000000000000")),))
    assert only(IPV4, SocketCgroup(1), Lookup(1, "cg_uplink", False, False), sets=(cgroups,)) == {"cgroup": ((2, 2),)}
    inverted = (SocketCgroup(1), Lookup(1, "cg_uplink", False, True))
    assert only(IPV4, *inverted, sets=(cgroups,)) == {"cgroup": ((1, 1), (3, 3))}


def test_connection_states_are_bits() -> None:
    masked = (CtState(1), Bitwise(1, 1, data("48000000"), data("00000000")), Cmp("neq", 1, data("00000000")))
    assert only(IPV4, *masked) == {"state": ((8, 8), (64, 64))}
    assert only(IPV4, CtState(1), Cmp("eq", 1, data("02000000"))) == {"state": ((2, 2),)}


def test_prefixes_are_loads_of_fewer_bytes() -> None:
    assert only(IPV4, Payload("network", 12, 3, 1), Cmp("eq", 1, data("0a000200"))) == {
        "source": ((0x0A000200, 0x0A0002FF),)
    }
    both = (Payload("network", 12, 8, 1), Cmp("eq", 1, data("0a0000010a000002")))
    assert only(IPV4, *both) == {"source": ((0x0A000001,) * 2,), "destination": ((0x0A000002,) * 2,)}
    first = int(ip_address("2001:db8::"))
    wide = (
        Payload("network", 8, 16, 1),
        Bitwise(1, 1, data("ffffffff800000000000000000000000"), bytes(16)),
        Cmp("eq", 1, data("20010db8000000000000000000000000")),
    )
    assert only(IPV6, *wide) == {"source": ((first, first + (1 << 95) - 1),)}


def test_transport_loads_break_without_a_header() -> None:
    assert only(IPV4, Payload("transport", 2, 2, 1), Cmp("eq", 1, data("01bb0000"))) == {
        **HAS_HEADER,
        "second": ((443, 443),),
    }
    assert only(IPV6, Payload("transport", 0, 1, 1), Cmp("eq", 1, data("87000000"))) == {
        **HAS_HEADER,
        "protocol": ((0, 255),),
        "first": ((0x8700, 0x87FF),),
    }
    code = (Payload("transport", 1, 1, 1), Cmp("lt", 1, data("01000000")))
    box = only(IPV4, *code)
    assert len(box["first"]) == 256 and box["first"][3] == (0x300, 0x300)
    flags = (Payload("transport", 13, 1, 1), Bitwise(1, 1, data("12000000"), bytes(4)), Cmp("eq", 1, data("02000000")))
    assert contains(only(IPV4, *flags)["transport+13"], 0x02)
    assert not contains(only(IPV4, *flags)["transport+13"], 0x12)


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        ("eq", ((400, 400),)),
        ("neq", ((0, 399), (401, 65535))),
        ("lt", ((0, 399),)),
        ("lte", ((0, 400),)),
        ("gt", ((401, 65535),)),
        ("gte", ((400, 65535),)),
    ],
)
def test_compare(op: str, expected: tuple[tuple[int, int], ...]) -> None:
    box = only(IPV4, Payload("transport", 0, 2, 1), Cmp(op, 1, data("01900000")))  # type: ignore[arg-type]
    assert box == {**HAS_HEADER, "first": expected}


def test_unequal_over_two_fields_is_either() -> None:
    boxes = matched(IPV4, Payload("network", 12, 8, 1), Cmp("neq", 1, data("0a0000010a000002")), Immediate(DROP))
    assert boxes == [
        {"source": ((0, 0x0A000000), (0x0A000002, 0xFFFFFFFF))},
        {"source": ((0x0A000001,) * 2,), "destination": ((0, 0x0A000001), (0x0A000003, 0xFFFFFFFF))},
    ]


def test_a_map_of_several_fields() -> None:
    key = "0a000000060000000190 0000".replace(" ", "")
    end = "0a0000ff060000000193ffff"
    routes = Set(
        "m",
        ("ipv4_addr", "inet_proto", "inet_service"),
        True,
        (Element(data(key), data(end), DROP), Element(b"", b"", Verdict("accept"))),
    )
    loads = (Payload("network", 16, 4, 1), Meta("l4proto", 9), Payload("transport", 2, 2, 10))
    (box,) = matched(IPV4, *loads, Lookup(1, "m", True, False), sets=(routes,))
    assert box == {
        **HAS_HEADER,
        "destination": ((0x0A000000, 0x0A0000FF),),
        "protocol": ((6, 6),),
        "second": ((400, 403),),
    }


def test_limits_have_two_worlds() -> None:
    rule = Rule(("inet", "t"), "c", 1, (Limit("5/second burst 5", True), Immediate(DROP)), "the rule")
    chain = Chain("c", hook="output", policy="accept", rules=(rule,))
    outcomes = Explorer(Table("inet", "t", {"c": chain}, {}), IPV4, Life()).run(chain, [Region({})])
    assert [(each.verdict, len(each.region.within), len(each.region.over)) for each in outcomes] == [
        ("drop", 0, 1),
        ("accept", 1, 0),
    ]


IFNAME = b"eth".ljust(4, b"\0")
OVERLAP = Set(
    "m",
    ("inet_service",),
    True,
    (Element(data("00010000"), data("00050000"), DROP), Element(data("00050000"), data("00090000"), DROP)),
)
UNKNOWN: tuple[tuple[str, Space, tuple[Expression, ...], tuple[Set, ...], str], ...] = (
    (
        "a name by its beginning",
        IPV4,
        (Meta("oifname", 1), Cmp("eq", 1, IFNAME)),
        (),
        "an interface name by its beginning is not known",
    ),
    ("an IPv4 identification", IPV4, (Payload("network", 4, 2, 1),), (), "byte 4 of the ipv4 header is not known"),
    ("a next header", IPV6, (Payload("network", 6, 1, 1),), (), "byte 6 of the ipv6 header is not known"),
    (
        "far behind a port",
        IPV4,
        (Payload("transport", 60, 8, 1),),
        (),
        "byte 67 of the transport header of ipv4 is not known",
    ),
    (
        "a transport header of ARP",
        ARP,
        (Payload("transport", 2, 2, 1),),
        (),
        "byte 3 of the transport header of arp is not known",
    ),
    ("a user of ARP", ARP, (Meta("skuid", 1),), (), "`meta skuid` of an ARP packet is not known"),
    ("a state of ARP", ARP, (CtState(1),), (), "`ct state` of an ARP packet is not known"),
    ("a cgroup of ARP", ARP, (SocketCgroup(1),), (), "`socket cgroupv2` of an ARP packet is not known"),
    (
        "a register that holds nothing",
        IPV4,
        (Meta("l4proto", 1), Cmp("eq", 2, data("06000000"))),
        (),
        "the register 2 is read at byte 0, where nothing was loaded",
    ),
    (
        "an order of two fields",
        IPV4,
        (Payload("network", 12, 8, 1), Cmp("lt", 1, data("0a0000010a000002"))),
        (),
        "an order of more than one field is not known",
    ),
    (
        "a mask with holes",
        IPV4,
        (Payload("network", 12, 4, 1), Bitwise(1, 1, data("00ff00ff"), bytes(4)), Cmp("eq", 1, data("00010001"))),
        (),
        "a mask with holes over a wide field is not known",
    ),
    (
        "elements that overlap",
        IPV4,
        (Payload("transport", 2, 2, 1), Lookup(1, "m", True, False)),
        (OVERLAP,),
        "elements 1 and 2 of m overlap: {'second': ((5, 5),)}",
    ),
    (
        "a set where a map must be",
        IPV4,
        (Payload("transport", 2, 2, 1), Lookup(1, "m", False, False)),
        (OVERLAP,),
        "a lookup in m of this form is not known",
    ),
    (
        "something behind the verdict",
        IPV4,
        (Immediate(DROP), Note("counter")),
        (),
        "an expression behind the verdict is not known",
    ),
)


@pytest.mark.parametrize(("what", "space", "expressions", "sets", "message"), UNKNOWN, ids=[row[0] for row in UNKNOWN])
def test_what_is_not_known_is_refused_with_its_rule(
    what: str, space: Space, expressions: tuple[Expression, ...], sets: tuple[Set, ...], message: str
) -> None:
    with pytest.raises(InputError) as caught:
        matched(space, *expressions, sets=sets)
    assert caught.value.message == f"inet c: the rule: {message}"


# ---- words


def test_a_counter_example_is_a_packet_in_words() -> None:
    box = {
        "oif": ((interface_number("uplink0"),) * 2,),
        "source": ((0x0A00020F,) * 2,),
        "destination": ((0x0A000264,) * 2,),
        "protocol": ((17, 17),),
        "second": ((8883, 8883),),
        "user": ((704, 704),),
        "cgroup": ((1, 1),),
    }
    assert str(packet_of(box, IPV4)) == (
        "output on uplink0: udp from 10.0.2.15 port 40000 to 10.0.2.100 port 8883, state new, user 704, "
        "cgroup of update"
    )
    assert str(packet_of({"protocol": ((58, 58),), "first": ((0x8700, 0x87FF),)}, IPV6)) == (
        "input on uplink0: icmpv6 type 135 code 0 from 2001:db8::1 to 2001:db8::2, state new, no cgroup, hop limit 64"
    )
    assert str(packet_of({"header": ((0, 0),), "protocol": ((58, 58),)}, IPV4)) == (
        "output on uplink0: icmpv6 over IPv4 from 192.0.2.1 to 192.0.2.2 without a transport header, state new, "
        "no user, no cgroup"
    )
    assert str(packet_of({}, ARP)) == "input on uplink0: arp request from 192.0.2.1 to 192.0.2.2"
