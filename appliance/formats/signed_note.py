"""Signed notes and the keys that verify them. Specs: c2sp.org/signed-note, c2sp.org/tlog-cosignature. Pure.

A note is text, an empty line, and a line per signature: em dash, key's name, base64 of key id and signature. Lines of
keys that nobody here knows are kept and say nothing. Signing and verifying come in as functions.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from appliance.core.errors import DecodeError, VerificationError
from appliance.formats.base64_strict import decode_base64, encode_base64

ED25519, ECDSA, COSIGNATURE = 0x01, 0x02, 0x04
"""Signature types. ECDSA: a curve of NIST, SHA-256 whatever the curve, a DER signature; its key is a DER
SubjectPublicKeyInfo, and its key id is the SHA-256 of that alone. COSIGNATURE: Ed25519 over cosignature/v1."""
MAX_NOTE_BYTES = 256 << 10
MAX_SIGNATURES = 64
KEY_ID_BYTES = 4

_DASH = "\u2014 "
_KEY_BYTES = {ED25519: 32, COSIGNATURE: 32}
_MAX_KEY_BYTES = 1024
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f]")
_TIMESTAMP_BYTES = 8


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One line. signature: what follows the key id; a cosignature begins with its time."""

    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """text: ends in a newline. signatures: in the order of their lines, at least one."""

    text: str
    signatures: tuple[NoteSignature, ...]


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key under a name. kind: ED25519, ECDSA or COSIGNATURE. key: 32 bytes, or a DER SubjectPublicKeyInfo."""

    name: str
    kind: int
    key: bytes

    @property
    def key_id(self) -> bytes:
        """The four bytes that a signature line of this key begins with."""
        data = self.key if self.kind == ECDSA else self.name.encode() + b"\n" + bytes([self.kind]) + self.key
        return hashlib.sha256(data).digest()[:KEY_ID_BYTES]


@dataclass(frozen=True, slots=True)
class Verified:
    """A signature that was verified. timestamp: of a cosignature, in seconds since 1970; None of any other."""

    key: VerifierKey
    timestamp: int | None


@dataclass(frozen=True, slots=True)
class OpenedNote:
    """A note that at least one known key has signed. unknown: lines of other keys, in order."""

    text: str
    verified: tuple[Verified, ...]
    unknown: tuple[NoteSignature, ...]


Check = Callable[[VerifierKey, bytes, bytes], None]
"""(key, signature, message) -> None. Raises VerificationError unless `key` made `signature` over `message`."""

Sign = Callable[[bytes], bytes]
"""message -> raw signature: 64 bytes of Ed25519, or DER of ECDSA with SHA-256."""


def check_name(name: str, what: str) -> str:
    """A key's name: not empty, no Unicode space, no plus, no control character. Raises DecodeError."""
    if not name or "+" in name or _CONTROL.search(name) or any(character.isspace() for character in name):
        raise DecodeError(f"{what}: `{name[:80]}` is no key name")
    return name


def encode_note(note: Note) -> bytes:
    """Raises DecodeError when it would not read back."""
    lines = [f"{_DASH}{line.name} {encode_base64(line.key_id + line.signature)}\n" for line in note.signatures]
    data = f"{note.text}\n{''.join(lines)}".encode()
    if decode_note(data) != note:
        raise DecodeError("note: the text would not read back as it is")
    return data


def decode_note(data: bytes) -> Note:
    """Verifies no signature. Raises DecodeError."""
    if len(data) > MAX_NOTE_BYTES:
        raise DecodeError(f"note: {len(data)} bytes, at most {MAX_NOTE_BYTES} are allowed")
    try:
        whole = data.decode()
    except UnicodeDecodeError as error:
        raise DecodeError("note: not UTF-8") from error
    if _CONTROL.search(whole):
        raise DecodeError("note: a control character")
    text, gap, tail = whole.rpartition("\n\n")
    if not gap:
        raise DecodeError("note: no empty line between text and signatures")
    if not tail:
        raise DecodeError("note: no signature")
    return Note(text=f"{text}\n", signatures=decode_signatures(tail))


def decode_signatures(lines: str) -> tuple[NoteSignature, ...]:
    """Signature lines alone, as a witness answers. Raises DecodeError."""
    if not lines.endswith("\n"):
        raise DecodeError("note: the last line has no newline")
    parts = lines[:-1].split("\n")
    if len(parts) > MAX_SIGNATURES:
        raise DecodeError(f"note: {len(parts)} signatures, at most {MAX_SIGNATURES} are allowed")
    return tuple(_signature(line, number) for number, line in enumerate(parts, 1))


def sign_note(text: str, signers: Iterable[tuple[VerifierKey, Sign]]) -> bytes:
    """A note of `text` with a line of each signer, in order; keys of kind ED25519 or ECDSA."""
    lines = tuple(NoteSignature(key.name, key.key_id, sign(text.encode())) for key, sign in signers)
    return encode_note(Note(text, lines))


def cosign(text: str, key: VerifierKey, sign: Sign, *, timestamp: int) -> NoteSignature:
    """A line of kind COSIGNATURE over a checkpoint's text. timestamp: seconds since 1970, below 2^63."""
    signature = sign(cosigned_message(text, timestamp))
    return NoteSignature(key.name, key.key_id, timestamp.to_bytes(_TIMESTAMP_BYTES, "big") + signature)


def add_signatures(data: bytes, lines: Iterable[NoteSignature]) -> bytes:
    """The note with more lines at its end; a line that it has already is not added. Raises DecodeError."""
    note = decode_note(data)
    new = [line for line in dict.fromkeys(lines) if line not in note.signatures]
    return encode_note(Note(note.text, (*note.signatures, *new)))


def cosigned_message(text: str, timestamp: int) -> bytes:
    """What a cosignature signs."""
    return f"cosignature/v1\ntime {timestamp}\n{text}".encode()


def open_note(data: bytes, keys: Iterable[VerifierKey], check: Check) -> OpenedNote:
    """Verify every signature of a known key.

    Raises DecodeError; VerificationError when a known key's signature is wrong, or no known key signed.
    """
    note = decode_note(data)
    known = {(key.name, key.key_id): key for key in keys}
    verified, unknown = [], []
    for line in note.signatures:
        key = known.get((line.name, line.key_id))
        if key is None:
            unknown.append(line)
        else:
            verified.append(_verify(note.text, key, line, check))
    if not verified:
        raise VerificationError("note: no known key signed it")
    return OpenedNote(note.text, tuple(verified), tuple(unknown))


def encode_vkey(key: VerifierKey) -> str:
    """NAME+ID+KEY: the id in 8 hex digits, the key as base64 of its kind and bytes."""
    return f"{key.name}+{key.key_id.hex()}+{encode_base64(bytes([key.kind]) + key.key)}"


def decode_vkey(text: str) -> VerifierKey:
    """Raises DecodeError on anything that encode_vkey would not have written."""
    name, plus, rest = text.partition("+")
    key_id, second, encoded = rest.partition("+")
    if not (plus and second):
        raise DecodeError("verifier key: not NAME+ID+KEY")
    data = decode_base64(encoded, "verifier key")
    if not data or data[0] not in (ED25519, ECDSA, COSIGNATURE):
        raise DecodeError("verifier key: a signature type that is not known here")
    key = VerifierKey(check_name(name, "verifier key"), data[0], data[1:])
    expected = _KEY_BYTES.get(key.kind, len(key.key))
    if len(key.key) != expected or not 0 < len(key.key) <= _MAX_KEY_BYTES:
        raise DecodeError(f"verifier key: a key of {len(key.key)} bytes")
    if key.key_id.hex() != key_id:
        raise DecodeError(f"verifier key: the id is {key_id[:16]}, the key's is {key.key_id.hex()}")
    return key


def _signature(line: str, number: int) -> NoteSignature:
    what = f"note: signature {number}"
    if not line.startswith(_DASH):
        raise DecodeError(f"{what}: does not begin with a dash and a space")
    name, space, encoded = line[len(_DASH) :].partition(" ")
    if not space:
        raise DecodeError(f"{what}: not a name and a signature")
    data = decode_base64(encoded, what)
    if len(data) <= KEY_ID_BYTES:
        raise DecodeError(f"{what}: {len(data)} bytes, more than {KEY_ID_BYTES} are needed")
    return NoteSignature(check_name(name, what), data[:KEY_ID_BYTES], data[KEY_ID_BYTES:])


def _verify(text: str, key: VerifierKey, line: NoteSignature, check: Check) -> Verified:
    if key.kind != COSIGNATURE:
        check(key, line.signature, text.encode())
        return Verified(key, None)
    timestamp = int.from_bytes(line.signature[:_TIMESTAMP_BYTES], "big")
    if len(line.signature) != _TIMESTAMP_BYTES + 64 or timestamp >= 2**63:
        raise VerificationError(f"note: the cosignature of {key.name} has no valid time")
    check(key, line.signature[_TIMESTAMP_BYTES:], cosigned_message(text, timestamp))
    return Verified(key, timestamp)
