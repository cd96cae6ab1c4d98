"""Self-signed certificates of our keys: made once, then only compared and read. Nothing here looks at their expiry.

A development key says so in its certificate three times: organisation, common name and comment. One is enough to
count as a development key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime

from asn1crypto import algos, keys
from asn1crypto import core as asn1
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID, ObjectIdentifier

from appliance.core.errors import VerificationError
from builder.signing.roles import Role

DEVELOPMENT_MARK = "DEVELOPMENT"
DEVELOPMENT_ORGANISATION = "edgeseal DEVELOPMENT"
VALIDITY_YEARS = 20
_COMMENT = "2.16.840.1.113730.1.13"  # nsComment: shown in clear by every certificate viewer, ignored by verifiers
_COMMENT_TEXT = "edgeseal DEVELOPMENT key: never trust it outside a test"


def public_key_of(certificate: x509.Certificate) -> rsa.RSAPublicKey:
    """The certificate's key. Raises VerificationError when it is not an RSA key."""
    key = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        raise VerificationError("the certificate does not hold an RSA key")
    return key


def keyid_of(certificate: x509.Certificate) -> str:
    """sha256 of the DER SubjectPublicKeyInfo, lower-case hex."""
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()


def certificate_der(certificate: x509.Certificate) -> bytes:
    """The exact DER bytes."""
    return certificate.public_bytes(Encoding.DER)


def is_development(certificate: x509.Certificate) -> bool:
    """True when organisation, common name or comment carries the development mark."""
    marked = [*certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    marked += certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if any(DEVELOPMENT_MARK in str(attribute.value) for attribute in marked):
        return True
    for extension in certificate.extensions:
        if extension.oid == ObjectIdentifier(_COMMENT) and isinstance(extension.value, x509.UnrecognizedExtension):
            return DEVELOPMENT_MARK.encode() in extension.value.value
    return False


def check_signature(certificate: x509.Certificate, signature: bytes, data: bytes, *, what: str) -> None:
    """RSASSA-PKCS1-v1_5 with SHA-256. Raises VerificationError naming `what` unless the certificate's key made it."""
    try:
        public_key_of(certificate).verify(signature, data, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature as error:
        raise VerificationError(f"{what}: the signature does not verify") from error


def self_signed(
    role: Role,
    public_key: rsa.RSAPublicKey,
    sign: Callable[[bytes], bytes],
    *,
    organisation: str,
    development: bool,
    now: datetime,
    serial: int,
) -> x509.Certificate:
    """A certificate over `public_key`, signed by its own key through `sign` (RSASSA-PKCS1-v1_5 with SHA-256).

    now: start of its validity, with a time zone; it ends VALIDITY_YEARS later.
    serial: positive, at most 20 bytes.
    """
    start = now.replace(microsecond=0)
    name = _name(role, organisation, development)
    algorithm = algos.SignedDigestAlgorithm({"algorithm": "sha256_rsa"})
    spki = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    to_be_signed = asn1_x509.TbsCertificate(
        {
            "version": "v3",
            "serial_number": serial,
            "signature": algorithm,
            "issuer": name,
            "validity": {"not_before": _time(start), "not_after": _time(_years_later(start, VALIDITY_YEARS))},
            "subject": name,
            "subject_public_key_info": keys.PublicKeyInfo.load(spki),
            "extensions": _extensions(role, development),
        }
    )
    certificate = asn1_x509.Certificate(
        {
            "tbs_certificate": to_be_signed,
            "signature_algorithm": algorithm,
            "signature_value": sign(to_be_signed.dump()),
        }
    )
    return x509.load_der_x509_certificate(certificate.dump())


def _name(role: Role, organisation: str, development: bool) -> asn1_x509.Name:
    mark = f" {DEVELOPMENT_MARK}" if development else ""
    return asn1_x509.Name.build({"organization_name": organisation, "common_name": f"edgeseal{mark} {role.value}"})


def _extensions(role: Role, development: bool) -> list[dict[str, object]]:
    usage = {"digital_signature"} if role.signs else {"key_encipherment"}
    extensions: list[dict[str, object]] = [
        {"extn_id": "basic_constraints", "critical": True, "extn_value": asn1_x509.BasicConstraints({"ca": False})},
        {"extn_id": "key_usage", "critical": True, "extn_value": asn1_x509.KeyUsage(usage)},
    ]
    if development:
        comment = asn1.ParsableOctetString(asn1.IA5String(_COMMENT_TEXT).dump())
        extensions.append({"extn_id": _COMMENT, "critical": False, "extn_value": comment})
    return extensions


def _time(moment: datetime) -> asn1_x509.Time:
    if moment.year < 2050:  # RFC 5280, 4.1.2.5
        return asn1_x509.Time({"utc_time": asn1.UTCTime(moment)})
    return asn1_x509.Time({"general_time": asn1.GeneralizedTime(moment)})


def _years_later(moment: datetime, years: int) -> datetime:
    """The same day `years` later; 29 February becomes the 28th."""
    day = 28 if (moment.month, moment.day) == (2, 29) else moment.day
    return moment.replace(year=moment.year + years, day=day)
