"""Repository keys in a PKCS#11 token, for securesystemslib: RSA (PKCS #1 v1.5, SHA-256) and ECDSA (P-256, P-384).

Why not securesystemslib's own HSMSigner: docs/adr/0016-key-ceremony.md.
"""

from __future__ import annotations

import hashlib
from typing import Any

import pkcs11
from cryptography.hazmat.primitives.serialization import load_der_public_key
from pkcs11.util.ec import encode_ec_public_key, encode_ecdsa_signature
from pkcs11.util.rsa import encode_rsa_public_key
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Key, SecretsHandler, Signature, Signer, SSlibKey

from appliance.core.errors import EdgesealError, InputError, VerificationError
from builder.signing.token import TokenKey, open_session, sign_in_token

_RSA_SCHEME = "rsa-pkcs1v15-sha256"


class TokenSigner(Signer):
    """A key that never leaves its token. The session is opened at once, so that a wrong PIN is told early.

    Raises InputError when module, token, PIN or object is wrong, or the key is not the described one.
    """

    def __init__(self, public_key: SSlibKey, where: TokenKey, pin: str) -> None:
        self._public_key = public_key
        self._where = where
        session = open_session(where.module, where.token, pin)
        if public_key_in(session, where).keyid != public_key.keyid:
            raise InputError(f"the key {where.label!r} of token {where.token!r} does not belong to its description")
        self._key = _find(session, where, pkcs11.ObjectClass.PRIVATE_KEY)

    @property
    def public_key(self) -> Key:
        """As it stands in metadata."""
        return self._public_key

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> TokenSigner:
        """Not how our keys are named: builder/publish/keys.py opens them."""
        raise InputError("a token's key is named by its description, not by an address")

    def sign(self, payload: bytes) -> Signature:
        """Checked before it is handed out: a token that computed wrongly would publish a factor of its key."""
        if self._public_key.scheme == _RSA_SCHEME:
            raw = sign_in_token(self._key, self._where, payload)
        else:
            raw = self._ecdsa(payload)
        signature = Signature(self._public_key.keyid, raw.hex())
        try:
            self._public_key.verify_signature(signature, payload)
        except UnverifiedSignatureError as error:
            raise VerificationError(f"token {self._where.token!r}: the signature does not verify") from error
        return signature

    def _ecdsa(self, payload: bytes) -> bytes:
        digest = hashlib.new(f"sha{self._public_key.scheme[-3:]}", payload).digest()
        try:
            return bytes(encode_ecdsa_signature(self._key.sign(digest, mechanism=pkcs11.Mechanism.ECDSA)))
        except pkcs11.exceptions.PKCS11Error as error:
            where, said = self._where, str(error) or type(error).__name__
            raise EdgesealError(f"token {where.token!r} refused to sign with {where.label!r}: {said}") from error


def public_key_in(session: Any, where: TokenKey) -> SSlibKey:
    """The public half of a key in a token. Raises InputError when it is not there or of another kind."""
    public = _find(session, where, pkcs11.ObjectClass.PUBLIC_KEY)
    try:
        if public.key_type is pkcs11.KeyType.RSA:
            return SSlibKey.from_crypto(load_der_public_key(encode_rsa_public_key(public)), scheme=_RSA_SCHEME)
        return SSlibKey.from_crypto(load_der_public_key(encode_ec_public_key(public)))
    except (ValueError, pkcs11.exceptions.PKCS11Error) as error:
        raise InputError(f"the key {where.label!r} of token {where.token!r} is neither RSA nor ECDSA") from error


def _find(session: Any, where: TokenKey, object_class: pkcs11.ObjectClass) -> Any:
    try:
        return session.get_key(object_class=object_class, label=where.label)
    except (pkcs11.exceptions.NoSuchKey, pkcs11.exceptions.MultipleObjectsReturned) as error:
        kind = "private" if object_class is pkcs11.ObjectClass.PRIVATE_KEY else "public"
        raise InputError(f"token {where.token!r} has not exactly one {kind} key {where.label!r}") from error
