"""A device asks its site for a certificate, and the answer: two MQTT messages.

Spec: docs/specs/certificate-renewal.md (v1). Whoever reads one trusts nothing in it: a request is worth what its
sender's connection is worth, an answer what its chain is.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeVar

import msgspec

from appliance.core.canonical import canonical_json
from appliance.core.errors import DecodeError
from appliance.formats.device import FrozenStruct
from appliance.formats.verdict import DeviceId

MAX_REQUEST_BYTES: Final = 4 << 10
MAX_ANSWER_BYTES: Final = 32 << 10


class CertificateRequest(FrozenStruct, frozen=True, kw_only=True):
    """csr: PKCS#10 in PEM (RFC 2986), its subject the device, its key the device's own."""

    schema: Literal[1] = 1
    device: DeviceId
    csr: Annotated[str, msgspec.Meta(max_length=3 << 10)]


class CertificateAnswer(FrozenStruct, frozen=True, kw_only=True):
    """certificates: PEM, the device's first, then what lies between it and the site's CA."""

    schema: Literal[1] = 1
    device: DeviceId
    certificates: Annotated[str, msgspec.Meta(max_length=24 << 10)]


Message = TypeVar("Message", CertificateRequest, CertificateAnswer)


def encode_certificate_request(request: CertificateRequest) -> bytes:
    """Canonical bytes."""
    return canonical_json(msgspec.to_builtins(request))


def decode_certificate_request(data: bytes) -> CertificateRequest:
    """Raises DecodeError on any other shape."""
    return _decode(data, CertificateRequest, MAX_REQUEST_BYTES, "certificate request")


def encode_certificate_answer(answer: CertificateAnswer) -> bytes:
    """Canonical bytes."""
    return canonical_json(msgspec.to_builtins(answer))


def decode_certificate_answer(data: bytes) -> CertificateAnswer:
    """Raises DecodeError on any other shape."""
    return _decode(data, CertificateAnswer, MAX_ANSWER_BYTES, "certificate answer")


def _decode(data: bytes, kind: type[Message], limit: int, what: str) -> Message:
    if len(data) > limit:
        raise DecodeError(f"{what}: {len(data)} bytes, at most {limit}")
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DecodeError(f"{what}: {error}") from error
