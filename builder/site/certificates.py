"""Certificates of a site: its CA, and what that CA signs for devices, brokers and clients. RFC 5280 profile.

Signed by any Signer (a file or a token), RSASSA-PKCS1-v1_5 with SHA-256. Pure but for the signer.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from asn1crypto import algos, keys
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from appliance.core.errors import InputError
from builder.signing.signer import Signer

Purpose = Literal["client", "server"]
BACKDATED: Final = timedelta(hours=1)  # a device's clock may be behind
_PURPOSES: Final = {"client": "client_auth", "server": "server_auth"}


@dataclass(frozen=True)
class Wanted:
    """A certificate to be. names: DNS names and addresses of a server. spki: DER of the public key.

    days: of validity, from now. serial: positive, at most 20 bytes.
    """

    common_name: str
    purpose: Purpose
    spki: bytes
    days: int
    serial: int
    names: tuple[str, ...] = ()


def issue(signer: Signer, wanted: Wanted, now: datetime) -> x509.Certificate:
    """now: with a time zone. Raises InputError when it would outlive the CA, EdgesealError when the key fails."""
    end = now + timedelta(days=wanted.days)
    authority_end = signer.certificate.not_valid_after_utc
    if end > authority_end:
        raise InputError(
            f"the site's CA ends on {authority_end:%Y-%m-%d}, before {wanted.days} days have passed",
            hint="make a new CA while the old one is still trusted, or ask for fewer days",
        )
    issuer = asn1_x509.Certificate.load(signer.certificate.public_bytes(Encoding.DER))
    extensions: list[dict[str, object]] = [
        {"extn_id": "basic_constraints", "critical": True, "extn_value": asn1_x509.BasicConstraints({"ca": False})},
        {"extn_id": "key_usage", "critical": True, "extn_value": asn1_x509.KeyUsage({"digital_signature"})},
        {"extn_id": "extended_key_usage", "critical": False, "extn_value": [_PURPOSES[wanted.purpose]]},
        {
            "extn_id": "authority_key_identifier",
            "critical": False,
            "extn_value": {"key_identifier": issuer.public_key.sha1},
        },
        {"extn_id": "key_identifier", "critical": False, "extn_value": keys.PublicKeyInfo.load(wanted.spki).sha1},
    ]
    if wanted.names:
        names = [_general_name(name) for name in wanted.names]
        extensions.append({"extn_id": "subject_alt_name", "critical": False, "extn_value": names})
    return _sign(wanted.common_name, issuer.subject, wanted, now - BACKDATED, end, extensions, signer.sign)


def self_signed_authority(
    name: str, key: rsa.RSAPublicKey, sign: Callable[[bytes], bytes], *, days: int, serial: int, now: datetime
) -> x509.Certificate:
    """A CA that certifies no other CA, signed by its own key through `sign`."""
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    wanted = Wanted(name, "client", spki, days, serial)
    usage = asn1_x509.KeyUsage({"key_cert_sign", "crl_sign"})
    constraint = asn1_x509.BasicConstraints({"ca": True, "path_len_constraint": 0})
    extensions: list[dict[str, object]] = [
        {"extn_id": "basic_constraints", "critical": True, "extn_value": constraint},
        {"extn_id": "key_usage", "critical": True, "extn_value": usage},
        {"extn_id": "key_identifier", "critical": False, "extn_value": keys.PublicKeyInfo.load(spki).sha1},
    ]
    subject = asn1_x509.Name.build({"common_name": name})
    return _sign(name, subject, wanted, now - BACKDATED, now + timedelta(days=days), extensions, sign)


def _sign(
    common_name: str,
    issuer: asn1_x509.Name,
    wanted: Wanted,
    start: datetime,
    end: datetime,
    extensions: list[dict[str, object]],
    sign: Callable[[bytes], bytes],
) -> x509.Certificate:
    algorithm = algos.SignedDigestAlgorithm({"algorithm": "sha256_rsa"})
    body = asn1_x509.TbsCertificate(
        {
            "version": "v3",
            "serial_number": wanted.serial,
            "signature": algorithm,
            "issuer": issuer,
            "validity": {"not_before": _time(start), "not_after": _time(end)},
            "subject": asn1_x509.Name.build({"common_name": common_name}),
            "subject_public_key_info": keys.PublicKeyInfo.load(wanted.spki),
            "extensions": extensions,
        }
    )
    certificate = asn1_x509.Certificate(
        {"tbs_certificate": body, "signature_algorithm": algorithm, "signature_value": sign(body.dump())}
    )
    return x509.load_der_x509_certificate(certificate.dump())


def _time(moment: datetime) -> asn1_x509.Time:
    moment = moment.replace(microsecond=0)
    return asn1_x509.Time({"utc_time" if moment.year < 2050 else "general_time": moment})  # RFC 5280, 4.1.2.5


def _general_name(name: str) -> asn1_x509.GeneralName:
    try:
        return asn1_x509.GeneralName("ip_address", str(ipaddress.ip_address(name)))
    except ValueError:
        return asn1_x509.GeneralName("dns_name", name)
