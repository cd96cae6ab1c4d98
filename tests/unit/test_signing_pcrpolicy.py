"""PCR 11: the arithmetic against values that systemd-measure 257 and a TPM specification example give."""

from __future__ import annotations

import base64
import json

import pytest

from appliance.core.errors import InputError, VerificationError
from builder.signing.pcrpolicy import (
    MEASURED_SECTIONS,
    PHASE_DATA,
    measure_uki,
    pcr_policy_digest,
    pcr_public_key,
    pcr_signature,
    verify_pcr_policy,
)
from builder.signing.roles import Role
from tests.support.keys import keyset

SECTIONS = {".linux": b"kernel", ".osrel": b"ID=edgeseal\n", ".cmdline": b"quiet", ".initrd": b"initrd"}
SIGNER = keyset().signer(Role.PCR)
MEASURED = measure_uki(SECTIONS)
POLICY = pcr_signature(MEASURED, SIGNER)

# systemd-measure 257.13 calculate --bank=sha256 over SECTIONS
KNOWN = {
    "enter-initrd": "d85031a50f7fa52a5e1806b4b51aff9a0730dfd02649d8bfcf453c976a0d2a19",
    "enter-initrd:leave-initrd": "bca441ac92609033bc8a9b463d4943345dd86511eb7dfaba602b9294125ae046",
    "enter-initrd:leave-initrd:sysinit:ready": "39c9c39925f8e1ad8bb85c327d82e59e0b34d778566c0d7cf87cbe8a68d70f1c",
}


def test_known_values_of_systemd_measure() -> None:
    assert {phase: value.hex() for phase, value in measure_uki(SECTIONS, KNOWN).items()} == KNOWN


def test_the_known_policy_of_systemd_measure() -> None:
    assert (
        pcr_policy_digest(bytes.fromhex(KNOWN[PHASE_DATA])).hex()
        == "f24bc7d7b433c15786461a69b77fcaca5fec25982320c45216a79d7404f5204d"
    )


def test_no_phase_is_the_value_after_the_stub() -> None:
    assert measure_uki({}, [""]) == {"": bytes(32)}
    assert measure_uki(SECTIONS, [""])[""] != MEASURED[PHASE_DATA]


@pytest.mark.parametrize("name", MEASURED_SECTIONS)
def test_every_measured_section_counts(name: str) -> None:
    assert measure_uki(SECTIONS | {name: b"other"}) != MEASURED


@pytest.mark.parametrize("name", [".pcrsig", ".text", ".sdmagic", ".unknown"])
def test_other_sections_do_not_count(name: str) -> None:
    assert measure_uki(SECTIONS | {name: b"other"}) == MEASURED


def test_what_depends_on_the_board_is_refused() -> None:
    assert measure_uki(SECTIONS | {".dtbauto": b""}) == MEASURED
    with pytest.raises(InputError, match=r"the measurement of an image with \.dtbauto sections cannot be predicted"):
        measure_uki(SECTIONS | {".dtbauto": b"tree"})


def test_empty_sections_do_not_count_and_order_does_not_matter() -> None:
    assert measure_uki(SECTIONS | {".ucode": b""}) == MEASURED
    assert measure_uki(dict(reversed(SECTIONS.items()))) == MEASURED


def test_contents_cannot_move_between_sections() -> None:
    swapped = SECTIONS | {".cmdline": SECTIONS[".initrd"], ".initrd": SECTIONS[".cmdline"]}
    assert measure_uki(swapped) != MEASURED


def test_the_signature_verifies_for_its_image_phase_and_key_only() -> None:
    verify_pcr_policy(POLICY, MEASURED, SIGNER.certificate)
    with pytest.raises(VerificationError, match=r"another image or another phase"):
        verify_pcr_policy(POLICY, measure_uki(SECTIONS | {".cmdline": b"evil"}), SIGNER.certificate)
    with pytest.raises(VerificationError, match=r"another image or another phase"):
        verify_pcr_policy(POLICY, measure_uki(SECTIONS, ["enter-initrd"]), SIGNER.certificate)
    with pytest.raises(VerificationError, match=r"the signature does not verify"):
        verify_pcr_policy(POLICY, MEASURED, keyset("other").certificate(Role.PCR))
    with pytest.raises(VerificationError, match=r"the signature does not verify"):
        verify_pcr_policy(POLICY, MEASURED, keyset().certificate(Role.DB))


def test_no_byte_can_be_changed() -> None:
    for position in range(len(POLICY)):
        for bit in range(7) if position > len(POLICY) - 12 else (position % 7,):  # the end of base64 has spare bits
            wrong = bytearray(POLICY)
            wrong[position] ^= 1 << bit
            with pytest.raises(VerificationError):
                verify_pcr_policy(bytes(wrong), MEASURED, SIGNER.certificate)


def test_the_shape_is_what_systemd_reads() -> None:
    document = json.loads(POLICY)
    (entry,) = document["sha256"]
    assert list(document) == ["sha256"]
    assert list(entry) == ["pcrs", "pkfp", "pol", "sig"]
    assert entry["pcrs"] == [11]
    assert len(base64.b64decode(entry["sig"])) == 256


def test_several_phases_are_signed_in_the_order_of_their_paths() -> None:
    measured = measure_uki(SECTIONS, ["b", "a", "a"])
    policies = [entry["pol"] for entry in json.loads(pcr_signature(measured, SIGNER))["sha256"]]
    assert policies == [pcr_policy_digest(measured[phase]).hex() for phase in ("a", "b")]
    verify_pcr_policy(pcr_signature(measured, SIGNER), measured, SIGNER.certificate)


def test_the_public_key_section_is_pem() -> None:
    assert pcr_public_key(SIGNER.certificate).startswith(b"-----BEGIN PUBLIC KEY-----\n")
