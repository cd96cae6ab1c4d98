"""Keys in a token, with the token's answers made here: how a signature is asked for, encoded and checked.

A real PKCS#11 module is asked in tests/integration/test_repo_token.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pkcs11
import pytest
from asn1crypto.core import OctetString
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pkcs11.util.ec import encode_named_curve_parameters
from securesystemslib.signer import SSlibKey

from appliance.core.errors import EdgesealError, InputError, VerificationError
from builder.publish import tokens
from builder.publish.keys import Keyring, describe_key, open_signer, read_key
from builder.publish.tokens import TokenSigner, public_key_in
from builder.signing.descriptor import Pkcs11Key, Secret
from builder.signing.token import TokenKey
from tests.support.keys import used_key

WHERE = TokenKey(Path("/token.so"), "vendor", "anna")
_CURVES: dict[str, tuple[Any, Any, int]] = {
    "secp256r1": (ec.SECP256R1(), SHA256(), 32),
    "secp384r1": (ec.SECP384R1(), SHA384(), 48),
}


@dataclass
class Object:
    """A key object as python-pkcs11 shows it."""

    key: Any
    curve: str | None
    wrong: bool = False
    refuses: bool = False

    @property
    def key_type(self) -> pkcs11.KeyType:
        return pkcs11.KeyType.EC if self.curve else pkcs11.KeyType.RSA

    def __getitem__(self, attribute: pkcs11.Attribute) -> Any:
        public = self.key.public_key()
        if self.curve:
            point = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
            return {
                pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters(self.curve),
                pkcs11.Attribute.EC_POINT: OctetString(point).dump(),
            }[attribute]
        numbers = public.public_numbers()
        found = {pkcs11.Attribute.MODULUS: numbers.n, pkcs11.Attribute.PUBLIC_EXPONENT: numbers.e}[attribute]
        return found.to_bytes((found.bit_length() + 7) // 8, "big")

    def sign(self, data: bytes, *, mechanism: pkcs11.Mechanism) -> bytes:
        if self.refuses:
            raise pkcs11.exceptions.DeviceError
        if self.wrong:
            return bytes(64)
        if self.curve:
            assert mechanism is pkcs11.Mechanism.ECDSA
            _, algorithm, size = _CURVES[self.curve]
            r, s = decode_dss_signature(self.key.sign(data, ec.ECDSA(Prehashed(algorithm))))
            return bytes(r.to_bytes(size, "big") + s.to_bytes(size, "big"))
        assert mechanism is pkcs11.Mechanism.SHA256_RSA_PKCS
        return bytes(self.key.sign(data, padding.PKCS1v15(), SHA256()))


@dataclass
class Session:
    """A session in which one key is."""

    object: Object
    label: str = "anna"

    def get_key(self, *, object_class: pkcs11.ObjectClass, label: str) -> Object:
        if label != self.label:
            raise pkcs11.exceptions.NoSuchKey
        return self.object


def _session(kind: str) -> Session:
    if kind == "rsa":
        return Session(Object(used_key(65537, 2048), None))
    return Session(Object(ec.generate_private_key(_CURVES[kind][0]), kind))


def _open(monkeypatch: pytest.MonkeyPatch, session: Session) -> None:
    monkeypatch.setattr(tokens, "open_session", lambda module, token, pin: session)


SCHEMES = [("rsa", "rsa-pkcs1v15-sha256"), ("secp256r1", "ecdsa-sha2-nistp256"), ("secp384r1", "ecdsa-sha2-nistp384")]


@pytest.mark.parametrize(("kind", "scheme"), SCHEMES)
def test_a_key_in_a_token_signs(kind: str, scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = _session(kind)
    _open(monkeypatch, session)
    private = Pkcs11Key(module="/token.so", token="vendor", label="anna", pin=Secret(environment="PIN"))
    public = public_key_in(session, WHERE)
    described = describe_key(tmp_path / "anna.json", public, holder="anna", development=False, private=private)
    assert described.key.scheme == scheme
    signer = open_signer(described, environment={"PIN": "1234"})
    read_key(tmp_path / "anna.json").key.verify_signature(signer.sign(b"metadata"), b"metadata")
    assert len(Keyring(tmp_path, environment={"PIN": "1234"}).signers([public])) == 1


def test_another_key_than_the_described_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    described = public_key_in(_session("secp256r1"), WHERE)
    _open(monkeypatch, _session("secp256r1"))
    with pytest.raises(InputError) as refused:
        TokenSigner(described, WHERE, "1234")
    assert str(refused.value) == "the key 'anna' of token 'vendor' does not belong to its description"


def test_no_such_key(monkeypatch: pytest.MonkeyPatch) -> None:
    session = _session("rsa")
    described: SSlibKey = public_key_in(session, WHERE)
    session.label = "bob"
    _open(monkeypatch, session)
    with pytest.raises(InputError) as refused:
        TokenSigner(described, WHERE, "1234")
    assert str(refused.value) == "token 'vendor' has not exactly one public key 'anna'"


@pytest.mark.parametrize("kind", ["rsa", "secp256r1"])
def test_a_token_that_computes_wrongly_or_refuses(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    session = _session(kind)
    _open(monkeypatch, session)
    signer = TokenSigner(public_key_in(session, WHERE), WHERE, "1234")
    session.object.wrong = True
    with pytest.raises(VerificationError) as wrong:
        signer.sign(b"x")
    assert str(wrong.value) == "token 'vendor': the signature does not verify"
    session.object.refuses = True
    with pytest.raises(EdgesealError) as refused:
        signer.sign(b"x")
    assert str(refused.value) == "token 'vendor' refused to sign with 'anna': DeviceError"
