"""CMS signatures for the kernel: one encoding, and nothing else verifies."""

from __future__ import annotations

import pytest
from asn1crypto import cms

from appliance.core.errors import VerificationError
from builder.signing.cms import sign_attached, sign_detached, verify_cms
from builder.signing.roles import Role
from tests.support.effort import positions
from tests.support.keys import keyset

ROOT_HASH = b"0123456789abcdef" * 4
SIGNER = keyset().signer(Role.DB)


def test_a_detached_signature_is_over_the_given_content() -> None:
    der = sign_detached(ROOT_HASH, SIGNER)
    assert verify_cms(der, ROOT_HASH, [keyset().certificate(Role.PCR), SIGNER.certificate]) == ROOT_HASH
    assert ROOT_HASH not in der


def test_an_attached_signature_gives_back_its_content() -> None:
    der = sign_attached(b"policy_name=edgeseal\n", SIGNER)
    assert verify_cms(der, None, [SIGNER.certificate]) == b"policy_name=edgeseal\n"


def test_the_same_input_gives_the_same_bytes() -> None:
    assert sign_detached(ROOT_HASH, SIGNER) == sign_detached(ROOT_HASH, SIGNER)
    assert sign_attached(ROOT_HASH, SIGNER) == sign_attached(ROOT_HASH, SIGNER)


def test_there_is_no_time_and_no_certificate_inside() -> None:
    data = cms.ContentInfo.load(sign_detached(ROOT_HASH, SIGNER))["content"]
    (signer,) = data["signer_infos"]
    assert data["version"].native == "v1"
    assert data["certificates"].native is None
    assert signer["signed_attrs"].native is None
    assert signer["unsigned_attrs"].native is None


@pytest.mark.parametrize("attached", [False, True], ids=["detached", "attached"])
def test_no_byte_can_be_changed(attached: bool) -> None:
    der = sign_attached(ROOT_HASH, SIGNER) if attached else sign_detached(ROOT_HASH, SIGNER)
    for position in positions(len(der)):
        wrong = bytearray(der)
        wrong[position] ^= 1 << position % 8
        with pytest.raises(VerificationError):
            verify_cms(bytes(wrong), None if attached else ROOT_HASH, [SIGNER.certificate])


REFUSED = [
    (b"", ROOT_HASH, Role.DB, "CMS signature: not CMS SignedData"),
    (sign_detached(ROOT_HASH, SIGNER)[:-1], ROOT_HASH, Role.DB, "CMS signature: not CMS SignedData"),
    (sign_detached(ROOT_HASH, SIGNER) + b"\0", ROOT_HASH, Role.DB, "CMS signature: not CMS SignedData"),
    (
        sign_detached(ROOT_HASH, SIGNER),
        ROOT_HASH + b"\n",
        Role.DB,
        "CMS signature: the signature does not verify",
    ),
    (
        sign_detached(ROOT_HASH, SIGNER),
        ROOT_HASH,
        Role.PCR,
        "CMS signature: signed with a key that is not expected here",
    ),
    (
        sign_attached(ROOT_HASH, SIGNER),
        ROOT_HASH,
        Role.DB,
        "CMS signature: not in the one encoding that is accepted",
    ),
    (sign_detached(ROOT_HASH, SIGNER), None, Role.DB, "CMS signature: there is no content inside"),
]


@pytest.mark.parametrize(("der", "content", "role", "message"), REFUSED)
def test_what_is_refused(der: bytes, content: bytes | None, role: Role, message: str) -> None:
    with pytest.raises(VerificationError) as refused:
        verify_cms(der, content, [keyset().certificate(role)])
    assert str(refused.value) == message


def test_another_key_under_the_same_name_is_refused() -> None:
    """Certificates of two development key sets have equal names; the serial number and the key differ."""
    with pytest.raises(VerificationError):
        verify_cms(sign_detached(ROOT_HASH, SIGNER), ROOT_HASH, [keyset("other").certificate(Role.DB)])
