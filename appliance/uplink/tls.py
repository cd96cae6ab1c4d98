"""TLS of the uplink: version 1.3 and nothing else, the site's CA and no other, both sides' certificates checked.

Certificates are valid for a time, and a device may not know what time it is. With time quality `unknown` their dates
are not looked at, and that is told; see docs/adr/0026-certificate-renewal.md.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.core.clock import Moment
from appliance.core.errors import DecodeError, VerificationError
from appliance.uplink.certificate import CLIENT_AUTH, SERVER_AUTH, Facts, pem_certificates, read_certificate

_NO_CHECK_TIME: Final = 0x200000  # X509_V_FLAG_NO_CHECK_TIME; ssl has no name for it
_STRENGTH: Final = "DEFAULT:@SECLEVEL=2"  # no RSA under 2048 bits, no SHA-1 in a signature
_DAY_S: Final = 86_400

_ALERTS: Final = {
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the broker wants a certificate of us and saw none",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the broker does not speak TLS 1.3",
    "UNSUPPORTED_PROTOCOL": "the broker does not speak TLS 1.3",
    "TLSV1_ALERT_UNKNOWN_CA": "the broker does not know who signed our certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the broker says our certificate has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "the broker says our certificate is revoked",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the broker says our certificate is bad",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the broker does not accept our certificate",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "the broker says our certificate is not for clients",
    "TLSV1_ALERT_ACCESS_DENIED": "the broker denies us access",
    "WRONG_VERSION_NUMBER": "what listens there does not speak TLS",
    "UNEXPECTED_MESSAGE": "what listens there does not speak TLS",
    "RECORD_LAYER_FAILURE": "what listens there does not speak TLS",
    "UNEXPECTED_EOF_WHILE_READING": "the broker hung up without a word",
}


_ABOUT_US: Final = frozenset(
    reason for reason, words in _ALERTS.items() if "our certificate" in words or "a certificate of us" in words
)


class OwnIdentityError(VerificationError):
    """Our own certificate or key is of no use."""


@dataclass(frozen=True)
class Identity:
    """Who we are to the broker: a PEM chain, our certificate first, and its PEM key."""

    certificate: Path
    key: Path


def check_own(identity: Identity, device: str, now: Moment) -> Facts:
    """Our certificate, before anybody is asked to trust it: ours, for clients, and valid where the time is known.

    Raises OwnIdentityError with the reason.
    """
    try:
        facts = read_certificate(pem_certificates(identity.certificate.read_bytes())[0])
    except OSError as error:
        raise OwnIdentityError(f"our certificate cannot be read: {error.strerror}") from error
    except DecodeError as error:
        raise OwnIdentityError(f"our {error.message}") from error
    if facts.common_name != device:
        raise OwnIdentityError(f"our certificate is for {facts.common_name!r}, this device is {device!r}")
    if facts.usages is not None and CLIENT_AUTH not in facts.usages:
        raise OwnIdentityError("our certificate is not for clients (clientAuth)")
    if now.quality != "unknown":
        _check_times(facts, now.wall_us // 1_000_000)
    return facts


def tls_context(ca: Path, identity: Identity, *, check_times: bool) -> ssl.SSLContext:
    """For a connection to a broker of the site. Raises VerificationError, OwnIdentityError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks the name; trusts nobody yet
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.hostname_checks_common_name = False
    context.set_ciphers(_STRENGTH)
    # The site may give an intermediate: then nothing above it counts, which is what pinning is for.
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    if not check_times:
        context.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME)
    try:
        context.load_verify_locations(cafile=ca)
    except OSError as error:
        raise VerificationError(f"the site's CA cannot be used: {_said(error)}") from error
    try:
        context.load_cert_chain(identity.certificate, identity.key, password=_no_password)
    except OSError as error:
        if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
            raise OwnIdentityError("our key does not belong to our certificate") from error
        raise OwnIdentityError(f"our certificate or its key cannot be used: {_said(error)}") from error
    return context


def check_broker(sock: ssl.SSLSocket) -> None:
    """What OpenSSL lets pass: a certificate that does not say what it is for. Raises VerificationError."""
    der = sock.getpeercert(binary_form=True)
    facts = read_certificate(der or b"")
    if facts.usages is None or SERVER_AUTH not in facts.usages:
        raise VerificationError("the broker's certificate is not trusted: it does not say that it is for servers")


def about_us(error: BaseException) -> bool:
    """The broker, or we ourselves, did not like our certificate: another one might do."""
    return isinstance(error, OwnIdentityError) or (isinstance(error, ssl.SSLError) and error.reason in _ABOUT_US)


def in_words(error: BaseException) -> str:
    """Why a connection did not come about or broke, for people."""
    if isinstance(error, VerificationError):
        return error.message
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the broker's certificate is not trusted: {error.verify_message.rstrip('.')}"
    if isinstance(error, ssl.SSLError):
        return _ALERTS.get(error.reason or "", f"TLS failed: {_said(error)}")
    if isinstance(error, OSError):
        return _said(error)
    return f"{type(error).__name__}: {error}"


def _check_times(facts: Facts, now_s: int) -> None:
    if now_s > facts.not_after:
        days = (now_s - facts.not_after) // _DAY_S
        raise OwnIdentityError(f"our certificate expired {days} days ago")
    if now_s < facts.not_before:
        days = (facts.not_before - now_s) // _DAY_S
        raise OwnIdentityError(f"our certificate is not valid yet, for {days} days")


def _said(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or error.strerror or str(error)
    return error.strerror or str(error) or type(error).__name__


def _no_password() -> bytes:
    raise OwnIdentityError("our key is encrypted, a device cannot ask for a password")
