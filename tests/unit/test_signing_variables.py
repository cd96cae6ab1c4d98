"""Secure Boot variables: structures checked field by field, and a variable store without any firmware at hand."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from asn1crypto import cms
from virt.firmware.efi import guids
from virt.firmware.efi.siglist import EfiSigDB

from appliance.core.errors import InputError, VerificationError
from builder.signing.certificates import certificate_der, check_signature
from builder.signing.efivars import (
    ATTRIBUTES,
    GLOBAL_VARIABLE,
    IMAGE_SECURITY_DATABASE,
    OWNER,
    efi_time,
    signature_list,
)
from builder.signing.roles import Role
from builder.signing.variables import enroll, enrollment_files, read_enrolled
from tests.support.keys import MOMENT, keyset


def _blank_store(size: int = 0x10000) -> bytes:
    """An edk2 firmware volume with an empty variable store, as a blank OVMF_VARS is."""
    volume = bytes(16) + UUID(guids.NvData).bytes_le
    volume += struct.pack("<QLLHHHxBLL", size, 0x4856465F, 0, 72, 0, 0, 2, size // 4096, 4096) + bytes(8)
    store = UUID(guids.AuthVars).bytes_le + struct.pack("<LBBHL", size - 72, 0x5A, 0xFE, 0, 0)
    return (volume + store).ljust(size, b"\xff")


BLANK = _blank_store()


def test_exactly_our_certificates_are_enrolled() -> None:
    enrolled = enroll(BLANK, keyset())
    assert len(enrolled) == len(BLANK)
    assert read_enrolled(enrolled) == {
        "PK": [certificate_der(keyset().certificate(Role.PK))],
        "KEK": [certificate_der(keyset().certificate(Role.KEK))],
        "db": [certificate_der(keyset().certificate(Role.DB))],
    }


def test_the_keys_of_a_template_are_dropped() -> None:
    once = enroll(BLANK, keyset("other"))
    assert enroll(once, keyset()) == enroll(BLANK, keyset())


def test_the_same_input_gives_the_same_bytes_from_public_keys_alone() -> None:
    assert enroll(BLANK, keyset()) == enroll(BLANK, keyset().public)


WRONG = [b"", bytes(70_000), BLANK[:200], b"\xff" * 70_000, BLANK.replace(UUID(guids.AuthVars).bytes_le, bytes(16))]


@pytest.mark.parametrize("template", WRONG)
def test_what_is_no_variable_store_is_refused(template: bytes) -> None:
    with pytest.raises(InputError) as refused:
        enroll(template, keyset())
    assert str(refused.value) == "the firmware's variable template holds no variable store"


def test_a_store_that_is_too_small_is_refused() -> None:
    with pytest.raises(InputError, match=r"too small for the keys"):
        enroll(_blank_store(2048), keyset())


def test_a_signature_list_is_read_back_by_another_library() -> None:
    (entry,) = EfiSigDB(signature_list(keyset().certificate(Role.DB)))
    assert str(entry.guid) == guids.EfiCertX509
    assert entry.x509 == keyset().certificate(Role.DB)
    assert entry[0]["guid"] == OWNER


@pytest.mark.parametrize(
    ("name", "vendor", "owner", "held"),
    [
        ("PK", GLOBAL_VARIABLE, Role.PK, Role.PK),
        ("KEK", GLOBAL_VARIABLE, Role.PK, Role.KEK),
        ("db", IMAGE_SECURITY_DATABASE, Role.KEK, Role.DB),
    ],
)
def test_an_update_file_is_signed_by_the_key_above_it(name: str, vendor: UUID, owner: Role, held: Role) -> None:
    data = enrollment_files(keyset())[f"{name}.auth"]
    assert enrollment_files(keyset())[f"{name}.auth"] == data
    (length, revision, kind) = struct.unpack_from("<IHH", data, 16)
    assert (revision, kind, UUID(bytes_le=data[24:40])) == (0x0200, 0x0EF1, UUID(guids.EfiCertPkcs7))
    payload = data[16 + length :]
    assert payload == signature_list(keyset().certificate(held))
    message = name.encode("utf-16-le") + vendor.bytes_le + struct.pack("<I", ATTRIBUTES) + data[:16] + payload
    signed = cms.SignedData.load(data[40 : 16 + length], strict=True)
    (signer,) = signed["signer_infos"]
    assert signed["certificates"][0].chosen.dump() == certificate_der(keyset().certificate(owner))
    signature = signer["signature"].native
    check_signature(keyset().certificate(owner), signature, message, what=name)
    for wrong in (message.replace(payload, b""), b"x" + message[1:]):
        with pytest.raises(VerificationError):
            check_signature(keyset().certificate(owner), signature, wrong, what=name)


def test_the_time_of_an_update_is_when_the_keys_were_made() -> None:
    assert enrollment_files(keyset())["db.auth"][:16] == efi_time(MOMENT)


def test_efi_time_is_utc() -> None:
    moment = datetime(2026, 3, 1, 0, 30, tzinfo=timezone(timedelta(hours=1)))
    assert efi_time(moment) == efi_time(datetime(2026, 2, 28, 23, 30, tzinfo=UTC))
    assert efi_time(moment) == struct.pack("<HBBBBBxIhBx", 2026, 2, 28, 23, 30, 0, 0, 0, 0)
