"""What a site lets its devices install, and when. Spec: docs/specs/approval.md (v1).

One file per product, approvals/PRODUCT.json: a target of the site's TUF repository, so signed by its threshold of
approvers. Canonical JSON. All times are Unix seconds.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from appliance.core.canonical import canonical_json
from appliance.core.errors import DecodeError
from appliance.formats.device import FrozenStruct, Identifier, Sha256Hex

MAX_APPROVALS_BYTES = 1 << 20
DAY_MIN = 24 * 60
MAX_WINDOWS = 32
MAX_OFFSETS = 128
MAX_RINGS = 64
MAX_APPROVALS = 64
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

Seconds = Annotated[int, msgspec.Meta(ge=0, le=2**40)]
Sequence = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
Text = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=200,
        # nothing that moves a terminal's cursor or turns its text round: people read these before they sign
        pattern=r"^[^\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]*\Z",
    ),
]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class UtcOffset(FrozenStruct, frozen=True, kw_only=True):
    """From `since` on, site-local time is UTC plus `seconds`. The first of a table also holds for all time before."""

    since: Seconds
    seconds: Annotated[int, msgspec.Meta(ge=-14 * 3600, le=14 * 3600)]


class Window(FrozenStruct, frozen=True, kw_only=True):
    """A maintenance window: on these days (all, when none is named), from minute `start_min` of the site-local day, for
    `minutes` on the site's wall clock; it may reach into the next day, or week.
    """

    days: tuple[Weekday, ...] = ()
    start_min: Annotated[int, msgspec.Meta(ge=0, le=DAY_MIN - 1)]
    minutes: Annotated[int, msgspec.Meta(ge=1, le=7 * DAY_MIN)]


Offsets = Annotated[tuple[UtcOffset, ...], msgspec.Meta(max_length=MAX_OFFSETS)]
Windows = Annotated[tuple[Window, ...], msgspec.Meta(max_length=MAX_WINDOWS)]


class Ring(FrozenStruct, frozen=True, kw_only=True):
    """Who goes at the same time. A device is in it when it is named, or one of its groups is, or when its stable
    percentile, sha256("SITE/DEVICE")'s first 8 bytes (big-endian) modulo 100, is below `percent`.
    """

    name: Identifier
    devices: tuple[Text, ...] = ()
    groups: tuple[Identifier, ...] = ()
    percent: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0


class Approval(FrozenStruct, frozen=True, kw_only=True):
    """Change control's yes to exactly these bytes.

    sequence: of the policy file that first held it. target, sha256, length: as in the vendor's targets metadata.
    version: of the release, for people; the manifest decides. rings: names of who may install it now.
    windows: none means at any time. not_before, not_after: 0 means no bound.
    """

    sequence: Sequence
    target: Annotated[str, msgspec.Meta(pattern=r"^(firmware|models)/[a-z][a-z0-9_-]{0,62}/[0-9]{1,10}\.json\Z")]
    sha256: Sha256Hex
    length: Annotated[int, msgspec.Meta(ge=1, le=1 << 20)]
    version: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
    rings: tuple[Identifier, ...]
    windows: Windows = ()
    not_before: Seconds = 0
    not_after: Seconds = 0
    ticket: Text
    approvers: tuple[Text, ...]


class SitePolicy(FrozenStruct, frozen=True, kw_only=True):
    """A site's whole word on one product.

    sequence: strictly increasing; a device refuses a smaller one than it has seen. signed_at: when it was signed.
    mode: `approve` installs what an approval names; `follow-vendor` the vendor's latest, in `windows`; `hold` nothing.
    confirm: whether a trial needs the broker (`online`) or not (`offline`) to be confirmed.
    time_unknown: what a device without a trusted clock does with windows and not_after: `wait`, or `install`.
    clock: whether a device's own clock counts for windows and not_after: `machine`, when it is plausible; or `none`.
    timezone: for people; `offsets` is what devices compute with, ascending.
    """

    schema: Literal[1] = 1
    site: Identifier
    product: Identifier
    sequence: Sequence
    signed_at: Seconds
    mode: Literal["approve", "follow-vendor", "hold"]
    confirm: Literal["online", "offline"] = "online"
    time_unknown: Literal["wait", "install"] = "wait"
    clock: Literal["machine", "none"] = "machine"
    timezone: Text = "UTC"
    offsets: Offsets = ()
    windows: Windows = ()
    rings: Annotated[tuple[Ring, ...], msgspec.Meta(max_length=MAX_RINGS)] = ()
    approvals: Annotated[tuple[Approval, ...], msgspec.Meta(max_length=MAX_APPROVALS)] = ()


def policy_path(product: str) -> str:
    """Path of the TUF target in the site's repository."""
    return f"approvals/{product}.json"


def encode_policy(policy: SitePolicy) -> bytes:
    """The canonical bytes. Raises DecodeError when a bound does not hold."""
    data = canonical_json(msgspec.to_builtins(check_policy(policy)))
    if len(data) > MAX_APPROVALS_BYTES:
        raise DecodeError(
            f"site policy: {len(data)} bytes, at most {MAX_APPROVALS_BYTES} are allowed",
            hint="name groups or a percentage in the rings, not single devices",
        )
    return data


def decode_policy(data: bytes) -> SitePolicy:
    """Raises DecodeError on anything but exactly the canonical bytes of a SitePolicy. `data` is trusted already."""
    if len(data) > MAX_APPROVALS_BYTES:
        raise DecodeError(f"site policy: {len(data)} bytes, at most {MAX_APPROVALS_BYTES} are allowed")
    try:
        policy = msgspec.json.decode(data, type=SitePolicy)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DecodeError(f"site policy: {error}") from error
    if encode_policy(policy) != data:
        raise DecodeError("site policy: not in canonical form")
    return policy


def check_policy(policy: SitePolicy) -> SitePolicy:
    """Bounds between fields. Raises DecodeError."""
    names = [ring.name for ring in policy.rings]
    if len(set(names)) != len(names):
        raise DecodeError("site policy: two rings have one name")
    since = [offset.since for offset in policy.offsets]
    if since != sorted(set(since)):
        raise DecodeError("site policy: offsets are not in ascending order")
    targets = [approval.target for approval in policy.approvals]
    if len(set(targets)) != len(targets):
        raise DecodeError("site policy: two approvals of one target")
    for approval in policy.approvals:
        _check_approval(approval, policy, names)
    return policy


def _check_approval(approval: Approval, policy: SitePolicy, rings: list[str]) -> None:
    what = f"site policy: the approval of {approval.target}"
    kind, product, file = approval.target.split("/")
    if kind == "firmware" and product != policy.product:
        raise DecodeError(f"{what} is of another product than {policy.product}")
    if file != f"{approval.version}.json":
        raise DecodeError(f"{what} says version {approval.version}")
    if approval.sequence > policy.sequence:
        raise DecodeError(f"{what} is newer than the policy")
    if unknown := sorted(set(approval.rings) - set(rings)):
        raise DecodeError(f"site policy: no ring `{unknown[0]}`")
    if approval.not_after and approval.not_after < approval.not_before:
        raise DecodeError(f"{what} ends before it begins")
