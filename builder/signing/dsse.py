"""DSSE envelopes (v1) for attestations. The only module that uses securesystemslib's envelope."""

from __future__ import annotations

import binascii
import json
from collections.abc import Sequence

from cryptography import x509
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import FormatError
from securesystemslib.exceptions import VerificationError as Refused
from securesystemslib.signer import Key, Signature, SSlibKey

from appliance.core.canonical import canonical_json
from appliance.core.errors import VerificationError
from builder.signing.certificates import keyid_of, public_key_of
from builder.signing.signer import Signer

_SCHEME = "rsa-pkcs1v15-sha256"


def sign_envelope(payload_type: str, payload: bytes, signer: Signer) -> bytes:
    """Canonical JSON of an envelope with one signature. payload_type: for example application/vnd.in-toto+json."""
    envelope = Envelope(payload, payload_type, {})
    signature = signer.sign(envelope.pae())
    envelope.signatures[signer.keyid] = Signature(signer.keyid, signature.hex())
    return canonical_json(envelope.to_dict())


def verify_envelope(data: bytes, payload_type: str, certificates: Sequence[x509.Certificate]) -> bytes:
    """The payload that one of the certificates signed, exactly as `sign_envelope` wrote it.

    Raises VerificationError on another type, key or encoding, or more than one signature.
    """
    try:
        envelope = Envelope.from_dict(json.loads(data))
        encoded = canonical_json(envelope.to_dict())
    except (ValueError, KeyError, TypeError, AttributeError, FormatError, binascii.Error) as error:
        raise VerificationError("DSSE envelope: not an envelope") from error
    if encoded != data or len(envelope.signatures) != 1:
        raise VerificationError("DSSE envelope: not in the one encoding that is accepted")
    if envelope.payload_type != payload_type:
        raise VerificationError(f"DSSE envelope: its payload is {envelope.payload_type} instead of {payload_type}")
    try:
        envelope.verify([_key(certificate) for certificate in certificates], threshold=1)
    except (Refused, ValueError) as error:
        raise VerificationError("DSSE envelope: the signature does not verify") from error
    return envelope.payload


def _key(certificate: x509.Certificate) -> Key:
    return SSlibKey.from_crypto(public_key_of(certificate), keyid_of(certificate), _SCHEME)
