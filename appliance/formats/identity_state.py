"""When the device's certificate came into use, in its own time; a file of the uplink that no other program reads."""

from __future__ import annotations

import msgspec

from appliance.core.canonical import canonical_json
from appliance.core.errors import DecodeError


class RenewedAt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """boot_id: 32 hex digits. monotonic_us: since that boot."""

    boot_id: str
    monotonic_us: int


def encode_renewed_at(renewed: RenewedAt) -> bytes:
    """Canonical bytes."""
    return canonical_json(msgspec.to_builtins(renewed))


def decode_renewed_at(data: bytes) -> RenewedAt:
    """Raises DecodeError on any other shape."""
    try:
        return msgspec.json.decode(data, type=RenewedAt)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DecodeError(f"renewed.json: {error}") from error
