"""UEFI structures of the Secure Boot variables: signature lists and authenticated updates (UEFI 2.10, 8.2 and 32.4)."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from uuid import UUID

from asn1crypto import cms
from cryptography import x509

from builder.signing.asn1 import signed_data
from builder.signing.certificates import certificate_der
from builder.signing.signer import Signer

GLOBAL_VARIABLE = UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
IMAGE_SECURITY_DATABASE = UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
OWNER = UUID("8f1b3c56-6d0e-5c3a-9a0f-6f2b7e0c9d41")
"""Who enrolled a certificate: fixed, so that the variables depend on the keys alone."""

ATTRIBUTES = 0x27  # non-volatile, boot service, runtime, time-based authenticated write
_CERT_X509 = UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
_CERT_PKCS7 = UUID("4aafd29d-68df-49ee-8aa9-347d375665a7")
_REVISION, _EFI_GUID = 0x0200, 0x0EF1


def signature_list(certificate: x509.Certificate) -> bytes:
    """EFI_SIGNATURE_LIST with one X.509 certificate."""
    data = OWNER.bytes_le + certificate_der(certificate)
    return _CERT_X509.bytes_le + struct.pack("<III", 28 + len(data), 0, len(data)) + data


def efi_time(moment: datetime) -> bytes:
    """EFI_TIME in UTC. moment: with a time zone; parts of a second are dropped."""
    utc = moment.astimezone(UTC)
    return struct.pack("<HBBBBBxIhBx", utc.year, utc.month, utc.day, utc.hour, utc.minute, utc.second, 0, 0, 0)


def authenticated_variable(name: str, vendor: UUID, data: bytes, *, time: datetime, signer: Signer) -> bytes:
    """EFI_VARIABLE_AUTHENTICATION_2 followed by `data`: what SetVariable takes for a PK, KEK or db.

    time: firmware refuses an update that is not later than the last one.
    """
    stamp = efi_time(time)
    signed = name.encode("utf-16-le") + vendor.bytes_le + struct.pack("<I", ATTRIBUTES) + stamp + data
    pkcs7: bytes = signed_data(  # SignedData alone, without a ContentInfo around it
        signer.certificate,
        signer.sign(signed),
        content=cms.ContentInfo({"content_type": "data"}),
        embed_certificate=True,
    ).dump()
    header = struct.pack("<IHH", 24 + len(pkcs7), _REVISION, _EFI_GUID) + _CERT_PKCS7.bytes_le
    return stamp + header + pkcs7 + data
