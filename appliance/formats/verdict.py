"""What the inference service says about one frame. Spec: docs/specs/verdict.md (v1).

It leaves the site exactly in this form: canonical JSON, no pixel, no float.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from appliance.core.canonical import canonical_json
from appliance.core.errors import DecodeError
from appliance.formats.device import FrozenStruct, Identifier, Sha256Hex
from appliance.formats.model_card import Label

MAX_VERDICT_BYTES = 2048
MAX_JSON_INTEGER = 2**53 - 1  # larger ones do not survive readers that keep numbers as doubles

DeviceId = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}(?!\n)$", description="a topic level")]
BootId = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}(?!\n)$")]
Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_JSON_INTEGER)]
ProviderName = Literal["cpu", "openvino", "qnn", "xnnpack"]


class Verdict(FrozenStruct, frozen=True, kw_only=True):
    """One judgement.

    sequence: of the inference service, from 1 in each boot and start, without gaps; (device, boot_id, start_us,
    sequence) never repeats. start_us: monotonic_us at the service's start.
    frame_sequence: as the source gave it, in decimal digits since it may need 64 bits. frame_sha256: over the pixels.
    score_ppm: of the label, in millionths. latency_us: from the whole frame received to the result.
    monotonic_us: since boot, when the result was there.
    """

    schema: Literal[1] = 1
    device: DeviceId
    boot_id: BootId
    start_us: Count
    sequence: Annotated[int, msgspec.Meta(ge=1, le=MAX_JSON_INTEGER)]
    frame_sequence: Annotated[str, msgspec.Meta(pattern=r"^(0|[1-9][0-9]{0,19})(?!\n)$")]
    frame_sha256: Sha256Hex
    label: Label
    score_ppm: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
    model: Identifier
    model_sha256: Sha256Hex
    execution_provider: ProviderName
    latency_us: Count
    monotonic_us: Count


def encode_verdict(verdict: Verdict) -> bytes:
    """The canonical bytes of `verdict`: the payload of the MQTT message."""
    return canonical_json(msgspec.to_builtins(verdict))


def decode_verdict(data: bytes) -> Verdict:
    """Raises DecodeError on anything but the canonical bytes of a Verdict."""
    if len(data) > MAX_VERDICT_BYTES:
        raise DecodeError(f"verdict: {len(data)} bytes, at most {MAX_VERDICT_BYTES} are allowed")
    try:
        verdict = msgspec.json.decode(data, type=Verdict)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DecodeError(f"verdict: {error}") from error
    if encode_verdict(verdict) != data:
        raise DecodeError("verdict: not in canonical form")
    return verdict


def decode_device_id(text: str) -> str:
    """The site's name of a device, when it is one topic level. Raises DecodeError."""
    try:
        return msgspec.convert(text, DeviceId)
    except msgspec.ValidationError as error:
        raise DecodeError(
            f"device id `{text[:80]}`: not one topic level", hint="letters, digits, - and _, at most 63 of them"
        ) from error
