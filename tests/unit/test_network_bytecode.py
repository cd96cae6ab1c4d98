"""The reader of nftables' bytecode: what it knows, and the exact words with which it refuses everything else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from appliance.core.errors import InputError
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
    byte_offset,
    parse_expression,
)
from builder.network.listing import bind_cgroups, read_listing
from tests.support.proof_packets import stored_ruleset

KNOWN: tuple[tuple[str, Expression], ...] = (
    ("meta load nfproto => reg 1", Meta("nfproto", 1)),
    ("meta load skuid => reg 13", Meta("skuid", 13)),
    ("payload load 3b @ network header + 12 => reg 1", Payload("network", 12, 3, 1)),
    ("payload load 2b @ transport header + 2 => reg 14", Payload("transport", 2, 2, 14)),
    ("ct load state => reg 1", CtState(1)),
    ("socket load cgroupv2 => reg 1", SocketCgroup(1)),
    (
        "bitwise reg 1 = ( reg 1 & 0x00000008 ) ^ 0x00000000",
        Bitwise(1, 1, bytes.fromhex("08000000"), bytes(4)),
    ),
    ("byteorder reg 1 = hton(reg 2, 4, 8)", ByteOrder(1, 2, 8, 4)),
    ("cmp neq reg 1 0x0000000a 0x00000001", Cmp("neq", 1, bytes.fromhex("0a00000001000000"))),
    ("range eq reg 1 0x00006400 0x0000c800", Range("eq", 1, bytes.fromhex("00640000"), bytes.fromhex("00c80000"))),
    ("lookup reg 1 set own4_lo 0x1", Lookup(1, "own4_lo", has_verdict=False, inverted=True)),
    ("lookup reg 1 set out_lo_uplink_4 dreg 0 0x0", Lookup(1, "out_lo_uplink_4", has_verdict=True, inverted=False)),
    ("immediate reg 0 goto -> c_broker", Immediate(Verdict("goto", "c_broker"))),
    ("immediate reg 0 drop", Immediate(Verdict("drop"))),
    ("limit rate 5/second burst 20 type packets flags 0x1", Limit("5/second burst 20", inverted=True)),
    ("connlimit count 16 flags 1", Limit("connections 16", inverted=True)),
    ("counter pkts 0 bytes 0", Note("counter")),
    ("log prefix edgeseal in-spoofed  group 3 snaplen 96 qthreshold 0", Note("log")),
)


@pytest.mark.parametrize(("text", "expected"), KNOWN, ids=[text[:30] for text, _ in KNOWN])
def test_known_expressions_are_read(text: str, expected: Expression) -> None:
    assert parse_expression(text) == expected


UNKNOWN = (
    "meta set mark with reg 1",
    "payload load 6b @ link header + 0 => reg 1",
    "payload write reg 1 => 4b @ network header + 12",
    "ct load direction => reg 1",
    "ct load state => reg 1 , dir original",
    "socket load transparent => reg 1",
    "exthdr load ipv6 1b @ 44 + 0 present => reg 1",
    "fib saddr . iif oif present => reg 1",
    "bitwise reg 1 = ( reg 1 << 0x00000008 )",
    "cmp like reg 1 0x0000000a",
    "lookup reg 1 set m dreg 1 0x0",
    "immediate reg 1 0x00000001",
    "limit rate 5/second burst 20 type bytes flags 0x0",
    "dynset add reg_key 1 set cn timeout 0ms expr [ connlimit count 16 flags 1 ]",
    "masq",
    "notrack",
    "reject type 2 code 0",
)
REFUSED = (
    *((text, f"the expression `{text}` is not known") for text in UNKNOWN),
    ("meta load mark => reg 1", "the key `meta mark` is not known"),
    (
        "range eq reg 1 0x00006400 0x00000000 0x0000c800",
        "the range `0x00006400 0x00000000 0x0000c800` has two ends of different length",
    ),
    ("immediate reg 0 queue", "the verdict `queue` is not known"),
    ("immediate reg 0 jump", "the verdict `jump` is not known"),
)


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=[text[:30] for text, _ in REFUSED])
def test_anything_else_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_expression(text)
    assert caught.value.message == message


def test_registers_are_where_the_kernel_has_them() -> None:
    assert [byte_offset(number) for number in (1, 2, 4, 8, 13, 23)] == [0, 16, 48, 0, 20, 60]
    with pytest.raises(InputError, match=r"^the register 5 is not known$"):
        byte_offset(5)


# ---- whole listings

RULE = "inet t input 5\n  [ counter pkts 0 bytes 0 ]\n"
SOURCE = (
    "table inet t {\n\tchain input {\n\t\ttype filter hook input priority filter; policy drop;\n\t\tcounter\n\t}\n}\n"
)
TABLE = {"table": {"family": "inet", "name": "t", "handle": 1}}
CHAIN: dict[str, Any] = {
    "chain": {
        "family": "inet",
        "table": "t",
        "name": "input",
        "handle": 1,
        "type": "filter",
        "hook": "input",
        "prio": 0,
        "policy": "drop",
    }
}
SET: dict[str, Any] = {"set": {"family": "inet", "table": "t", "name": "s", "type": "ipv4_addr", "handle": 2}}


def with_key(described: dict[str, Any], **more: Any) -> dict[str, Any]:
    ((kind, body),) = described.items()
    return {kind: {**body, **more}}


def read(text: str, *objects: dict[str, Any]) -> object:
    return read_listing(text, json.dumps({"nftables": [{"metainfo": {}}, *objects]}))


BAD_LISTINGS: tuple[tuple[str, Callable[[], object], str], ...] = (
    (
        "an unknown expression",
        lambda: read(RULE.replace("counter pkts 0 bytes 0", "fwd sreg_dev 1") + SOURCE, TABLE, CHAIN),
        "inet input: counter: the expression `fwd sreg_dev 1` is not known",
    ),
    (
        "an unknown line",
        lambda: read(RULE + "  ( something )\n" + SOURCE, TABLE, CHAIN),
        "the line `( something )` of the bytecode is not known",
    ),
    (
        "a rule that the listing does not show",
        lambda: read(RULE + RULE.replace("5\n", "6 5\n") + SOURCE, TABLE, CHAIN),
        "inet input: the bytecode has more rules than the listing",
    ),
    (
        "a flowtable",
        lambda: read(RULE + SOURCE, TABLE, CHAIN, {"flowtable": {"family": "inet", "table": "t", "name": "f"}}),
        "the ruleset has a flowtable, which is not known",
    ),
    (
        "a family",
        lambda: read("", with_key(TABLE, family="bridge")),
        "the table bridge t: the family bridge is not known",
    ),
    (
        "a table's flag",
        lambda: read("", with_key(TABLE, flags="dormant")),
        "the table inet t: the attribute `flags` is not known",
    ),
    (
        "a chain's device",
        lambda: read("", TABLE, with_key(CHAIN, dev="eth0")),
        "inet input: the attribute `dev` is not known",
    ),
    (
        "a set's flag",
        lambda: read("", TABLE, with_key(SET, flags=["dynamic"])),
        "the set s: the flag `dynamic` is not known",
    ),
    (
        "a set's attribute",
        lambda: read("", TABLE, with_key(SET, timeout=60)),
        "the set s: the attribute `timeout` is not known",
    ),
    ("a data map", lambda: read("", TABLE, with_key(SET, map="mark")), "the set s: a map to `mark` is not known"),
    (
        "an element that ends",
        lambda: read("inet t @s\n\telement 0100000a  : 1 [end]\n", TABLE, SET),
        "the set s: an element has an end that is not known",
    ),
    (
        "an element's flag",
        lambda: read("inet t @s\n\telement 0100000a  : 4 [end]\n", TABLE, SET),
        "the set s: an element has a flag that is not known",
    ),
    (
        "a set without a name, and one element 0",
        lambda: read("inet t @__set0\n\telement 00000000  : 0 [end]\n", TABLE),
        "the set __set0: whether its one element 0 is a whole range does not show in the listing",
    ),
    (
        "another level of cgroups",
        lambda: read(
            RULE.replace("counter pkts 0 bytes 0", "socket load cgroupv2 => reg 1")
            + SOURCE.replace("\t\tcounter", "\t\tsocket cgroupv2 level 1 @cg_uplink"),
            TABLE,
            CHAIN,
        ),
        "`socket cgroupv2 level 1` is not known: services are on level 2",
    ),
    (
        "a level that does not show",
        lambda: read(RULE.replace("counter pkts 0 bytes 0", "socket load cgroupv2 => reg 1") + SOURCE, TABLE, CHAIN),
        "the level of `socket cgroupv2` does not show in the listing",
    ),
    (
        "a set of cgroups that is filled",
        lambda: bind_cgroups(
            read("inet t @s\n\telement 00000001 00000000  : 0 [end]\n", TABLE, with_key(SET, type="cgroupsv2")),  # type: ignore[arg-type]
            ("uplink",),
        ),
        "the set s has elements: cgroups are known at run time only",
    ),
)


@pytest.mark.parametrize(("what", "make", "message"), BAD_LISTINGS, ids=[row[0] for row in BAD_LISTINGS])
def test_a_listing_with_unknown_parts_is_refused(what: str, make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        make()
    assert caught.value.message == message


def test_the_stored_listing_is_read_whole() -> None:
    tables = {table.key: table for table in stored_ruleset().tables}
    inet = tables["inet", "edgeseal"]
    assert set(tables) == {("inet", "edgeseal"), ("arp", "edgeseal")}
    assert {name: (chain.hook, chain.policy, len(chain.rules)) for name, chain in inet.chains.items()} == {
        "known": ("", "", 4),
        "input": ("input", "drop", 15),
        "output": ("output", "accept", 5),
        "uplink": ("", "", 2),
    }
    ports = inet.sets["ports"]
    assert [(each.first[:2].hex(), each.last[:2].hex()) for each in ports.elements] == [
        ("0005", "0009"),
        ("0016", "0016"),
        ("ea60", "ffff"),
    ]
    assert ports.element_text(0) == "5 to 9"
    assert inet.sets["routes"].element_text(0) == "10.1.0.0 . 6 . 443 to 10.1.0.9 . 6 . 445 : goto known"
    assert inet.chains["uplink"].rules[0].text == "socket cgroupv2 level 2 @cg_uplink accept"
