"""The uplink's local socket. Spec: docs/specs/uplink-socket.md (v1).

One SEQPACKET packet is one message, JSON. A producer may send many before it reads an answer; answers come in order.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from appliance.core.errors import DecodeError
from appliance.formats.device import FrozenStruct
from appliance.formats.update_report import UpdateReport
from appliance.formats.verdict import MAX_VERDICT_BYTES, Count, Verdict

UPLINK_SOCKET = "/run/edgeseal-uplink/uplink.sock"
MAX_PACKET = MAX_VERDICT_BYTES + 256

RequestId = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
RefusalReason = Literal["malformed", "not-allowed", "too-large", "full"]


class PublishVerdict(FrozenStruct, frozen=True, kw_only=True, tag="verdict", tag_field="kind"):
    """Spool this verdict and publish it."""

    id: RequestId
    verdict: Verdict


class PublishUpdateReport(FrozenStruct, frozen=True, kw_only=True, tag="update", tag_field="kind"):
    """Spool this report and publish it."""

    id: RequestId
    report: UpdateReport


class AskStatus(FrozenStruct, frozen=True, kw_only=True, tag="status", tag_field="kind"):
    """Tell how the uplink fares."""

    id: RequestId


class Accepted(FrozenStruct, frozen=True, kw_only=True, tag="accepted", tag_field="kind"):
    """The message is durable in the spool under this sequence number (from 1, rising, unique in its spool)."""

    id: RequestId
    sequence: Count


class Refused(FrozenStruct, frozen=True, kw_only=True, tag="refused", tag_field="kind"):
    """Nothing was kept. id: of the request, or 0 when it could not be read. detail: for people."""

    id: RequestId
    reason: RefusalReason
    detail: str


class Status(FrozenStruct, frozen=True, kw_only=True, tag="status", tag_field="kind"):
    """connected: the broker accepted us. spooled: messages that wait.

    Since start: accepted: verdicts that were kept. acknowledged: by the broker. refused: messages of the producers.
    """

    id: RequestId
    connected: bool
    spooled: Count
    spooled_bytes: Count
    accepted: Count
    acknowledged: Count
    refused: Count


UplinkRequest = PublishVerdict | PublishUpdateReport | AskStatus
UplinkAnswer = Accepted | Refused | Status


def encode_uplink_message(message: UplinkRequest | UplinkAnswer) -> bytes:
    """One packet."""
    return msgspec.json.encode(message)


def decode_uplink_request(data: bytes) -> UplinkRequest:
    """Raises DecodeError."""
    request: UplinkRequest = _decode(data, UplinkRequest)
    return request


def decode_uplink_answer(data: bytes) -> UplinkAnswer:
    """Raises DecodeError."""
    answer: UplinkAnswer = _decode(data, UplinkAnswer)
    return answer


def _decode(data: bytes, kind: Any) -> Any:
    if len(data) > MAX_PACKET:
        raise DecodeError(f"uplink message: {len(data)} bytes, at most {MAX_PACKET} are allowed")
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DecodeError(f"uplink message: {error}") from error
