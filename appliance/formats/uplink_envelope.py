"""The envelope of every message that leaves the device. Spec: docs/specs/uplink-envelope.md (v1).

(device, epoch, stream, sequence) names a message for ever; the same name always has the same bytes. How a message
travels (its lane, its age when it was sent) is in the user properties of MQTT 5, which may differ each time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from appliance.core.canonical import canonical_json
from appliance.core.clock import TimeQuality
from appliance.core.errors import DecodeError
from appliance.formats.device import FrozenStruct
from appliance.formats.verdict import BootId, Count, DeviceId

Stream = Literal["alarm", "data", "audit"]
"""Each stream counts its messages by itself, without holes: what is missing was lost, or a gap record says why."""

Lane = Literal["alarm", "live", "backlog", "audit"]
"""How a message travels. The stream `data` has two: `live`, accepted on this connection, and `backlog`, before it."""

LANES: dict[Stream, tuple[Lane, ...]] = {"alarm": ("alarm",), "data": ("live", "backlog"), "audit": ("audit",)}
"""The lanes in which messages of a stream may travel."""

MAX_BODY_BYTES = 48 << 10
ENVELOPE_BYTES = 1024  # what an envelope has around its body, at most
MAX_ENVELOPE_BYTES = MAX_BODY_BYTES + ENVELOPE_BYTES

JSON_CONTENT = "application/json"
BATCH_CONTENT = "application/vnd.edgeseal.batch+zstd"
BATCH_LEVEL, RECEIPT_LEVEL = "batch", "receipt"
CERTIFICATE_LEVEL, CERTIFICATE_REQUEST_LEVEL = "certificate", "certificate-request"
MAX_BATCH_MESSAGES = 256
MAX_BATCH_BYTES = 256 << 10  # before compression; a writer keeps to it
MAX_BATCH_DECODED = 1 << 20  # a reader takes no more
UNKNOWN_AGE = "unknown"

Epoch = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}(?!\n)$", description="made with the spool's file")]
Kind = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9-]{0,30}(?!\n)$", description="what body is")]
Sequence = Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1, description="from 1 in its stream, rising by 1")]
Boot = Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1, description="counts the boots that the spool has seen")]


class Accepted(FrozenStruct, frozen=True, kw_only=True):
    """When the spool accepted the message: the device's boot, the time since that boot, and what its clock said.

    monotonic_us: since boot, suspend included. wall_us: since 1970, worth what quality says.
    """

    boot: Boot
    boot_id: BootId
    monotonic_us: Count
    quality: TimeQuality
    wall_us: Count


class Envelope(FrozenStruct, frozen=True, kw_only=True):
    """One message. body: canonical JSON of an object, final newline included, as the kind's decoder wants it."""

    accepted: Accepted
    body: bytes
    device: DeviceId
    epoch: Epoch
    kind: Kind
    schema: Literal[1] = 1
    sequence: Sequence
    stream: Stream


class _Wire(FrozenStruct, frozen=True, kw_only=True):
    accepted: Accepted
    body: dict[str, Any]
    device: DeviceId
    epoch: Epoch
    kind: Kind
    schema: Literal[1]
    sequence: Sequence
    stream: Stream


@dataclass(frozen=True, slots=True)
class Told:
    """What the user properties of a message say. age_ms: when it was sent; None: nobody could tell."""

    device: str
    epoch: str
    stream: Stream
    sequence: int
    lane: Lane
    kind: str
    age_ms: int | None


def topic_of(namespace: str, device: str, level: str) -> str:
    """Where a message belongs. namespace: levels with `/` between. level: its kind, or one of the *_LEVEL names."""
    return f"{namespace}/{device}/{level}"


def assemble(
    *,
    device: str,
    epoch: str,
    stream: Stream,
    sequence: int,
    kind: str,
    boot: int,
    boot_id: str,
    monotonic_us: int,
    wall_us: int,
    quality: TimeQuality,
    body: bytes,
) -> bytes:
    """The bytes of an envelope from values that are known to be good: what canonical JSON would give, but fast.

    body: canonical JSON with its final newline.
    """
    head = (
        f'{{"accepted":{{"boot":{boot},"boot_id":"{boot_id}","monotonic_us":{monotonic_us},'
        f'"quality":"{quality}","wall_us":{wall_us}}},"body":'
    )
    tail = (
        f',"device":"{device}","epoch":"{epoch}","kind":"{kind}","schema":1,'
        f'"sequence":{sequence},"stream":"{stream}"}}\n'
    )
    return b"".join((head.encode(), body.removesuffix(b"\n"), tail.encode()))


def encode_envelope(envelope: Envelope) -> bytes:
    """The canonical bytes of `envelope`."""
    accepted = envelope.accepted
    return assemble(
        device=envelope.device,
        epoch=envelope.epoch,
        stream=envelope.stream,
        sequence=envelope.sequence,
        kind=envelope.kind,
        boot=accepted.boot,
        boot_id=accepted.boot_id,
        monotonic_us=accepted.monotonic_us,
        wall_us=accepted.wall_us,
        quality=accepted.quality,
        body=envelope.body,
    )


def decode_envelope(data: bytes) -> Envelope:
    """Raises DecodeError on anything but the canonical bytes of an Envelope. The body's own schema is not checked."""
    if len(data) > MAX_ENVELOPE_BYTES:
        raise DecodeError(f"envelope: {len(data)} bytes, at most {MAX_ENVELOPE_BYTES} are allowed")
    try:
        wire = msgspec.json.decode(data, type=_Wire)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(f"envelope: {error}") from error
    try:
        body = canonical_json(wire.body)
    except (TypeError, ValueError, RecursionError) as error:
        raise DecodeError(f"envelope: body: {error}") from error
    if len(body) > MAX_BODY_BYTES:
        raise DecodeError(f"envelope: a body of {len(body)} bytes, at most {MAX_BODY_BYTES} are allowed")
    envelope = Envelope(
        accepted=wire.accepted,
        body=body,
        device=wire.device,
        epoch=wire.epoch,
        kind=wire.kind,
        sequence=wire.sequence,
        stream=wire.stream,
    )
    if encode_envelope(envelope) != data:
        raise DecodeError("envelope: not in canonical form")
    return envelope


def user_properties(
    *,
    device: str,
    epoch: str,
    stream: Stream,
    sequence: int,
    lane: Lane,
    kind: str,
    boot: int,
    monotonic_us: int,
    quality: TimeQuality,
    age_ms: int | None,
) -> tuple[tuple[str, str], ...]:
    """The user properties of one message, in order. age_ms: at sending; None where nobody can tell."""
    return (
        ("device", device),
        ("epoch", epoch),
        ("stream", stream),
        ("sequence", str(sequence)),
        ("lane", lane),
        ("kind", kind),
        ("boot", str(boot)),
        ("monotonic-us", str(monotonic_us)),
        ("quality", quality),
        ("age-ms", UNKNOWN_AGE if age_ms is None else str(age_ms)),
    )


class _Properties(FrozenStruct, frozen=True, kw_only=True, rename="kebab"):
    device: DeviceId
    epoch: Epoch
    stream: Stream
    sequence: Sequence
    lane: Lane
    kind: Kind
    boot: Boot
    monotonic_us: Count
    quality: TimeQuality
    age_ms: Count | Literal["unknown"]


def decode_properties(pairs: Iterable[tuple[str, str]]) -> Told:
    """Raises DecodeError on anything but the user properties of one message."""
    try:
        told = msgspec.convert(_unique(pairs), _Properties, strict=False)
    except msgspec.ValidationError as error:
        raise DecodeError(f"user properties: {error}") from error
    if told.lane not in LANES[told.stream]:
        raise DecodeError(f"user properties: stream `{told.stream}` has no lane `{told.lane}`")
    age_ms = told.age_ms if isinstance(told.age_ms, int) else None
    return Told(told.device, told.epoch, told.stream, told.sequence, told.lane, told.kind, age_ms)


def _unique(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise DecodeError(f"user properties: `{name[:40]}` is there twice")
        found[name] = value
    return found
