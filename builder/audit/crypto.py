"""The cryptography of the reviewer's side: checks signatures of notes, and holds the key of a witness."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from appliance.core.durable import write_durable
from appliance.core.errors import DecodeError, InputError, Place, VerificationError
from appliance.formats.base64_strict import decode_base64, encode_base64
from appliance.formats.signed_note import COSIGNATURE, ECDSA, NoteSignature, VerifierKey, check_name, cosign

_PREFIX = "PRIVATE+KEY+"


@dataclass(frozen=True)
class WitnessKey:
    """A private key of kind COSIGNATURE."""

    verifier: VerifierKey
    private: Ed25519PrivateKey

    def cosign(self, text: str, *, timestamp: int) -> NoteSignature:
        """cosignature/v1 over a checkpoint's text. timestamp: Unix seconds."""
        return cosign(text, self.verifier, self.private.sign, timestamp=timestamp)


def check_signature(key: VerifierKey, signature: bytes, message: bytes) -> None:
    """Raises VerificationError unless `key` made `signature` over `message` (signed_note.Check)."""
    try:
        if key.kind == ECDSA:
            public = load_der_public_key(key.key)
            if not isinstance(public, ec.EllipticCurvePublicKey):
                raise VerificationError(f"the key {key.name} is not one of ECDSA")
            public.verify(signature, message, ec.ECDSA(hashes.SHA256()))
        else:
            Ed25519PublicKey.from_public_bytes(key.key).verify(signature, message)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError) as error:
        raise VerificationError(f"the signature of {key.name}+{key.key_id.hex()} is wrong") from error


def make_witness_key(path: Path, name: str) -> WitnessKey:
    """A new key at `path`, mode 0600, as PRIVATE+KEY+NAME+ID+KEY. Raises InputError when something stands there."""
    if path.exists():
        raise InputError("there is a file already", place=Place(str(path)), hint="a key is never overwritten")
    key = _witness_key(check_name(name, "witness"), Ed25519PrivateKey.generate())
    secret = encode_base64(bytes([COSIGNATURE]) + key.private.private_bytes_raw())
    text = f"{_PREFIX}{name}+{key.verifier.key_id.hex()}+{secret}\n"
    write_durable(path, text.encode(), mode=0o600)
    return key


def load_witness_key(path: Path) -> WitnessKey:
    """Raises InputError."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        hint = "make one: edgeseal audit witness key --name NAME --out FILE"
        raise InputError(f"cannot read the witness's key: {reason}", place=Place(str(path)), hint=hint) from error
    parts = text.strip().removeprefix(_PREFIX).split("+", 2)  # a name has no plus, base64 may
    if not text.startswith(_PREFIX) or len(parts) != 3:
        raise InputError("not a key of a witness: PRIVATE+KEY+NAME+ID+KEY", place=Place(str(path)))
    name, key_id, encoded = parts
    try:
        data = decode_base64(encoded, "witness key")
        check_name(name, "witness key")
    except DecodeError as error:
        raise InputError(error.message, place=Place(str(path))) from error
    if len(data) != 33 or data[0] != COSIGNATURE:
        raise InputError("witness key: not an Ed25519 key for cosignatures (type 0x04)", place=Place(str(path)))
    key = _witness_key(name, Ed25519PrivateKey.from_private_bytes(data[1:]))
    if key.verifier.key_id.hex() != key_id:
        raise InputError("witness key: the id is not the key's", place=Place(str(path)))
    return key


def _witness_key(name: str, private: Ed25519PrivateKey) -> WitnessKey:
    return WitnessKey(VerifierKey(name, COSIGNATURE, private.public_key().public_bytes_raw()), private)
