"""The ASN.1 that our two CMS producers share: one SignerInfo, SHA-256, RSASSA-PKCS1-v1_5 (RFC 5652, RFC 2315)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from asn1crypto import algos, cms
from asn1crypto import core as asn1
from asn1crypto import x509 as asn1_x509
from cryptography import x509

from appliance.core.errors import VerificationError
from builder.signing.certificates import certificate_der


def sha256_algorithm() -> algos.DigestAlgorithm:
    """SHA-256 with its NULL parameters, as OpenSSL writes it."""
    return algos.DigestAlgorithm({"algorithm": "sha256", "parameters": asn1.Null()})


def signed_data(
    certificate: x509.Certificate,
    signature: bytes,
    *,
    content: cms.ContentInfo,
    signed_attributes: cms.CMSAttributes | None = None,
    embed_certificate: bool = False,
) -> cms.SignedData:
    """Version 1 SignedData. The same arguments give the same bytes; `content_info` makes them a CMS message."""
    own = asn1_x509.Certificate.load(certificate_der(certificate))
    signer_info = {
        "version": "v1",
        "sid": cms.SignerIdentifier(
            name="issuer_and_serial_number",
            value=cms.IssuerAndSerialNumber({"issuer": own.issuer, "serial_number": own.serial_number}),
        ),
        "digest_algorithm": sha256_algorithm(),
        "signature_algorithm": algos.SignedDigestAlgorithm({"algorithm": "rsassa_pkcs1v15", "parameters": asn1.Null()}),
        "signature": signature,
    }
    if signed_attributes is not None:
        signer_info["signed_attrs"] = signed_attributes
    data = {
        "version": "v1",
        "digest_algorithms": [sha256_algorithm()],
        "encap_content_info": content,
        "signer_infos": [cms.SignerInfo(signer_info)],
    }
    if embed_certificate:
        data["certificates"] = [cms.CertificateChoices(name="certificate", value=own)]
    return cms.SignedData(data)


def content_info(data: cms.SignedData) -> bytes:
    """DER of the message around it."""
    return bytes(cms.ContentInfo({"content_type": "signed_data", "content": data}).dump())


def find_signer(der: bytes, certificates: Sequence[x509.Certificate], *, what: str) -> tuple[x509.Certificate, bytes]:
    """The certificate that the only SignerInfo names, and the signature in it. Nothing is verified yet.

    Raises VerificationError when `der` is not such a structure or names none of the certificates.
    """
    try:
        info = cms.ContentInfo.load(der, strict=True)
        if info["content_type"].native != "signed_data":
            raise VerificationError(f"{what}: not CMS SignedData")
        signers = list(info["content"]["signer_infos"])
        if len(signers) != 1:
            raise VerificationError(f"{what}: {len(signers)} signers instead of one")
        named = signers[0]["sid"].chosen
        issuer, serial = named["issuer"].dump(), named["serial_number"].native
        signature = bytes(signers[0]["signature"].native)
    except (ValueError, TypeError, KeyError) as error:
        raise VerificationError(f"{what}: not CMS SignedData") from error
    for certificate in certificates:
        own = asn1_x509.Certificate.load(certificate_der(certificate))
        if own.issuer.dump() == issuer and own.serial_number == serial:
            return certificate, signature
    raise VerificationError(f"{what}: signed with a key that is not expected here")


def sha256(data: bytes) -> bytes:
    """The digest."""
    return hashlib.sha256(data).digest()
