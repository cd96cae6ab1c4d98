"""Encryption to the owner's recovery key: the only module that talks to cryptography."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from appliance.core.errors import DecodeError

MIN_BITS = 3072


@dataclass(frozen=True)
class RecoveryKey:
    """The owner's public key. sha256: of its SubjectPublicKeyInfo (DER), hex."""

    public: rsa.RSAPublicKey
    sha256: str

    def encrypt(self, secret: bytes) -> bytes:
        """RSA-OAEP with SHA-256 in both places and no label."""
        pad = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
        return self.public.encrypt(secret, pad)


def load_recovery_key(pem: bytes) -> RecoveryKey:
    """Raises DecodeError on anything but an RSA public key of MIN_BITS or more."""
    try:
        key = serialization.load_pem_public_key(pem)
    except ValueError as error:
        raise DecodeError("recovery key: not a public key in PEM form") from error
    if not isinstance(key, rsa.RSAPublicKey):
        raise DecodeError("recovery key: not an RSA key")
    if key.key_size < MIN_BITS:
        raise DecodeError(f"recovery key: {key.key_size} bits, at least {MIN_BITS} are needed")
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return RecoveryKey(public=key, sha256=hashlib.sha256(spki).hexdigest())
