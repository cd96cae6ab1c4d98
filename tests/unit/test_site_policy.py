"""From one policy to the next; windows and time zones as people write them; every refusal with its exact message."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import msgspec
import pytest

from appliance.core.errors import DecodeError, InputError
from appliance.formats.approval import Ring, SitePolicy, UtcOffset, Window
from appliance.update.window import offset_at
from builder.publish.offsets import offset_table, parse_moment
from builder.publish.policy import (
    first_policy,
    next_policy,
    require_ring,
    with_approval,
    with_ring,
    without_approval,
    without_ring,
)
from builder.publish.policywords import policy_words
from builder.publish.windows import parse_window, window_words
from tests.support.update_site import BERLIN, NOW, approval_of, offer_of, policy_of, release

EIGHT = approval_of(offer_of(release(8)))
NINE = approval_of(offer_of(release(9)))
POLICY = policy_of(EIGHT, signed_at=NOW)


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("22:00-04:00", Window(start_min=1320, minutes=360)),
        ("sat,sun 22:00-04:00", Window(days=("sat", "sun"), start_min=1320, minutes=360)),
        ("SUN,Sat 22:00 - 04:00", Window(days=("sat", "sun"), start_min=1320, minutes=360)),
        ("mon-fri 1:00-5:00", Window(days=("mon", "tue", "wed", "thu", "fri"), start_min=60, minutes=240)),
        ("sat-mon,wed 12:00-13:00", Window(days=("mon", "wed", "sat", "sun"), start_min=720, minutes=60)),
        ("00:00-24:00", Window(start_min=0, minutes=1440)),
        ("fri 22:00-mon 04:00", Window(days=("fri",), start_min=1320, minutes=2 * 1440 + 360)),
        ("fri 10:00-fri 10:00", Window(days=("fri",), start_min=600, minutes=7 * 1440)),
        ("sun 23:00-mon 01:00", Window(days=("sun",), start_min=1380, minutes=120)),
    ],
)
def test_a_window(text: str, window: Window) -> None:
    assert parse_window(text) == window
    assert parse_window(window_words(window)) == window


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("", "this is no window", None),
        ("always", "this is no window", None),
        ("22-04", "this is no window", None),
        ("22:00", "this is no window", None),
        ("sat 22:00-04:00 CET", "this is no window", None),
        ("sam 22:00-04:00", "no day `sam`", None),
        ("sat,,sun 22:00-04:00", "no day ``", None),
        ("mon-fir 22:00-04:00", "no day `fir`", None),
        ("22:60-04:00", "no time `22:60`", None),
        ("24:00-04:00", "no time `24:00`", None),
        ("22:00-24:01", "no time `24:01`", None),
        ("22:00-22:00", "it ends when it begins", 'for a whole day write "00:00-24:00"'),
        ("sat,sun 22:00-mon 04:00", "a window that ends on a named day begins on exactly one", None),
        ("22:00-mon 04:00", "a window that ends on a named day begins on exactly one", None),
    ],
)
def test_a_window_that_is_none(text: str, said: str, hint: str | None) -> None:
    with pytest.raises(InputError) as refusal:
        parse_window(text)
    assert str(refusal.value) == f"window {text!r}: {said}"
    usual = 'for example "22:00-04:00", "sat,sun 22:00-04:00", "mon-fri 01:00-05:00" or "fri 22:00-mon 04:00"'
    assert refusal.value.hint == (hint or usual)


@pytest.mark.parametrize(
    "zone", ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Africa/Casablanca"]
)
def test_the_table_says_what_the_zone_says(zone: str) -> None:
    """Against the standard library, every 7 hours and 13 minutes for 15 years."""
    table = offset_table(zone, start=NOW)
    known = ZoneInfo(zone)
    for at in range(NOW, NOW + 15 * 366 * 86_400, 26_000):
        offset = datetime.fromtimestamp(at, UTC).astimezone(known).utcoffset()
        assert offset is not None
        assert offset_at(table, at) == offset.total_seconds(), datetime.fromtimestamp(at, UTC)
    assert table == offset_table(zone, start=NOW), "the same bytes each time"
    assert len(table) <= 32


def test_the_table_of_berlin_changes_when_berlin_does() -> None:
    assert offset_table("Europe/Berlin", start=NOW)[:2] == (
        UtcOffset(since=0, seconds=7200),
        UtcOffset(since=1_792_890_000, seconds=3600),
    )


@pytest.mark.parametrize(
    ("zone", "hint"),
    [
        ("Europe/Berlim", "did you mean `Europe/Berlin`?"),
        ("", "an IANA name, for example Europe/Berlin"),
        ("/etc/passwd", "an IANA name, for example Europe/Berlin"),
        ("../UTC", None),
    ],
)
def test_a_zone_that_is_none(zone: str, hint: str | None) -> None:
    with pytest.raises(InputError) as refusal:
        offset_table(zone, start=NOW)
    assert str(refusal.value) == f"there is no time zone `{zone}`"
    assert hint is None or refusal.value.hint == hint


def test_a_moment() -> None:
    assert parse_moment("2026-07-01T12:00", "Europe/Berlin") == NOW
    assert parse_moment("2026-07-01T10:00Z", "Europe/Berlin") == NOW
    for text in ("tomorrow", "2026-13-01T00:00", ""):
        with pytest.raises(InputError) as refusal:
            parse_moment(text, "UTC")
        assert str(refusal.value) == f"this is no date with a time: {text!r}"


def test_a_new_policy_is_the_next_one() -> None:
    after = next_policy(POLICY, offsets=BERLIN, now=NOW + 5, approvals=with_approval(POLICY, NINE))
    assert (after.sequence, after.signed_at) == (13, NOW + 5)
    assert [(item.version, item.sequence) for item in after.approvals] == [(8, 12), (9, 13)]
    again = next_policy(after, offsets=BERLIN, now=NOW + 6, approvals=with_approval(after, EIGHT))
    assert [(item.version, item.sequence) for item in again.approvals] == [(8, 14), (9, 13)], "8 may be tried again"
    revoked = next_policy(again, offsets=BERLIN, now=NOW + 7, approvals=without_approval(again, 8))
    assert [item.version for item in revoked.approvals] == [9]


def test_a_new_site_approves_nothing_and_has_one_ring() -> None:
    policy = first_policy("plant-4", "label-check", timezone="Europe/Berlin", offsets=BERLIN, now=NOW)
    assert (policy.sequence, policy.mode, policy.approvals) == (1, "approve", ())
    assert policy.rings == (Ring(name="all", percent=100),)


def test_rings_are_replaced_added_and_removed() -> None:
    wide = msgspec.structs.replace(POLICY, rings=with_ring(POLICY, Ring(name="canary", percent=5)))
    assert [ring.name for ring in wide.rings] == ["canary", "hall", "all"]
    assert wide.rings[0].percent == 5
    assert [ring.name for ring in with_ring(POLICY, Ring(name="new", percent=5))] == ["canary", "hall", "all", "new"]
    assert [ring.name for ring in without_ring(POLICY, "hall")] == ["canary", "all"]


def approve(**changes: object) -> Callable[[], object]:
    return lambda: with_approval(POLICY, msgspec.structs.replace(NINE, **changes))


def full() -> SitePolicy:
    """64 approvals."""
    many = tuple(approval_of(offer_of(release(number))) for number in range(100, 164))
    return msgspec.structs.replace(POLICY, approvals=many)


BAD: list[tuple[str, Callable[[], object], str, str | None]] = [
    ("an unknown ring", approve(rings=("halle",)), "label-check has no ring `halle`", "did you mean `hall`?"),
    ("another unknown ring", approve(rings=("x",)), "label-check has no ring `x`", "its rings: canary, hall, all"),
    ("no ring", approve(rings=()), "an approval needs a ring", "--ring, one of: canary, hall, all"),
    (
        "a site that follows its vendor",
        lambda: with_approval(msgspec.structs.replace(POLICY, mode="follow-vendor"), NINE),
        "label-check follows its vendor here: no approval is asked for",
        "edgeseal site policy --mode approve, or --mode hold",
    ),
    (
        "a 65th approval",
        lambda: with_approval(full(), NINE),
        "label-check has 64 approvals, at most 64 are allowed",
        "revoke what no device needs: edgeseal site revoke",
    ),
    (
        "what is not approved",
        lambda: without_approval(POLICY, 9),
        "version 9 of label-check is not approved",
        "approved: 8",
    ),
    (
        "where nothing is approved",
        lambda: without_approval(policy_of(), 9),
        "version 9 of label-check is not approved",
        "approved: none",
    ),
    (
        "a ring in use",
        lambda: without_ring(POLICY, "all"),
        "ring all is named by the approval of 8",
        "revoke, or approve anew",
    ),
    (
        "no such ring",
        lambda: require_ring(policy_of(rings=()), "all"),
        "label-check has no ring `all`",
        "its rings: none",
    ),
    (
        "a clock that is behind",
        lambda: next_policy(POLICY, offsets=BERLIN, now=NOW - 1),
        "this machine's clock says 2026-07-01 09:59:59 UTC, policy 12 was signed at 2026-07-01 10:00:00 UTC",
        "set the clock: the time of a policy is proof of the time on every device",
    ),
    (
        "a ticket that is a story",
        lambda: next_policy(POLICY, offsets=BERLIN, now=NOW, approvals=with_approval(POLICY, story())),
        "site policy: Expected `str` of length <= 200 - at `$.approvals[1].ticket`",
        None,
    ),
    (
        "a ring's name with a space",
        lambda: next_policy(POLICY, offsets=BERLIN, now=NOW, rings=with_ring(POLICY, Ring(name="the hall", percent=1))),
        "site policy: Expected `str` matching regex '^[a-z][a-z0-9-]{0,62}(?!\\\\n)$' - at `$.rings[3].name`",
        None,
    ),
    (
        "101 percent",
        lambda: next_policy(POLICY, offsets=BERLIN, now=NOW, rings=with_ring(POLICY, Ring(name="x", percent=101))),
        "site policy: Expected `int` <= 100 - at `$.rings[3].percent`",
        None,
    ),
    (
        "100,000 names",
        lambda: next_policy(
            POLICY,
            offsets=BERLIN,
            now=NOW,
            rings=with_ring(POLICY, Ring(name="x", devices=tuple(f"press-{number:06}" for number in range(100_000)))),
        ),
        "site policy: 1500837 bytes, at most 1048576 are allowed",
        "name groups or a percentage in the rings, not single devices",
    ),
]


def story() -> object:
    return msgspec.structs.replace(NINE, ticket="x" * 201)


@pytest.mark.parametrize(("act", "said", "hint"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_a_refusal(act: Callable[[], object], said: str, hint: str | None) -> None:
    with pytest.raises((InputError, DecodeError)) as refusal:
        act()
    assert (str(refusal.value), refusal.value.hint) == (said, hint)


def test_the_words() -> None:
    policy = policy_of(
        msgspec.structs.replace(
            EIGHT, windows=(parse_window("sat,sun 22:00-04:00"),), not_before=NOW, rings=("canary",)
        ),
        msgspec.structs.replace(NINE, sequence=3),
        mode="hold",
        time_unknown="install",
        rings=(
            Ring(
                name="canary", devices=tuple(f"press-{number}" for number in range(1, 12)), groups=("lab",), percent=5
            ),
            Ring(name="all"),
        ),
    )
    assert policy_words(policy) == [
        "label-check at site plant-4, policy 12, signed at 2026-07-01 09:00:00 UTC",
        "HOLD: installs nothing",
        "a trial is confirmed only with the broker; a device's plausible clock counts, without one windows are "
        "IGNORED; time zone Europe/Berlin, offsets known until 2026",
        "ring canary: 5 % of all devices, group lab, press-1, press-2, press-3, press-4, press-5, press-6, press-7, "
        "press-8, 3 more devices",
        "ring all: nobody",
        f"+ approves firmware/label-check/8.json, version 8, sha256 {EIGHT.sha256} ({EIGHT.length} bytes) for canary, "
        "in sat,sun 22:00-04:00 Europe/Berlin, from 2026-07-01 12:00 UTC+02:00, ticket CHG-1001, by a.meyer, k.sato, "
        "since policy 12",
        f"approves firmware/label-check/9.json, version 9, sha256 {NINE.sha256} ({NINE.length} bytes) for all, at any "
        "time, ticket CHG-1001, by a.meyer, k.sato, since policy 3",
    ]
