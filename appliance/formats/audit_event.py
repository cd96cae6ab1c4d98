"""The audit socket. Spec: docs/specs/audit-event.md (v2); what may be said is in appliance/formats/audit_catalogue.py.

One SEQPACKET packet is one event as JSON. Who sent it is not in it: the writer asks the kernel.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from appliance.core.errors import DecodeError
from appliance.formats.audit_catalogue import CATALOGUE as CATALOGUE
from appliance.formats.audit_kind import Category as Category
from appliance.formats.audit_kind import EventKind as EventKind
from appliance.formats.audit_kind import FieldType
from appliance.formats.device import FrozenStruct

AUDIT_SOCKET = "/run/edgeseal-audit/audit.sock"
AUDIT_TAKES_EVENTS = "/run/edgeseal-audit-state/takes-events"
"""A file that is there while the log runs and has room: who must not act without a record looks for it first."""
MAX_EVENT_BYTES = 4096

EventResult = Literal["success", "failure"]
Text = Annotated[str, msgspec.Meta(max_length=1024)]
WholeNumber = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
FieldName = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,31}(?!\n)$")]


class AuditEvent(FrozenStruct, frozen=True, kw_only=True):
    """One event: a kind of the catalogue, how it came out, and exactly the fields that the catalogue names."""

    schema: Literal[1] = 1
    kind: Annotated[str, msgspec.Meta(max_length=64)]
    result: EventResult
    fields: dict[FieldName, Text | WholeNumber | bool] = msgspec.field(default_factory=dict)

    def sentence(self) -> str:
        """The event in words."""
        return CATALOGUE[self.kind].sentence.format(**self.fields)

    @property
    def category(self) -> Category:
        """Category by CR 2.8."""
        return CATALOGUE[self.kind].category


class Recorded(FrozenStruct, frozen=True, kw_only=True, tag="recorded", tag_field="kind"):
    """The event is durable, as the log's entry `sequence`."""

    sequence: WholeNumber


Refusal = Literal["malformed", "not-allowed", "too-large", "rate", "full"]


class NotRecorded(FrozenStruct, frozen=True, kw_only=True, tag="refused", tag_field="kind"):
    """Nothing was written."""

    reason: Refusal
    detail: str


AuditAnswer = Recorded | NotRecorded


def check_event(event: AuditEvent) -> AuditEvent:
    """Hold `event` against the catalogue and return it. Raises DecodeError."""
    kind = CATALOGUE.get(event.kind)
    if kind is None:
        raise DecodeError(f"audit event: no kind `{event.kind}` in the catalogue")
    for name, value in event.fields.items():
        expected = kind.fields.get(name)
        if expected is None:
            raise DecodeError(f"audit event: {event.kind} has no field `{name}`")
        if _type_of(value) != expected:
            raise DecodeError(f"audit event: field `{name}` of {event.kind} is a {expected}, got a {_type_of(value)}")
    for name in kind.fields:
        if name not in event.fields:
            raise DecodeError(f"audit event: {event.kind} lacks the field `{name}`")
    return event


def encode_event(event: AuditEvent) -> bytes:
    """One packet. Raises DecodeError when the event is not in the catalogue or too large."""
    data = msgspec.json.encode(check_event(event))
    if len(data) > MAX_EVENT_BYTES:
        raise DecodeError(f"audit event: {len(data)} bytes, at most {MAX_EVENT_BYTES} are allowed")
    return data


def decode_event(data: bytes) -> AuditEvent:
    """Raises DecodeError."""
    if len(data) > MAX_EVENT_BYTES:
        raise DecodeError(f"audit event: {len(data)} bytes, at most {MAX_EVENT_BYTES} are allowed")
    return check_event(_decode(data, AuditEvent))


def encode_audit_answer(answer: AuditAnswer) -> bytes:
    """One packet."""
    return msgspec.json.encode(answer)


def decode_audit_answer(data: bytes) -> AuditAnswer:
    """Raises DecodeError."""
    answer: AuditAnswer = _decode(data, AuditAnswer)
    return answer


def _type_of(value: str | int | bool) -> FieldType:
    if isinstance(value, bool):
        return "flag"
    return "count" if isinstance(value, int) else "text"


def _decode(data: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DecodeError(f"audit event: {error}") from error
