"""CMS SignedData as the Linux kernel wants it: binary, no signed attributes, no certificates.

Detached over the hex root hash (dm-verity), attached around the policy text (IPE). Byte for byte what
`openssl smime -sign -binary -nocerts -noattr -md sha256 -outform DER` writes. Spec: docs/specs/signatures.md.
"""

from __future__ import annotations

from collections.abc import Sequence

from asn1crypto import cms
from asn1crypto import core as asn1
from cryptography import x509

from appliance.core.errors import VerificationError
from builder.signing.asn1 import content_info, find_signer, signed_data
from builder.signing.certificates import check_signature
from builder.signing.signer import Signer


def sign_detached(content: bytes, signer: Signer) -> bytes:
    """DER without the content. For a root hash `content` is its lower-case hex without a newline."""
    return _encode(None, signer.certificate, signer.sign(content))


def sign_attached(content: bytes, signer: Signer) -> bytes:
    """DER with the content inside."""
    return _encode(content, signer.certificate, signer.sign(content))


def verify_cms(der: bytes, content: bytes | None, certificates: Sequence[x509.Certificate]) -> bytes:
    """The content that one of the certificates signed.

    content: what a detached signature is over; None for an attached one, whose own content is returned.
    Only the one encoding that `sign_detached` and `sign_attached` give is accepted.
    Raises VerificationError.
    """
    certificate, signature = find_signer(der, certificates, what="CMS signature")
    signed = _attached_content(der) if content is None else content
    if der != _encode(signed if content is None else None, certificate, signature):
        raise VerificationError("CMS signature: not in the one encoding that is accepted")
    check_signature(certificate, signature, signed, what="CMS signature")
    return signed


def _encode(content: bytes | None, certificate: x509.Certificate, signature: bytes) -> bytes:
    inner: dict[str, object] = {"content_type": "data"}
    if content is not None:
        inner["content"] = asn1.OctetString(content)
    return content_info(signed_data(certificate, signature, content=cms.ContentInfo(inner)))


def _attached_content(der: bytes) -> bytes:
    try:
        content = cms.ContentInfo.load(der)["content"]["encap_content_info"]["content"].native
    except (ValueError, TypeError) as error:
        raise VerificationError("CMS signature: not CMS SignedData") from error
    if not isinstance(content, bytes):
        raise VerificationError("CMS signature: there is no content inside")
    return content
