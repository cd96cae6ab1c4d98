"""Expected PCR 11 of a unified kernel image, and the signed policy that lets a data partition open under it.

Follows systemd-stub and systemd-measure 257; byte for byte what `systemd-measure sign --bank=sha256` prints.
Spec: docs/specs/signatures.md.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Iterable, Mapping

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from appliance.core.errors import InputError, VerificationError
from builder.signing.asn1 import sha256
from builder.signing.certificates import check_signature, public_key_of
from builder.signing.signer import Signer

PCR = 11
PHASE_DATA = "enter-initrd:leave-initrd"
"""When the data partition is opened: after the initrd, before the units of the root."""

MEASURED_SECTIONS = (
    *(".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat"),
    *(".pcrpkey", ".profile", ".hwids"),
)
"""In systemd-stub's order. `.pcrsig` is left out: it signs the result."""

_UNPREDICTABLE = ".dtbauto"  # of several the stub measures the one that matches the board

_POLICY_PCR = 0x0000017F  # TPM 2.0 part 2: TPM_CC_PolicyPCR
_ALG_SHA256 = 0x000B


def measure_uki(sections: Mapping[str, bytes], phases: Iterable[str] = (PHASE_DATA,)) -> dict[str, bytes]:
    """SHA-256 PCR 11 by phase path.

    sections: contents as in memory (VirtualSize bytes, see `pe_sections`) by name; others than the measured ones are
    ignored, and so are empty ones, as the stub does.
    phases: words joined by colons; the empty path is the value right after the stub.
    Raises InputError when there is a `.dtbauto`: what the stub measures then depends on the board.
    """
    if sections.get(_UNPREDICTABLE):
        raise InputError(f"the measurement of an image with {_UNPREDICTABLE} sections cannot be predicted")
    pcr = bytes(32)
    for name in MEASURED_SECTIONS:
        if content := sections.get(name, b""):
            pcr = _extend(pcr, name.encode() + b"\0")
            pcr = _extend(pcr, content)
    return {path: _extend_words(pcr, path) for path in phases}


def pcr_policy_digest(pcr11: bytes) -> bytes:
    """policyDigest of a fresh session after one PolicyPCR on PCR 11 of the SHA-256 bank (TPM 2.0 part 3, 23.7)."""
    selection = struct.pack(">IHB", 1, _ALG_SHA256, 3) + (1 << PCR).to_bytes(3, "little")
    return sha256(bytes(32) + struct.pack(">I", _POLICY_PCR) + selection + sha256(pcr11))


def pcr_signature(measurements: Mapping[str, bytes], signer: Signer) -> bytes:
    """The `.pcrsig` section: JSON with one entry per phase, in the order of their paths.

    measurements: from `measure_uki`.
    """
    entries: list[dict[str, object]] = []
    for _, pcr11 in sorted(measurements.items()):
        policy = pcr_policy_digest(pcr11)
        entry = _unsigned_entry(policy, signer.certificate)
        entry["sig"] = _base64(signer.sign(policy))
        if entry not in entries:
            entries.append(entry)
    return _encode(entries)


def verify_pcr_policy(pcrsig: bytes, measurements: Mapping[str, bytes], certificate: x509.Certificate) -> None:
    """Raises VerificationError unless `pcr_signature` made these bytes for these measurements with this key."""
    try:
        signatures = msgspec.json.decode(pcrsig, type=_PcrSignatures, strict=True).sha256
        decoded = [(entry, base64.b64decode(entry.sig, validate=True)) for entry in signatures]
    except (msgspec.DecodeError, ValueError) as error:
        raise VerificationError("PCR policy: not a PCR signature") from error
    expected = [pcr_policy_digest(pcr11).hex() for _, pcr11 in sorted(measurements.items())]
    if [entry.pol for entry in signatures] != list(dict.fromkeys(expected)):
        raise VerificationError("PCR policy: it is for another image or another phase of the boot")
    entries = []
    for entry, signature in decoded:
        check_signature(certificate, signature, bytes.fromhex(entry.pol), what="PCR policy")
        entries.append(_unsigned_entry(bytes.fromhex(entry.pol), certificate) | {"sig": _base64(signature)})
    if pcrsig != _encode(entries):
        raise VerificationError("PCR policy: not in the one encoding that is accepted")


def pcr_public_key(certificate: x509.Certificate) -> bytes:
    """The `.pcrpkey` section: the public key as PEM."""
    return public_key_of(certificate).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


class _PcrSignature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pcrs: list[int]
    pkfp: str
    pol: str
    sig: str


class _PcrSignatures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sha256: list[_PcrSignature]


def _unsigned_entry(policy: bytes, certificate: x509.Certificate) -> dict[str, object]:
    # systemd's fingerprint is over the PKCS#1 form of the key, not over its SubjectPublicKeyInfo
    pkcs1 = public_key_of(certificate).public_bytes(Encoding.DER, PublicFormat.PKCS1)
    return {"pcrs": [PCR], "pkfp": hashlib.sha256(pkcs1).hexdigest(), "pol": policy.hex()}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _encode(entries: list[dict[str, object]]) -> bytes:
    return json.dumps({"sha256": entries}, separators=(",", ":")).encode() + b"\n"


def _extend_words(pcr: bytes, path: str) -> bytes:
    for word in filter(None, path.split(":")):
        pcr = _extend(pcr, word.encode())
    return pcr


def _extend(pcr: bytes, data: bytes) -> bytes:
    return sha256(pcr + sha256(data))
