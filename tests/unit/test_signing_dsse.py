"""DSSE envelopes: one encoding, and nothing else verifies."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from appliance.core.canonical import canonical_json
from appliance.core.errors import VerificationError
from builder.signing.certificates import public_key_of
from builder.signing.dsse import sign_envelope, verify_envelope
from builder.signing.roles import Role
from tests.support.keys import keyset

TYPE = "application/vnd.in-toto+json"
SIGNER = keyset().signer(Role.PROVENANCE)
ENVELOPE = sign_envelope(TYPE, b'{"a":1}\n', SIGNER)


def test_the_payload_comes_back() -> None:
    assert verify_envelope(ENVELOPE, TYPE, [keyset().certificate(Role.DB), SIGNER.certificate]) == b'{"a":1}\n'
    assert sign_envelope(TYPE, b'{"a":1}\n', SIGNER) == ENVELOPE
    assert canonical_json(json.loads(ENVELOPE)) == ENVELOPE


def test_what_is_signed_is_the_pre_authentication_encoding() -> None:
    """The example of the DSSE specification, with our own key."""
    document = json.loads(sign_envelope("http://example.com/HelloWorld", b"hello world", SIGNER))
    public_key_of(SIGNER.certificate).verify(
        base64.b64decode(document["signatures"][0]["sig"]),
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world",
        padding.PKCS1v15(),
        hashes.SHA256(),
    )


def test_no_byte_can_be_changed() -> None:
    for position in range(len(ENVELOPE)):
        wrong = bytearray(ENVELOPE)
        wrong[position] ^= 1 << position % 7
        with pytest.raises(VerificationError):
            verify_envelope(bytes(wrong), TYPE, [SIGNER.certificate])


def _with(**changes: object) -> bytes:
    return canonical_json(json.loads(ENVELOPE) | changes)


_SIGNATURE = json.loads(ENVELOPE)["signatures"][0]

REFUSED = [
    (b"", "DSSE envelope: not an envelope"),
    (b"[]", "DSSE envelope: not an envelope"),
    (b"\xff", "DSSE envelope: not an envelope"),
    (_with(payload=1), "DSSE envelope: not an envelope"),
    (_with(signatures={}), "DSSE envelope: not in the one encoding that is accepted"),
    (_with(signatures=[]), "DSSE envelope: not in the one encoding that is accepted"),
    (_with(extra=1), "DSSE envelope: not in the one encoding that is accepted"),
    (ENVELOPE.replace(b",", b", "), "DSSE envelope: not in the one encoding that is accepted"),
    (
        _with(signatures=[_SIGNATURE, _SIGNATURE | {"keyid": "0" * 64}]),
        "DSSE envelope: not in the one encoding that is accepted",
    ),
    (_with(payloadType="text/plain"), f"DSSE envelope: its payload is text/plain instead of {TYPE}"),
    (_with(payload="e30="), "DSSE envelope: the signature does not verify"),
    (_with(signatures=[_SIGNATURE | {"keyid": "0" * 64}]), "DSSE envelope: the signature does not verify"),
]


@pytest.mark.parametrize(("data", "message"), REFUSED)
def test_what_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(VerificationError) as refused:
        verify_envelope(data, TYPE, [SIGNER.certificate])
    assert str(refused.value) == message


def test_the_wrong_role_and_the_wrong_owner_are_refused() -> None:
    for certificates in ([keyset().certificate(Role.DB)], [keyset("other").certificate(Role.PROVENANCE)], []):
        with pytest.raises(VerificationError):
            verify_envelope(ENVELOPE, TYPE, certificates)
