"""The keys that sign checkpoints, and the one module of the audit log with a cryptographic library. See docs/adr/0029.

A private key is a file of 32 bytes (the Ed25519 seed of RFC 8032), mode 0600, on the partition bound to the TPM.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from appliance.core.durable import fsync_directory, write_durable
from appliance.core.errors import EdgesealError, VerificationError
from appliance.formats.signed_note import ED25519, VerifierKey

SEED_BYTES = 32


@dataclass(frozen=True)
class NoteKey:
    """A private key under the name of its signature lines."""

    verifier: VerifierKey
    private: Ed25519PrivateKey

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""
        return self.private.sign(message)


def make_key_file(path: Path) -> None:
    """A new private key at `path`, durable."""
    write_durable(path, Ed25519PrivateKey.generate().private_bytes_raw(), mode=0o600)


def load_key(path: Path, name: str) -> NoteKey:
    """Raises EdgesealError when it is not there or is no key."""
    try:
        seed = path.read_bytes()
    except OSError as error:
        raise EdgesealError(f"cannot read the key {path.name}: {error.strerror}") from error
    if len(seed) != SEED_BYTES or not any(seed):
        raise EdgesealError(f"the key {path.name} is destroyed or damaged: {len(seed)} bytes")
    private = Ed25519PrivateKey.from_private_bytes(seed)
    return NoteKey(VerifierKey(name, ED25519, private.public_key().public_bytes_raw()), private)


def destroy_key_file(path: Path) -> None:
    """Overwrite with zeros, make that durable, then remove. After a cut it can be called again; a missing one is done.

    What the memory under the file system keeps of it is ciphertext of the data partition (docs/adr/0029 says what of).
    """
    if path.exists():
        overwrite_key_file(path)
        path.unlink()
        fsync_directory(path.parent)


def overwrite_key_file(path: Path) -> None:
    """Zeros in the same place."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(descriptor, bytes(SEED_BYTES), 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def p256_public(x: bytes, y: bytes) -> bytes:
    """DER SubjectPublicKeyInfo of a point, 32 bytes each. Raises VerificationError when it is not on the curve."""
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + x + y)
    except ValueError as error:
        raise VerificationError("the TPM's public key is no point of P-256") from error
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def ecdsa_signature(r: int, s: int) -> bytes:
    """DER."""
    return encode_dss_signature(r, s)


def check_ed25519(key: VerifierKey, signature: bytes, message: bytes) -> None:
    """Of signed_note.Check, for the log's own keys. Raises VerificationError."""
    try:
        Ed25519PublicKey.from_public_bytes(key.key).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise VerificationError(f"the signature of {key.name} is wrong") from error
