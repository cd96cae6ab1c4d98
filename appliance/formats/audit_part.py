"""A stretch of the audit log on its way off the device. Spec: docs/specs/audit-log.md (v2), section Parts. Pure.

A receiver that has the log up to `previous` adds the parts of one checkpoint in order of `start`; the last one (start +
entries == size) completes it. Nothing here is believed before the note is verified and the tree is rebuilt.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from appliance.core.errors import DecodeError
from appliance.formats.audit_event import WholeNumber
from appliance.formats.audit_log import MAX_ENTRY_BYTES
from appliance.formats.checkpoint import MAX_ORIGIN, Checkpoint, decode_checkpoint
from appliance.formats.device import FrozenStruct
from appliance.formats.merkle import HASH_BYTES
from appliance.formats.signed_note import decode_note
from appliance.formats.verdict import DeviceId

MAX_PART_BYTES = 48 << 10
MAX_CHECKPOINT_BYTES = 8 << 10
MAX_PROOF_HASHES = 63

Entry = Annotated[bytes, msgspec.Meta(max_length=MAX_ENTRY_BYTES)]
Hash = Annotated[bytes, msgspec.Meta(min_length=HASH_BYTES, max_length=HASH_BYTES)]


class AuditPart(FrozenStruct, frozen=True, kw_only=True):
    """Entries from `start` on; may be none.

    size, checkpoint: the signed note that they lead up to. previous: size of the checkpoint that was sent before it.
    consistency: proof from there, empty when `previous` is 0 or `size`. Bytes are base64 in JSON.
    """

    schema: Literal[1] = 1
    device: DeviceId
    origin: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ORIGIN)]
    start: WholeNumber
    entries: Annotated[tuple[Entry, ...], msgspec.Meta(max_length=4096)]
    size: WholeNumber
    checkpoint: Annotated[str, msgspec.Meta(max_length=MAX_CHECKPOINT_BYTES)]
    consistency: Annotated[tuple[Hash, ...], msgspec.Meta(max_length=MAX_PROOF_HASHES)] = ()
    previous: WholeNumber

    @property
    def end(self) -> int:
        """Index after the last entry."""
        return self.start + len(self.entries)

    @property
    def is_last(self) -> bool:
        """It completes its checkpoint."""
        return self.end == self.size


_ENCODER = msgspec.json.Encoder(order="sorted")
_DECODER = msgspec.json.Decoder(AuditPart)


def encode_part(part: AuditPart) -> bytes:
    """The canonical bytes, final newline included. Raises DecodeError when a bound does not hold."""
    check_part(part)
    data = _ENCODER.encode(part) + b"\n"
    if len(data) > MAX_PART_BYTES:
        raise DecodeError(f"audit part: {len(data)} bytes, at most {MAX_PART_BYTES} are allowed")
    return data


def decode_part(data: bytes) -> AuditPart:
    """Raises DecodeError on anything but the canonical bytes of an AuditPart."""
    if len(data) > MAX_PART_BYTES:
        raise DecodeError(f"audit part: {len(data)} bytes, at most {MAX_PART_BYTES} are allowed")
    try:
        part = _DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DecodeError(f"audit part: {error}") from error
    if encode_part(part) != data:
        raise DecodeError("audit part: not in canonical form")
    return part


def check_part(part: AuditPart) -> Checkpoint:
    """The bounds between fields. Returns its checkpoint, whose signatures nobody has verified. Raises DecodeError."""
    if part.previous > part.size:
        raise DecodeError("audit part: previous is above size")
    if part.end > part.size:
        raise DecodeError("audit part: entries beyond size")
    if part.consistency and part.previous in (0, part.size):
        raise DecodeError("audit part: a proof where none is needed")
    checkpoint = decode_checkpoint(decode_note(part.checkpoint.encode()).text)
    if (checkpoint.origin, checkpoint.size) != (part.origin, part.size):
        raise DecodeError("audit part: the checkpoint is not the one of origin and size")
    return checkpoint


def room_for(part: AuditPart) -> int:
    """Bytes of entries, each with its base64 and its comma, that still fit in a part like this one."""
    return MAX_PART_BYTES - len(_ENCODER.encode(part)) - 1


def cost_of(entry: bytes) -> int:
    """What an entry takes of room_for."""
    return (len(entry) + 2) // 3 * 4 + 3
