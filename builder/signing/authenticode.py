"""Authenticode signatures of EFI images, SHA-256, without a signing time: the same bytes whenever they are made.

Spec: docs/specs/signatures.md, after "Windows Authenticode Portable Executable Signature Format" 1.0.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import ClassVar

from asn1crypto import cms
from asn1crypto import core as asn1
from cryptography import x509

from appliance.core.errors import InputError, VerificationError
from builder.signing.asn1 import content_info, find_signer, sha256, sha256_algorithm, signed_data
from builder.signing.certificates import check_signature
from builder.signing.pe import PeImage, parse_pe, with_checksum
from builder.signing.signer import Signer

_INDIRECT_DATA = "1.3.6.1.4.1.311.2.1.4"
_PE_IMAGE_DATA = "1.3.6.1.4.1.311.2.1.15"
_REVISION_2, _PKCS_SIGNED_DATA = 0x0200, 0x0002
_WHAT = "Authenticode signature"


def pe_digest(image: bytes) -> bytes:
    """SHA-256 over everything except checksum, certificate table entry and certificate table.

    An unsigned image counts as if padded with zeros to 8 bytes, which signing does. Raises DecodeError.
    """
    parsed = parse_pe(image)
    end = parsed.table if parsed.table_size else len(image)
    view = memoryview(image)
    digest = hashlib.sha256(view[: parsed.checksum])
    digest.update(view[parsed.checksum + 4 : parsed.directory])
    digest.update(view[parsed.directory + 8 : end])
    digest.update(b"\0" * (-end % 8))
    return digest.digest()


def sign_pe(unsigned: bytes, signer: Signer) -> bytes:
    """The image with one signature appended. Raises DecodeError; InputError when it is signed already."""
    parsed = parse_pe(unsigned)
    if parsed.table_size:
        raise InputError("PE image: it is signed already")
    content, attributes = _signed_parts(pe_digest(unsigned))
    signature = signer.sign(attributes.dump(force=True))
    return _append(parsed, unsigned, _encode(signer.certificate, signature, content, attributes))


def verify_pe(signed: bytes, certificates: Sequence[x509.Certificate]) -> None:
    """Raises VerificationError unless `sign_pe` made these very bytes with the key of one of the certificates.

    Any other encoding, a second signature or a byte after the first is refused. Raises DecodeError when it is no PE.
    """
    parsed = parse_pe(signed)
    if not parsed.table_size:
        raise VerificationError("PE image: it is not signed")
    length, revision, kind = struct.unpack_from("<IHH", signed, parsed.table)
    if (revision, kind) != (_REVISION_2, _PKCS_SIGNED_DATA) or not 8 < length <= parsed.table_size:
        raise VerificationError(f"{_WHAT}: the certificate table is not one PKCS signature")
    certificate, signature = find_signer(signed[parsed.table + 8 : parsed.table + length], certificates, what=_WHAT)
    content, attributes = _signed_parts(pe_digest(signed))
    check_signature(certificate, signature, attributes.dump(force=True), what=_WHAT)
    unsigned = unsigned_pe(signed)
    if signed != _append(parse_pe(unsigned), unsigned, _encode(certificate, signature, content, attributes)):
        raise VerificationError(f"{_WHAT}: not in the one encoding that is accepted")


def unsigned_pe(signed: bytes) -> bytes:
    """The image without its signature, padded to 8 bytes: signing it again gives `signed`. Raises DecodeError."""
    parsed = parse_pe(signed)
    end = parsed.table if parsed.table_size else len(signed)
    data = bytearray(signed[:end]) + bytes(-end % 8)
    struct.pack_into("<II", data, parsed.directory, 0, 0)
    return with_checksum(data, parsed.checksum)


def _append(parsed: PeImage, unsigned: bytes, der: bytes) -> bytes:
    data = bytearray(unsigned) + bytes(-len(unsigned) % 8)
    table = struct.pack("<IHH", 8 + len(der), _REVISION_2, _PKCS_SIGNED_DATA) + der
    table += bytes(-len(table) % 8)
    struct.pack_into("<II", data, parsed.directory, len(data), len(table))
    return with_checksum(data + table, parsed.checksum)


class _SpcString(asn1.Choice):  # type: ignore[misc]
    _alternatives: ClassVar = [("unicode", asn1.BMPString, {"implicit": 0}), ("ascii", asn1.IA5String, {"implicit": 1})]


class _SpcLink(asn1.Choice):  # type: ignore[misc]
    _alternatives: ClassVar = [("file", _SpcString, {"explicit": 2})]


class _SpcPeImageData(asn1.Sequence):  # type: ignore[misc]
    _fields: ClassVar = [("flags", asn1.BitString), ("file", _SpcLink, {"explicit": 0})]


class _SpcAttribute(asn1.Sequence):  # type: ignore[misc]
    _fields: ClassVar = [("type", asn1.ObjectIdentifier), ("value", _SpcPeImageData)]


class _DigestInfo(asn1.Sequence):  # type: ignore[misc]
    _fields: ClassVar = [("digest_algorithm", type(sha256_algorithm())), ("digest", asn1.OctetString)]


class _SpcIndirectData(asn1.Sequence):  # type: ignore[misc]
    _fields: ClassVar = [("data", _SpcAttribute), ("message_digest", _DigestInfo)]


class _IndirectContent(cms.ContentInfo):  # type: ignore[misc]
    _fields: ClassVar = [("content_type", cms.ContentType), ("content", _SpcIndirectData, {"explicit": 0})]
    _oid_pair = None


def _encode(
    certificate: x509.Certificate, signature: bytes, content: cms.ContentInfo, attributes: cms.CMSAttributes
) -> bytes:
    return content_info(
        signed_data(certificate, signature, content=content, signed_attributes=attributes, embed_certificate=True)
    )


def _signed_parts(image_digest: bytes) -> tuple[cms.ContentInfo, cms.CMSAttributes]:
    """The SpcIndirectDataContent, and the signed attributes over it (content type and digest, no time)."""
    link = _SpcLink(name="file", value=_SpcString(name="unicode", value=""))
    indirect = _SpcIndirectData(
        {
            "data": {"type": _PE_IMAGE_DATA, "value": {"flags": (), "file": link}},
            "message_digest": {"digest_algorithm": sha256_algorithm(), "digest": image_digest},
        }
    )
    inner = asn1.load(indirect.dump()).contents  # the digest leaves out the outermost tag and length
    attributes = cms.CMSAttributes(
        [
            cms.CMSAttribute({"type": "content_type", "values": [_INDIRECT_DATA]}),
            cms.CMSAttribute({"type": "message_digest", "values": [sha256(inner)]}),
        ]
    )
    return _IndirectContent({"content_type": _INDIRECT_DATA, "content": indirect}), attributes
