"""A site's policy: the vectors, every refusal with its exact message, and how many devices a ring may name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.core.errors import DecodeError
from appliance.formats.approval import (
    MAX_APPROVALS_BYTES,
    Ring,
    SitePolicy,
    UtcOffset,
    Window,
    decode_policy,
    encode_policy,
)
from appliance.update.ring import percentile
from appliance.update.window import is_open, next_open
from tests.support.update_site import approval_of, offer_of, policy_of, release

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "approval.json").read_text())
GOOD = VECTORS["policies"][0]["canonical"].encode()
EIGHT = approval_of(offer_of(release(8)))


@pytest.mark.parametrize("vector", VECTORS["policies"])
def test_the_policies(vector: Any) -> None:
    data = vector["canonical"].encode()
    policy = decode_policy(data)
    assert policy == msgspec.convert(vector["value"], SitePolicy)
    assert encode_policy(policy) == data


@pytest.mark.parametrize("vector", VECTORS["percentiles"])
def test_the_percentiles(vector: Any) -> None:
    assert percentile(vector["site"], vector["device"]) == vector["percentile"]
    assert int(vector["digest_begin"], 16) % 100 == vector["percentile"]


@pytest.mark.parametrize("vector", VECTORS["windows"])
def test_the_windows(vector: Any) -> None:
    windows = msgspec.convert(vector["windows"], tuple[Window, ...])
    offsets = msgspec.convert(vector["offsets"], tuple[UtcOffset, ...])
    assert is_open(windows, offsets, vector["instant"]) is vector["open"]
    assert next_open(windows, offsets, vector["instant"]) == vector["next_open"]


def edited(change: Callable[[Any], object]) -> bytes:
    """The first vector, changed, in canonical form."""
    value = json.loads(GOOD)
    change(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def approvals(count: int) -> Callable[[Any], object]:
    """That many approvals, of versions 1 to `count`."""

    def change(value: Any) -> None:
        one = value["approvals"][0]
        value["approvals"] = [
            one | {"version": number, "target": f"firmware/label-check/{number}.json"} for number in range(1, count + 1)
        ]

    return change


PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]*\Z"
BAD: list[tuple[str, bytes, str]] = [
    ("nothing", b"", "Input data was truncated"),
    ("no UTF-8", b"\xff", "JSON is malformed: invalid character (byte 0)"),
    ("white space", GOOD.replace(b'"schema":1', b'"schema": 1'), "not in canonical form"),
    ("no newline", GOOD[:-1], "not in canonical form"),
    ("two newlines", GOOD + b"\n", "not in canonical form"),
    ("a key twice", GOOD.replace(b'"schema":1', b'"schema":1,"schema":1'), "not in canonical form"),
    ("an unknown key", edited(lambda v: v.update(any=1)), "Object contains unknown field `any`"),
    ("no site", edited(lambda v: v.pop("site")), "Object missing required field `site`"),
    (
        "another schema",
        edited(lambda v: v.update(schema=2)),
        "Invalid enum value 2 - at `$.schema`",
    ),
    (
        "a site with a slash",
        edited(lambda v: v.update(site="plant/4")),
        "Expected `str` matching regex '^[a-z][a-z0-9-]{0,62}(?!\\\\n)$' - at `$.site`",
    ),
    ("sequence 0", edited(lambda v: v.update(sequence=0)), "Expected `int` >= 1 - at `$.sequence`"),
    ("another mode", edited(lambda v: v.update(mode="all")), "Invalid enum value 'all' - at `$.mode`"),
    (
        "a window of no length",
        edited(lambda v: v["windows"][0].update(minutes=0)),
        "Expected `int` >= 1 - at `$.windows[0].minutes`",
    ),
    (
        "a window that begins at 24:00",
        edited(lambda v: v["windows"][0].update(start_min=1440)),
        "Expected `int` <= 1439 - at `$.windows[0].start_min`",
    ),
    (
        "an offset of a day",
        edited(lambda v: v["offsets"][0].update(seconds=86_400)),
        "Expected `int` <= 50400 - at `$.offsets[0].seconds`",
    ),
    (
        "33 windows",
        edited(lambda v: v.update(windows=v["windows"] * 33)),
        "Expected `array` of length <= 32 - at `$.windows`",
    ),
    ("65 approvals", edited(approvals(65)), "Expected `array` of length <= 64 - at `$.approvals`"),
    (
        "101 percent",
        edited(lambda v: v["rings"][0].update(percent=101)),
        "Expected `int` <= 100 - at `$.rings[0].percent`",
    ),
    ("two rings of one name", edited(lambda v: v["rings"][1].update(name="canary")), "two rings have one name"),
    (
        "offsets that go back",
        edited(lambda v: v["offsets"].reverse()),
        "offsets are not in ascending order",
    ),
    (
        "offsets at one instant",
        edited(lambda v: v["offsets"][1].update(since=0)),
        "offsets are not in ascending order",
    ),
    (
        "two approvals of one target",
        edited(lambda v: v["approvals"].append(v["approvals"][0])),
        "two approvals of one target",
    ),
    (
        "a target that is no release",
        edited(lambda v: v["approvals"][0].update(target="firmware/label-check/latest.json")),
        "Expected `str` matching regex '^(firmware|models)/[a-z][a-z0-9_-]{0,62}/[0-9]{1,10}\\\\.json\\\\Z' - at "
        "`$.approvals[0].target`",
    ),
    (
        "a target of another product",
        edited(lambda v: v["approvals"][0].update(target="firmware/label-print/8.json")),
        "the approval of firmware/label-print/8.json is of another product than label-check",
    ),
    (
        "another version than the target's",
        edited(lambda v: v["approvals"][0].update(version=9)),
        "the approval of firmware/label-check/8.json says version 9",
    ),
    (
        "an approval from the future",
        edited(lambda v: v["approvals"][0].update(sequence=13)),
        "the approval of firmware/label-check/8.json is newer than the policy",
    ),
    ("an unknown ring", edited(lambda v: v["approvals"][0].update(rings=["nobody"])), "no ring `nobody`"),
    (
        "an end before the beginning",
        edited(lambda v: v["approvals"][0].update(not_after=1)),
        "the approval of firmware/label-check/8.json ends before it begins",
    ),
    (
        "no ticket",
        edited(lambda v: v["approvals"][0].update(ticket="")),
        "Expected `str` of length >= 1 - at `$.approvals[0].ticket`",
    ),
    (
        "a ticket that clears the line",
        edited(lambda v: v["approvals"][0].update(ticket="CHG\x1b[2K")),
        f"Expected `str` matching regex {PRINTABLE!r} - at `$.approvals[0].ticket`",
    ),
    (
        "a ticket with a newline at its end",
        edited(lambda v: v["approvals"][0].update(ticket="CHG\n")),
        f"Expected `str` matching regex {PRINTABLE!r} - at `$.approvals[0].ticket`",
    ),
    (
        "a target with a newline at its end",
        edited(lambda v: v["approvals"][0].update(target="firmware/label-check/8.json\n")),
        "Expected `str` matching regex '^(firmware|models)/[a-z][a-z0-9_-]{0,62}/[0-9]{1,10}\\\\.json\\\\Z' - at "
        "`$.approvals[0].target`",
    ),
    (
        "too long",
        GOOD + b" " * MAX_APPROVALS_BYTES,
        f"{len(GOOD) + MAX_APPROVALS_BYTES} bytes, at most 1048576 are allowed",
    ),
]


@pytest.mark.parametrize(("data", "said"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_a_refusal(data: bytes, said: str) -> None:
    with pytest.raises(DecodeError) as refusal:
        decode_policy(data)
    assert str(refusal.value) == f"site policy: {said}"


def test_64_approvals_are_a_policy() -> None:
    assert len(decode_policy(edited(approvals(64))).approvals) == 64


def test_100_000_devices_by_name_are_refused_and_what_to_do_instead() -> None:
    ring = Ring(name="all", devices=tuple(f"press-{number:06}" for number in range(100_000)))
    with pytest.raises(DecodeError) as refusal:
        encode_policy(policy_of(EIGHT, rings=(ring,)))
    assert str(refusal.value) == "site policy: 1500660 bytes, at most 1048576 are allowed"
    assert refusal.value.hint == "name groups or a percentage in the rings, not single devices"


def test_100_000_devices_by_percent_and_group_are_a_small_file() -> None:
    rings = (Ring(name="canary", devices=tuple(f"press-{n:06}" for n in range(20))), Ring(name="tenth", percent=10))
    policy = policy_of(msgspec.structs.replace(EIGHT, rings=("canary", "tenth")), rings=rings)
    data = encode_policy(policy)
    assert len(data) < 2048
    share = sum(percentile(policy.site, f"press-{number:06}") < 10 for number in range(100_000))
    assert 9_600 <= share <= 10_400, "a tenth of 100,000: mean 10,000, sigma 95"


def test_how_many_names_fit() -> None:
    """64,000 names of 13 characters: documented in docs/specs/approval.md."""
    ring = Ring(name="all", devices=tuple(f"press-{number:07}" for number in range(64_000)))
    assert decode_policy(encode_policy(policy_of(EIGHT, rings=(ring,)))).rings == (ring,)
