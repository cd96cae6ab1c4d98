"""The uplink's local socket. Spec: docs/specs/uplink-socket.md (v2).

One SEQPACKET packet is one message, JSON. A producer may send many before it reads an answer; answers come in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from appliance.core.errors import DecodeError
from appliance.formats.alarm import MAX_ALARM_BYTES, Alarm
from appliance.formats.audit_part import MAX_PART_BYTES, AuditPart, check_part
from appliance.formats.device import FrozenStruct
from appliance.formats.update_report import MAX_REPORT_BYTES, UpdateReport
from appliance.formats.uplink_envelope import Epoch, Lane, Stream
from appliance.formats.verdict import MAX_VERDICT_BYTES, Count, Verdict

UPLINK_SOCKET = "/run/edgeseal-uplink/uplink.sock"
AROUND_BODY = 256  # bytes that a request may have beside its body
MAX_PACKET = MAX_PART_BYTES + AROUND_BODY
MAX_ANSWER = 1 << 16

RequestId = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
RefusalReason = Literal["malformed", "not-allowed", "too-large", "full", "unwritable"]


@dataclass(frozen=True)
class Kind:
    """stream: where it counts. limit: bytes of the body's canonical form. what: for people."""

    stream: Stream
    limit: int
    what: str


KINDS: dict[str, Kind] = {
    "verdict": Kind("data", MAX_VERDICT_BYTES, "verdicts"),
    "update": Kind("data", MAX_REPORT_BYTES, "reports of updates"),
    "alarm": Kind("alarm", MAX_ALARM_BYTES, "alarms"),
    "audit": Kind("audit", MAX_PART_BYTES, "parts of the audit log"),
}
"""What producers may hand in. A kind is the last level of its topic; who may send it, the service's settings say."""


class PublishVerdict(FrozenStruct, frozen=True, kw_only=True, tag="verdict", tag_field="kind"):
    """Spool this verdict and publish it."""

    id: RequestId
    verdict: Verdict


class PublishUpdateReport(FrozenStruct, frozen=True, kw_only=True, tag="update", tag_field="kind"):
    """Spool this report and publish it."""

    id: RequestId
    report: UpdateReport


class PublishAlarm(FrozenStruct, frozen=True, kw_only=True, tag="alarm", tag_field="kind"):
    """Spool this alarm and publish it before everything else."""

    id: RequestId
    alarm: Alarm


class PublishAuditPart(FrozenStruct, frozen=True, kw_only=True, tag="audit", tag_field="kind"):
    """Spool this part of the audit log and publish it."""

    id: RequestId
    part: AuditPart


class AskStatus(FrozenStruct, frozen=True, kw_only=True, tag="status", tag_field="kind"):
    """Tell how the uplink fares."""

    id: RequestId


class Accepted(FrozenStruct, frozen=True, kw_only=True, tag="accepted", tag_field="kind"):
    """The message is durable in the spool, as this sequence of this stream (from 1, rising by one, never reused)."""

    id: RequestId
    stream: Stream = "data"
    sequence: Count


class Refused(FrozenStruct, frozen=True, kw_only=True, tag="refused", tag_field="kind"):
    """Nothing was kept. id: of the request, or 0 when it could not be read. detail: for people."""

    id: RequestId
    reason: RefusalReason
    detail: str


class StreamStatus(FrozenStruct, frozen=True, kw_only=True):
    """rows, bytes: in the spool; budget: of bytes. accepted: messages since start; next: sequence of the next one."""

    rows: Count
    bytes: Count
    budget: Count
    accepted: Count
    next: Count


class Status(FrozenStruct, frozen=True, kw_only=True, tag="status", tag_field="kind"):
    """connected: the broker accepted us. spooled: messages that wait. epoch: of the spool. broker: the last one.

    waiting: messages not sent yet on this connection, by lane.
    Since start: accepted: verdicts that were kept. acknowledged: messages, by the broker. refused: messages of the
    producers, and refusals by reason. dropped, expired, undeliverable: given up. resent: sent more than once.
    connects: connections. connected_us: monotonic time of the last one, 0 for none.
    """

    id: RequestId
    connected: bool
    spooled: Count
    spooled_bytes: Count
    accepted: Count
    acknowledged: Count
    refused: Count
    epoch: Epoch | None = None
    broker: str = ""
    streams: dict[Stream, StreamStatus] = msgspec.field(default_factory=dict)
    waiting: dict[Lane, Count] = msgspec.field(default_factory=dict)
    refusals: dict[RefusalReason, Count] = msgspec.field(default_factory=dict)
    dropped: Count = 0
    expired: Count = 0
    undeliverable: Count = 0
    resent: Count = 0
    connects: Count = 0
    connected_us: Count = 0


PublishRequest = PublishVerdict | PublishUpdateReport | PublishAlarm | PublishAuditPart
UplinkRequest = PublishRequest | AskStatus
UplinkAnswer = Accepted | Refused | Status
Body = Verdict | UpdateReport | Alarm | AuditPart

_ENCODER = msgspec.json.Encoder()
_CANONICAL = msgspec.json.Encoder(order="sorted")
_REQUESTS: msgspec.json.Decoder[UplinkRequest] = msgspec.json.Decoder(UplinkRequest)
_ANSWERS: msgspec.json.Decoder[UplinkAnswer] = msgspec.json.Decoder(UplinkAnswer)


def body_of(request: PublishRequest) -> tuple[str, Body]:
    """(kind, body) of a request."""
    if isinstance(request, PublishVerdict):
        return "verdict", request.verdict
    if isinstance(request, PublishUpdateReport):
        return "update", request.report
    if isinstance(request, PublishAlarm):
        return "alarm", request.alarm
    return "audit", request.part


def encode_body(body: Body) -> bytes:
    """The canonical bytes of a body: what canonical_json gives, many times faster. Bodies have no floats."""
    return _CANONICAL.encode(body) + b"\n"


def encode_uplink_message(message: UplinkRequest | UplinkAnswer) -> bytes:
    """One packet."""
    return _ENCODER.encode(message)


def decode_uplink_request(data: bytes) -> UplinkRequest:
    """Raises DecodeError."""
    if len(data) > MAX_PACKET:
        raise DecodeError(f"uplink message: {len(data)} bytes, at most {MAX_PACKET} are allowed")
    request: UplinkRequest = _decode(data, _REQUESTS)
    if isinstance(request, PublishAuditPart):
        check_part(request.part)
    return request


def decode_uplink_answer(data: bytes) -> UplinkAnswer:
    """Raises DecodeError."""
    if len(data) > MAX_ANSWER:
        raise DecodeError(f"uplink message: {len(data)} bytes, at most {MAX_ANSWER} are allowed")
    answer: UplinkAnswer = _decode(data, _ANSWERS)
    return answer


def _decode(data: bytes, decoder: Any) -> Any:
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DecodeError(f"uplink message: {error}") from error
    except RecursionError as error:
        raise DecodeError("uplink message: nested too deeply") from error
