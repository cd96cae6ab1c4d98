"""Authenticode: deterministic, reversible, and no byte of a signed image can change."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable

import pefile
import pytest
from asn1crypto import cms

from appliance.core.errors import DecodeError, InputError, VerificationError
from builder.signing.authenticode import pe_digest, sign_pe, unsigned_pe, verify_pe
from builder.signing.pe import parse_pe, pe_sections, with_checksum
from builder.signing.roles import Role
from tests.support.effort import positions
from tests.support.keys import keyset
from tests.support.pe import tiny_pe

SIGNER = keyset().signer(Role.DB)
IMAGE = tiny_pe({".text": b"code" * 50, ".cmdline": b"quiet"})
SIGNED = sign_pe(IMAGE, SIGNER)


def test_a_signed_image_verifies_with_its_key_only() -> None:
    verify_pe(SIGNED, [SIGNER.certificate])
    verify_pe(SIGNED, [keyset("other").certificate(Role.DB), SIGNER.certificate])
    for certificate in (keyset("other").certificate(Role.DB), keyset().certificate(Role.PCR)):
        with pytest.raises(VerificationError, match=r"signed with a key that is not expected here"):
            verify_pe(SIGNED, [certificate])
    with pytest.raises(VerificationError):
        verify_pe(SIGNED, [])


def test_the_same_input_gives_the_same_bytes() -> None:
    assert sign_pe(IMAGE, SIGNER) == SIGNED


def test_the_signature_states_no_time() -> None:
    image = parse_pe(SIGNED)
    (signer,) = cms.ContentInfo.load(SIGNED[image.table + 8 :])["content"]["signer_infos"]
    assert [attribute["type"].native for attribute in signer["signed_attrs"]] == ["content_type", "message_digest"]
    assert signer["unsigned_attrs"].native is None


@pytest.mark.parametrize("tail", range(9))
def test_stripping_gives_what_signs_to_the_same_bytes(tail: int) -> None:
    signed = sign_pe(tiny_pe({".text": b"x"}, tail=b"t" * tail), SIGNER)
    assert len(signed) % 8 == 0
    verify_pe(signed, [SIGNER.certificate])
    stripped = unsigned_pe(signed)
    assert parse_pe(stripped).table_size == 0
    assert sign_pe(stripped, SIGNER) == signed
    assert unsigned_pe(stripped) == stripped
    assert pe_digest(stripped) == pe_digest(signed)


def test_another_library_reads_the_same() -> None:
    image = pefile.PE(data=SIGNED)
    assert image.verify_checksum()
    entry = image.OPTIONAL_HEADER.DATA_DIRECTORY[4]
    assert entry.VirtualAddress + entry.Size == len(SIGNED)
    assert pe_sections(SIGNED) == {".text": b"code" * 50, ".cmdline": b"quiet"}


def test_the_digest_leaves_out_what_signing_changes_and_nothing_else() -> None:
    parsed = parse_pe(IMAGE)
    kept = IMAGE[: parsed.checksum] + IMAGE[parsed.checksum + 4 : parsed.directory] + IMAGE[parsed.directory + 8 :]
    assert pe_digest(IMAGE) == hashlib.sha256(kept).digest() == pe_digest(SIGNED)


def test_no_byte_of_a_signed_image_can_change() -> None:
    for position in positions(len(SIGNED)):
        wrong = bytearray(SIGNED)
        wrong[position] ^= 1 << position % 8
        with pytest.raises((VerificationError, DecodeError)):
            verify_pe(bytes(wrong), [SIGNER.certificate])


def test_a_changed_image_with_a_repaired_checksum_is_refused() -> None:
    wrong = bytearray(SIGNED)
    wrong[IMAGE.index(b"quiet")] ^= 1
    with pytest.raises(VerificationError, match=r"the signature does not verify"):
        verify_pe(with_checksum(wrong, parse_pe(SIGNED).checksum), [SIGNER.certificate])


def test_a_signature_moved_to_another_image_is_refused() -> None:
    other = tiny_pe({".text": b"evil" * 50, ".cmdline": b"quiet"})
    moved = bytearray(other + SIGNED[len(IMAGE) :])
    directory = parse_pe(SIGNED).directory
    moved[directory : directory + 8] = SIGNED[directory : directory + 8]
    with pytest.raises(VerificationError, match=r"the signature does not verify"):
        verify_pe(with_checksum(moved, parse_pe(SIGNED).checksum), [SIGNER.certificate])


def test_an_unsigned_image_is_refused_and_a_signed_one_is_not_signed_again() -> None:
    with pytest.raises(VerificationError, match=r"^PE image: it is not signed$"):
        verify_pe(IMAGE, [SIGNER.certificate])
    with pytest.raises(InputError, match=r"^PE image: it is signed already$"):
        sign_pe(SIGNED, SIGNER)


def _put(form: str, offset: int, *values: int) -> Callable[[bytearray], None]:
    return lambda data: struct.pack_into(form, data, offset, *values)


_OPTIONAL = 0x40 + 24
_FIRST_SECTION = _OPTIONAL + 240

WRONG: list[tuple[Callable[[bytearray], object], str]] = [
    (_put("<2s", 0, b"ZM"), "PE image: no MZ header"),  # type: ignore[arg-type]
    (_put("<I", 0x3C, 4), "PE image: no PE header"),
    (_put("<I", 0x3C, 1 << 30), "PE image: no PE header"),
    (lambda data: data.__delitem__(slice(0x50, None)), "PE image: it ends inside its headers"),
    (_put("<H", _OPTIONAL, 0x10B), "PE image: optional header 0x010b instead of PE32+"),
    (_put("<I", _OPTIONAL + 108, 4), "PE image: no place for a certificate table"),
    (_put("<H", 0x40 + 20, 112), "PE image: no place for a certificate table"),
    (_put("<I", _OPTIONAL + 60, 256), "PE image: the section table is longer than the headers"),
    (_put("<I", _FIRST_SECTION + 20, 1024), "PE image: a section starts at 0x400 instead of 0x200"),
    (_put("<I", _FIRST_SECTION + 16, 1024), "PE image: a section starts at 0x400 instead of 0x600"),
    (lambda data: data.__delitem__(slice(1100, None)), "PE image: a section ends after the file"),
    (_put("<II", _OPTIONAL + 144, 1536, 8), "PE image: the certificate table is not at its end"),
    (_put("<II", _OPTIONAL + 144, 512, 1024), "PE image: the certificate table is not at its end"),
]


@pytest.mark.parametrize(("change", "message"), WRONG, ids=[str(number) for number in range(len(WRONG))])
def test_images_on_which_verifiers_could_disagree_are_refused(
    change: Callable[[bytearray], object], message: str
) -> None:
    data = bytearray(IMAGE)
    change(data)
    with pytest.raises(DecodeError) as refused:
        sign_pe(bytes(data), SIGNER)
    assert str(refused.value) == message


def test_sections_are_read_as_they_are_in_memory() -> None:
    image = tiny_pe({".a": b"abc", ".bss": b"xy"}, memory={".a": 2, ".bss": 600})
    assert pe_sections(image) == {".a": b"ab", ".bss": b"xy".ljust(600, b"\0")}


def test_of_two_sections_with_one_name_the_first_counts() -> None:
    image = tiny_pe({".a": b"first", ".b": b"second"}).replace(b".b\0", b".a\0")
    assert pe_sections(image) == {".a": b"first"}
