"""The escrowed recovery key of the data partition. Spec: docs/specs/recovery-escrow.md (v1).

Two files in /EFI/edgeseal of the ESP: recovery-UUID.bin, the RSA-OAEP ciphertext, and recovery-UUID.json, which says
what it belongs to. The .bin is written last: an escrow counts when both are there and agree.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

import msgspec

from appliance.core.canonical import canonical_json
from appliance.core.errors import DecodeError, VerificationError
from appliance.formats.device import FrozenStruct, Sha256Hex

RECOVERY_PUBLIC_KEY = "/usr/lib/edgeseal/recovery.pub.pem"
ESCROW_DIRECTORY = "EFI/edgeseal"
LUKS_MAGIC = b"LUKS\xba\xbe"
LUKS_HEADER_BYTES = 4096
_UUID_OFFSET = 168
_UUID_BYTES = 40

VolumeUuid = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(?!\n)$")]


class Escrow(FrozenStruct, frozen=True, kw_only=True):
    """What a ciphertext belongs to.

    volume: UUID of the LUKS header. key_sha256: of the public key's SubjectPublicKeyInfo (DER).
    ciphertext_sha256: of the .bin file. The plain text is the recovery key as systemd-cryptenroll printed it, without
    the newline.
    """

    schema: Literal[1] = 1
    volume: VolumeUuid
    algorithm: Literal["RSA-OAEP-SHA256"] = "RSA-OAEP-SHA256"
    key_sha256: Sha256Hex
    ciphertext_sha256: Sha256Hex


def escrow_names(volume: str) -> tuple[str, str]:
    """File names of (ciphertext, description)."""
    return f"recovery-{volume}.bin", f"recovery-{volume}.json"


def encode_escrow(escrow: Escrow) -> bytes:
    """The canonical bytes of `escrow`."""
    return canonical_json(msgspec.to_builtins(escrow))


def decode_escrow(data: bytes) -> Escrow:
    """Raises DecodeError on anything but the canonical bytes of an Escrow."""
    try:
        escrow = msgspec.json.decode(data, type=Escrow)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DecodeError(f"recovery escrow: {error}") from error
    if encode_escrow(escrow) != data:
        raise DecodeError("recovery escrow: not in canonical form")
    return escrow


def verify_escrow(description: bytes, ciphertext: bytes, *, volume: str) -> Escrow:
    """The escrow, when the two files agree and belong to `volume`. Raises DecodeError, VerificationError."""
    escrow = decode_escrow(description)
    if escrow.volume != volume:
        raise VerificationError(f"recovery escrow: for volume {escrow.volume}, not for {volume}")
    if escrow.ciphertext_sha256 != hashlib.sha256(ciphertext).hexdigest():
        raise VerificationError("recovery escrow: the ciphertext is not the one described")
    return escrow


def luks_uuid(header: bytes) -> str | None:
    """UUID in a LUKS2 header (its first LUKS_HEADER_BYTES); None when it is no LUKS volume. Raises DecodeError."""
    if not header.startswith(LUKS_MAGIC):
        return None
    version = int.from_bytes(header[6:8], "big")
    if version != 2:
        raise DecodeError(f"LUKS header: version {version}, expected 2")
    text = header[_UUID_OFFSET : _UUID_OFFSET + _UUID_BYTES].split(b"\0", 1)[0].decode("ascii", errors="replace")
    try:
        return msgspec.convert(text, VolumeUuid)
    except msgspec.ValidationError as error:
        raise DecodeError(f"LUKS header: `{text}` is not a UUID") from error
