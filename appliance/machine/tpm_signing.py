"""A signing key that never leaves the TPM: ECDSA over P-256 (TPM 2.0 Library, parts 2 and 3).

It is a primary key of the owner's hierarchy: the TPM derives it anew at each boot from its own seed and from the
template below, so nothing of it is stored, and it is the same until the TPM is cleared.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from appliance.core.errors import DecodeError
from appliance.machine.tpm import NO_SESSION, OWNER, PASSWORD, SESSION, SHA256, Tpm, by_itself

_CREATE_PRIMARY, _SIGN, _FLUSH = 0x131, 0x15D, 0x165
_ECC, _NULL, _ECDSA, _P256 = 0x0023, 0x0010, 0x0018, 0x0003
# fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, sign
_ATTRIBUTES = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 10 | 1 << 18
_NO_TICKET = struct.pack(">HIH", 0x8024, 0x4000_0007, 0)
_BODY = struct.Struct(">HHIHHHHHH")


@dataclass(frozen=True)
class TpmKey:
    """A key in the TPM. x, y: the public point, 32 bytes each."""

    handle: int
    x: bytes
    y: bytes


def make_key(tpm: Tpm, purpose: str) -> TpmKey:
    """Derive the key for `purpose`; another purpose is another key. Raises TpmRefusalError, DecodeError."""
    salt = hashlib.sha256(purpose.encode()).digest()
    public = _BODY.pack(_ECC, SHA256, _ATTRIBUTES, 0, _NULL, _ECDSA, SHA256, _P256, _NULL)
    public += struct.pack(">H", len(salt)) + salt + struct.pack(">H", 32) + bytes(32)
    body = struct.pack(">I", OWNER) + PASSWORD + struct.pack(">HHH", 4, 0, 0) + struct.pack(">H", len(public)) + public
    answer = tpm.ask("make a key", SESSION, _CREATE_PRIMARY, body + struct.pack(">HI", 0, 0))
    try:
        handle, _, _ = struct.unpack_from(">IIH", answer)
        kind, name, attributes, policy, symmetric, scheme, digest, curve, kdf = _BODY.unpack_from(answer, 10)
        x, after = _sized(answer, 10 + _BODY.size)
        y, _ = _sized(answer, after)
    except struct.error as error:
        raise DecodeError("TPM: the new key is cut short") from error
    if (kind, name, attributes, policy, symmetric, scheme, digest, curve, kdf) != _BODY.unpack_from(public):
        raise DecodeError("TPM: the new key is not what was asked for")
    return TpmKey(handle, x.rjust(32, b"\0"), y.rjust(32, b"\0"))


def sign_digest(tpm: Tpm, key: TpmKey, digest: bytes) -> tuple[int, int]:
    """(r, s) over a SHA-256 digest. Raises TpmRefusalError, DecodeError."""
    body = by_itself(key.handle)[4:] + struct.pack(">H", len(digest)) + digest + struct.pack(">H", _NULL) + _NO_TICKET
    answer = tpm.ask("sign", SESSION, _SIGN, body)
    try:
        _, scheme, used = struct.unpack_from(">IHH", answer)
        r, after = _sized(answer, 8)
        s, _ = _sized(answer, after)
    except struct.error as error:
        raise DecodeError("TPM: the signature is cut short") from error
    if (scheme, used) != (_ECDSA, SHA256):
        raise DecodeError("TPM: the signature is of another kind")
    return int.from_bytes(r, "big"), int.from_bytes(s, "big")


def forget_key(tpm: Tpm, key: TpmKey) -> None:
    """Give the TPM's memory back; `make_key` makes the same key again."""
    tpm.ask("forget a key", NO_SESSION, _FLUSH, struct.pack(">I", key.handle))


def _sized(data: bytes, start: int) -> tuple[bytes, int]:
    """(a value with its length before it, where the next one begins)."""
    (size,) = struct.unpack_from(">H", data, start)
    value = data[start + 2 : start + 2 + size]
    if len(value) != size:
        raise DecodeError("TPM: a number is cut short")
    return value, start + 2 + size
