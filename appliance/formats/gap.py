"""The gap record: messages that will never come, and why. Spec: docs/specs/uplink-envelope.md (v1), section Gaps.

It is the body of kind `gap` in the stream `alarm`. A number that is missing and in no gap record was lost.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from appliance.core.canonical import canonical_json
from appliance.core.errors import DecodeError
from appliance.formats.device import FrozenStruct
from appliance.formats.uplink_envelope import Epoch, Sequence, Stream

MAX_GAP_BYTES = 512

GapReason = Literal["dropped", "expired", "corrupt", "undeliverable"]
"""dropped: the budget was used up and the oldest went. expired: older than the lane allows. corrupt: the spool's file
was damaged. undeliverable: larger than the broker takes."""


class Gap(FrozenStruct, frozen=True, kw_only=True):
    """Sequences first to last of a stream, ends included, will never come.

    epoch: of those messages; it is another than the record's own when a damaged spool was put aside.
    last: null where nobody can tell: everything from first on that has not arrived.
    """

    schema: Literal[1] = 1
    epoch: Epoch
    stream: Stream
    first: Sequence
    last: Sequence | None
    reason: GapReason


def encode_gap(gap: Gap) -> bytes:
    """The canonical bytes of `gap`."""
    return canonical_json(msgspec.to_builtins(gap))


def decode_gap(data: bytes) -> Gap:
    """Raises DecodeError on anything but the canonical bytes of a Gap."""
    if len(data) > MAX_GAP_BYTES:
        raise DecodeError(f"gap: {len(data)} bytes, at most {MAX_GAP_BYTES} are allowed")
    try:
        gap = msgspec.json.decode(data, type=Gap)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DecodeError(f"gap: {error}") from error
    if gap.last is not None and gap.last < gap.first:
        raise DecodeError(f"gap: it ends at {gap.last}, before its first {gap.first}")
    if encode_gap(gap) != data:
        raise DecodeError("gap: not in canonical form")
    return gap
