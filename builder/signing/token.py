"""Keys in a PKCS#11 token: a smart card, an HSM, SoftHSM. The only module that uses python-pkcs11."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pkcs11
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key
from pkcs11.util.rsa import encode_rsa_public_key

from appliance.core.errors import EdgesealError, InputError
from builder.signing.certificates import check_signature, public_key_of
from builder.signing.signer import CertifiedSigner


@dataclass(frozen=True)
class TokenKey:
    """Where a key lives.

    module: the PKCS#11 library of the token. token: its label. label: the key's object label.
    """

    module: Path
    token: str
    label: str


class Pkcs11Signer(CertifiedSigner):
    """A private key that never leaves its token.

    The session is opened at once, so that a wrong PIN is told before a build starts, and kept. Raises InputError when
    module, token, PIN or object is wrong, or the key is not the certificate's.
    """

    def __init__(self, certificate: x509.Certificate, key: TokenKey, pin: str) -> None:
        super().__init__(certificate)
        self._where = key
        self._session = open_session(key.module, key.token, pin)
        self._key = _find(self._session, key, pkcs11.ObjectClass.PRIVATE_KEY)
        modulus = int.from_bytes(self._key[pkcs11.Attribute.MODULUS], "big")
        if modulus != public_key_of(certificate).public_numbers().n:
            raise InputError(f"the key {key.label!r} of token {key.token!r} does not belong to its certificate")

    def sign(self, data: bytes) -> bytes:
        """Signature over `data`, checked against the certificate before it is handed out.

        A token that computed wrongly would publish a factor of its key.
        """
        signature = sign_in_token(self._key, self._where, data)
        check_signature(self.certificate, signature, data, what=f"token {self._where.token!r}")
        return signature


def sign_in_token(private_key: Any, where: TokenKey, data: bytes) -> bytes:
    """RSASSA-PKCS1-v1_5 with SHA-256, computed in the token. Raises EdgesealError when it refuses."""
    try:
        return bytes(private_key.sign(data, mechanism=pkcs11.Mechanism.SHA256_RSA_PKCS))
    except pkcs11.exceptions.PKCS11Error as error:
        raise EdgesealError(f"token {where.token!r} refused to sign with {where.label!r}: {_said(error)}") from error


def open_session(module: Path, token: str, pin: str, *, write: bool = False) -> Any:
    """A logged-in session. Raises InputError when the module, the token or the PIN is wrong."""
    try:
        library = pkcs11.lib(str(module))
    except (RuntimeError, pkcs11.exceptions.PKCS11Error) as error:
        raise InputError(f"cannot load the PKCS#11 module {module}: {_said(error)}") from error
    try:
        device = library.get_token(token_label=token)
        try:
            return device.open(user_pin=pin, rw=write)
        except pkcs11.exceptions.UserAlreadyLoggedIn:  # for another key: a login holds for the whole process
            return device.open(rw=write)
    except (pkcs11.exceptions.NoSuchToken, pkcs11.exceptions.MultipleTokensReturned) as error:
        raise InputError(f"the PKCS#11 module {module} has not exactly one token {token!r}") from error
    except (pkcs11.exceptions.PinIncorrect, pkcs11.exceptions.PinLenRange, pkcs11.exceptions.PinInvalid) as error:
        raise InputError(
            f"token {token!r} refuses the PIN", hint="most tokens lock themselves after a few wrong PINs"
        ) from error
    except pkcs11.exceptions.PKCS11Error as error:
        raise InputError(f"cannot open token {token!r}: {_said(error)}") from error


def generate(session: Any, where: TokenKey, bits: int) -> tuple[rsa.RSAPublicKey, Any, tuple[Any, Any]]:
    """Make an RSA key in the token, its private half sensitive and not extractable.

    Gives the public key, the private key's handle, and both handles, for undoing.

    Raises InputError when an object of that label is already there.
    """
    if list(session.get_objects({pkcs11.Attribute.LABEL: where.label})):
        raise InputError(
            f"token {where.token!r} already has an object {where.label!r}", hint="keys are never overwritten"
        )
    public, private = session.generate_keypair(
        pkcs11.KeyType.RSA,
        bits,
        label=where.label,
        id=where.label.encode(),
        store=True,
        private_template={
            pkcs11.Attribute.SENSITIVE: True,
            pkcs11.Attribute.EXTRACTABLE: False,
        },
    )
    return _rsa_public_key(encode_rsa_public_key(public)), private, (public, private)


def _rsa_public_key(pkcs1: bytes) -> rsa.RSAPublicKey:
    key = load_der_public_key(pkcs1)
    if not isinstance(key, rsa.RSAPublicKey):
        raise EdgesealError("the token made a key that is not RSA")
    return key


def _find(session: Any, key: TokenKey, object_class: pkcs11.ObjectClass) -> Any:
    try:
        return session.get_key(object_class=object_class, label=key.label)
    except (pkcs11.exceptions.NoSuchKey, pkcs11.exceptions.MultipleObjectsReturned) as error:
        raise InputError(f"token {key.token!r} has not exactly one private key {key.label!r}") from error


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
