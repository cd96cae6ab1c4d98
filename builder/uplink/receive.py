"""From an MQTT message to the messages in it: the reader of docs/specs/uplink-envelope.md. Nothing is trusted.

The identity stands twice, in the envelope and in the user properties; both must say the same, and the topic too.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import msgspec

from appliance.core.errors import DecodeError
from appliance.formats.device import FrozenStruct
from appliance.formats.uplink_envelope import (
    BATCH_CONTENT,
    BATCH_LEVEL,
    JSON_CONTENT,
    LANES,
    MAX_BATCH_MESSAGES,
    Envelope,
    Epoch,
    Lane,
    Sequence,
    Stream,
    decode_envelope,
    decode_properties,
)
from appliance.formats.verdict import DeviceId
from builder.uplink.unpack import unpack

Properties = Iterable[tuple[str, str]]


@dataclass(frozen=True)
class Message:
    """One message of a device. age_ms: when it was sent; None where nobody could tell, and in a batch."""

    envelope: Envelope
    lane: Lane
    age_ms: int | None
    batched: bool


class _BatchProperties(FrozenStruct, frozen=True, kw_only=True):
    device: DeviceId
    epoch: Epoch
    stream: Stream
    lane: Lane
    first: Sequence
    last: Sequence
    count: Annotated[int, msgspec.Meta(ge=1, le=MAX_BATCH_MESSAGES)]


def is_ours(content_type: str, properties: Properties) -> bool:
    """Whether this claims to be a message of a device: others may use the same broker."""
    return content_type == BATCH_CONTENT or (
        content_type == JSON_CONTENT and {"device", "epoch", "stream", "sequence"} <= {name for name, _ in properties}
    )


def read_message(topic: str, payload: bytes, content_type: str, properties: Properties) -> tuple[Message, ...]:
    """The messages in it, in order: one, or those of a batch. Raises DecodeError."""
    if content_type == BATCH_CONTENT:
        return _read_batch(topic, payload, properties)
    if content_type != JSON_CONTENT:
        raise DecodeError(f"content type `{content_type[:80]}`, neither {JSON_CONTENT} nor {BATCH_CONTENT}")
    envelope, told = decode_envelope(payload), decode_properties(properties)
    inside = (envelope.device, envelope.epoch, envelope.stream, envelope.sequence, envelope.kind)
    if inside != (told.device, told.epoch, told.stream, told.sequence, told.kind):
        raise DecodeError("the envelope and the user properties name different messages")
    _check_topic(topic, envelope.device, envelope.kind)
    return (Message(envelope, told.lane, told.age_ms, batched=False),)


def _read_batch(topic: str, payload: bytes, properties: Properties) -> tuple[Message, ...]:
    told = _batch_properties(properties)
    _check_topic(topic, told.device, BATCH_LEVEL)
    envelopes = tuple(map(decode_envelope, unpack(payload)))
    for envelope in envelopes:
        if (envelope.device, envelope.epoch, envelope.stream) != (told.device, told.epoch, told.stream):
            raise DecodeError("batch: a message of another device, epoch or stream than the user properties say")
    numbers = [envelope.sequence for envelope in envelopes]
    if any(later <= earlier for earlier, later in itertools.pairwise(numbers)):
        raise DecodeError("batch: its sequences do not rise")
    if (numbers[0], numbers[-1], len(numbers)) != (told.first, told.last, told.count):
        raise DecodeError(
            f"batch: {len(numbers)} messages from {numbers[0]} to {numbers[-1]}, "
            f"but the user properties say {told.count} from {told.first} to {told.last}"
        )
    return tuple(Message(envelope, told.lane, None, batched=True) for envelope in envelopes)


def _batch_properties(properties: Properties) -> _BatchProperties:
    pairs = list(properties)
    if len(dict(pairs)) != len(pairs):
        raise DecodeError("user properties: one of them is there twice")
    try:
        told = msgspec.convert(dict(pairs), _BatchProperties, strict=False)
    except msgspec.ValidationError as error:
        raise DecodeError(f"user properties: {error}") from error
    if told.lane not in LANES[told.stream]:
        raise DecodeError(f"user properties: stream `{told.stream}` has no lane `{told.lane}`")
    return told


def _check_topic(topic: str, device: str, level: str) -> None:
    if not topic.endswith(f"/{device}/{level}"):
        raise DecodeError(f"topic `{topic[:200]}` does not end in {device}/{level}")
