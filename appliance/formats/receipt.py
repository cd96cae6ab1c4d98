"""The historian's receipt: what it has of one stream. Spec: docs/specs/uplink-envelope.md (v1), section Receipts.

With `delivery: historian` a message leaves the spool only when a receipt names it.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from appliance.core.canonical import canonical_json
from appliance.core.errors import DecodeError
from appliance.formats.device import FrozenStruct
from appliance.formats.uplink_envelope import Epoch, Sequence, Stream
from appliance.formats.verdict import DeviceId

MAX_RECEIPT_BYTES = 4 << 10
MAX_RANGES = 64


class HistorianReceipt(FrozenStruct, frozen=True, kw_only=True):
    """ranges: (first, last), ends included, rising and apart: between two of them at least one number is missing."""

    schema: Literal[1] = 1
    device: DeviceId
    epoch: Epoch
    stream: Stream
    ranges: Annotated[tuple[tuple[Sequence, Sequence], ...], msgspec.Meta(min_length=1, max_length=MAX_RANGES)]


def encode_receipt(receipt: HistorianReceipt) -> bytes:
    """The canonical bytes of `receipt`."""
    return canonical_json(msgspec.to_builtins(receipt))


def decode_receipt(data: bytes) -> HistorianReceipt:
    """Raises DecodeError on anything but the canonical bytes of a HistorianReceipt."""
    if len(data) > MAX_RECEIPT_BYTES:
        raise DecodeError(f"receipt: {len(data)} bytes, at most {MAX_RECEIPT_BYTES} are allowed")
    try:
        receipt = msgspec.json.decode(data, type=HistorianReceipt)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DecodeError(f"receipt: {error}") from error
    _check(receipt.ranges)
    if encode_receipt(receipt) != data:
        raise DecodeError("receipt: not in canonical form")
    return receipt


def _check(ranges: tuple[tuple[int, int], ...]) -> None:
    before = -1
    for first, last in ranges:
        if last < first:
            raise DecodeError(f"receipt: range {first} to {last} ends before it begins")
        if first <= before + 1:
            raise DecodeError(f"receipt: range {first} to {last} touches the one before it, which ends at {before}")
        before = last
