"""What a site answers to a device that asks for a certificate: rules only. Spec: docs/specs/certificate-renewal.md.

Who sent a message is the broker's to know: its access list lets a device write below its own name only, so the topic is
as good as a signature. Everything else is checked here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from appliance.core.errors import DecodeError, VerificationError
from appliance.formats.certificate_message import decode_certificate_request
from appliance.formats.uplink_envelope import CERTIFICATE_LEVEL, CERTIFICATE_REQUEST_LEVEL

PAUSE_S: Final = 60.0
"""Between two certificates of one device: a device that asks in a loop gets one a minute."""


@dataclass(frozen=True)
class Approved:
    """A request that may be signed. topic: of the answer. spki: DER of the device's public key."""

    device: str
    topic: str
    spki: bytes


class Rules:
    """Remembers when each device had its last certificate."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def judge(self, topic: str, payload: bytes, *, devices: frozenset[str], now_s: float) -> Approved:
        """devices: who may have a certificate. now_s: of any steady clock. Raises DecodeError, VerificationError."""
        levels = topic.split("/")
        if len(levels) < 3 or levels[-1] != CERTIFICATE_REQUEST_LEVEL:
            raise VerificationError(f"topic `{topic[:200]}` is not one for certificate requests")
        device = levels[-2]
        if device not in devices:
            raise VerificationError(f"{device} is not on the list of devices")
        request = decode_certificate_request(payload)
        if request.device != device:
            raise VerificationError(f"the request names {request.device}, its topic {device}")
        spki = _public_key(request.csr, device)
        last = self._last.get(device)
        if last is not None and now_s - last < PAUSE_S:
            raise VerificationError(f"{device} had a certificate {now_s - last:.0f} s ago, wait {PAUSE_S:.0f} s")
        self._last[device] = now_s
        return Approved(device, "/".join((*levels[:-1], CERTIFICATE_LEVEL)), spki)


def _public_key(pem: str, device: str) -> bytes:
    try:
        request = x509.load_pem_x509_csr(pem.encode())
        valid = request.is_signature_valid
        key = request.public_key()
        names = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise DecodeError("certificate request: not a PKCS#10 request in PEM") from error
    if not valid:
        raise VerificationError("the request is not signed by its own key")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise VerificationError("the request's key is not for the curve P-256")
    if len(request.subject) != 1 or [name.value for name in names] != [device]:
        raise VerificationError(f"the request is for `{request.subject.rfc4514_string()}`, not for CN={device}")
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
