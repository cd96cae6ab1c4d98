"""The one way to sign: a key that may be a file or live in a token, and the certificate that names it."""

from __future__ import annotations

from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from appliance.core.errors import InputError
from builder.signing.certificates import is_development, keyid_of, public_key_of


class Signer(Protocol):
    """RSASSA-PKCS1-v1_5 with SHA-256: deterministic, and what UEFI, the kernel, TPMs and every token can do."""

    @property
    def certificate(self) -> x509.Certificate:
        """The certificate of the key."""

    @property
    def keyid(self) -> str:
        """sha256 of the DER SubjectPublicKeyInfo, lower-case hex."""

    @property
    def development(self) -> bool:
        """The certificate is marked as a development key."""

    def sign(self, data: bytes) -> bytes:
        """Signature over `data` (the whole message, not its hash). Raises EdgesealError when the key cannot be used."""


class CertifiedSigner:
    """What every Signer knows from its certificate alone."""

    def __init__(self, certificate: x509.Certificate) -> None:
        self._certificate = certificate

    @property
    def certificate(self) -> x509.Certificate:
        """The certificate of the key."""
        return self._certificate

    @property
    def keyid(self) -> str:
        """sha256 of the DER SubjectPublicKeyInfo, lower-case hex."""
        return keyid_of(self._certificate)

    @property
    def development(self) -> bool:
        """The certificate is marked as a development key."""
        return is_development(self._certificate)


class FileSigner(CertifiedSigner):
    """A private key in memory, read from a file by `keyfiles`.

    Raises InputError when the key is not the certificate's.
    """

    def __init__(self, certificate: x509.Certificate, key: rsa.RSAPrivateKey) -> None:
        super().__init__(certificate)
        if key.public_key().public_numbers() != public_key_of(certificate).public_numbers():
            raise InputError("the private key does not belong to its certificate")
        self._key = key

    def sign(self, data: bytes) -> bytes:
        """Signature over `data`."""
        return self._key.sign(data, padding.PKCS1v15(), hashes.SHA256())
