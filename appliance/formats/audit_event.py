"""The audit socket and its catalogue of events. Spec: docs/specs/audit-event.md (v1).

One SEQPACKET packet is one event as JSON. Who sent it is not in it: the writer asks the kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from appliance.core.errors import DecodeError
from appliance.formats.device import FrozenStruct

AUDIT_SOCKET = "/run/edgeseal-audit/audit.sock"
MAX_EVENT_BYTES = 4096

# IEC 62443-4-2 CR 2.8 names these categories.
Category = Literal[
    "access-control", "request-error", "control-system", "backup-restore", "configuration-change", "audit-log"
]
FieldType = Literal["text", "count", "flag"]
EventResult = Literal["success", "failure"]
Text = Annotated[str, msgspec.Meta(max_length=1024)]
WholeNumber = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
FieldName = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,31}(?!\n)$")]


@dataclass(frozen=True)
class EventKind:
    """One line of the catalogue. sentence: for people; {name} stands for a field. writer_only: the log's own."""

    category: Category
    sentence: str
    fields: dict[str, FieldType]
    writer_only: bool = False


CATALOGUE: dict[str, EventKind] = {
    "boot-started": EventKind(
        "control-system",
        "The device booted version {version} of {product}.",
        {"product": "text", "version": "count", "development": "flag"},
        writer_only=True,
    ),
    "boot-judged": EventKind(
        "control-system", "The boot was judged: {reason}.", {"reason": "text", "seconds": "count"}
    ),
    "service-started": EventKind("control-system", "{service} is ready.", {"service": "text"}),
    "service-stopped": EventKind(
        "control-system", "{service} stopped: {reason}.", {"service": "text", "reason": "text"}
    ),
    "model-loaded": EventKind(
        "configuration-change",
        "Model {model} ({sha256}) was loaded on {execution_provider}.",
        {"model": "text", "sha256": "text", "execution_provider": "text"},
    ),
    "source-opened": EventKind("control-system", "Frames are read from {source}.", {"source": "text"}),
    "source-failed": EventKind(
        "request-error", "Frames from {source} were refused: {reason}.", {"source": "text", "reason": "text"}
    ),
    "verdicts-dropped": EventKind(
        "control-system",
        "{count} verdicts were not accepted by the uplink: {reason}.",
        {"count": "count", "reason": "text"},
    ),
    "deadline-missed": EventKind(
        "control-system",
        "A frame took {latency_us} us; {deadline_ms} ms are allowed.",
        {"latency_us": "count", "deadline_ms": "count"},
    ),
    "broker-connected": EventKind("access-control", "The broker {broker} accepted the device.", {"broker": "text"}),
    "broker-lost": EventKind(
        "access-control", "The broker {broker} cannot be used: {reason}.", {"broker": "text", "reason": "text"}
    ),
    "uplink-refused": EventKind(
        "request-error",
        "A message of uid {uid} was refused: {reason}.",
        {"uid": "count", "reason": "text"},
    ),
    "spool-full": EventKind(
        "control-system", "The spool is full at {bytes} bytes; new messages are refused.", {"bytes": "count"}
    ),
    "spool-replaced": EventKind(
        "control-system", "The spool was unreadable and was put aside: {reason}.", {"reason": "text"}
    ),
    "recovery-key-escrowed": EventKind(
        "backup-restore",
        "A recovery key for volume {volume} was made and encrypted to key {key_sha256}.",
        {"volume": "text", "key_sha256": "text"},
    ),
    "recovery-key-failed": EventKind("backup-restore", "No recovery key could be made: {reason}.", {"reason": "text"}),
    # Updates. transaction: 16 hex digits, the same from the decision to the end, over reboots too.
    "update-checked": EventKind(
        "control-system",
        "Updates were looked for at {source}: {outcome}: {reason}.",
        {"source": "text", "outcome": "text", "reason": "text", "version": "count"},
    ),
    "update-decided": EventKind(
        "configuration-change",
        "Version {version} will be installed: policy {policy_sequence}, change {ticket}.",
        {"transaction": "text", "version": "count", "release": "text", "policy_sequence": "count", "ticket": "text"},
    ),
    "freshness-unproven": EventKind(
        "access-control",
        "Nothing proves that version {version} is the newest: metadata lapses at {expires}, it is {t_low} or later.",
        {"transaction": "text", "version": "count", "expires": "count", "t_low": "count"},
    ),
    "update-resumed": EventKind(
        "control-system",
        "Work on version {version}, which was {step}, goes on.",
        {"transaction": "text", "version": "count", "step": "text"},
    ),
    "update-interrupted": EventKind(
        "control-system",
        "Work on version {version} stopped: {reason}.",
        {"transaction": "text", "version": "count", "reason": "text"},
    ),
    "update-staged": EventKind(
        "configuration-change",
        "Version {version} is in slot {slot}: {fetched} bytes fetched, {copied} copied, in {seconds} s.",
        {
            "transaction": "text",
            "version": "count",
            "slot": "text",
            "fetched": "count",
            "copied": "count",
            "seconds": "count",
        },
    ),
    "update-activated": EventKind(
        "configuration-change",
        "Version {version} in slot {slot} is the next to boot, {tries} times at most.",
        {"transaction": "text", "version": "count", "slot": "text", "tries": "count"},
    ),
    "update-trial-booted": EventKind(
        "control-system", "Version {version} runs on trial.", {"transaction": "text", "version": "count"}
    ),
    "update-confirmed": EventKind(
        "configuration-change",
        "Version {version} is confirmed: {reason}.",
        {"transaction": "text", "version": "count", "reason": "text"},
    ),
    "update-fell-back": EventKind(
        "configuration-change",
        "Version {version} was left for version {running}: {reason}.",
        {"transaction": "text", "version": "count", "running": "count", "reason": "text"},
    ),
    "update-state-replaced": EventKind(
        "control-system", "The update state was unreadable and was put aside: {reason}.", {"reason": "text"}
    ),
    "security-epoch-raised": EventKind(
        "configuration-change",
        "The security epoch is {epoch}: nothing below it is installed any more. In the TPM: {tpm}.",
        {"epoch": "count", "tpm": "text"},
    ),
    "security-epoch-unreadable": EventKind(
        "control-system", "The TPM does not tell its security epoch: {reason}.", {"reason": "text"}
    ),
    "boot-entry-restored": EventKind(
        "backup-restore", "The boot entry of version {version} was written again.", {"version": "count"}
    ),
    "repository-unreachable": EventKind(
        "control-system",
        "The repositories cannot be reached by {source}, {count} attempts: {reason}.",
        {"source": "text", "count": "count", "reason": "text"},
    ),
    # Models, as updates: one transaction from the decision until the version is here.
    "model-checked": EventKind(
        "control-system",
        "Model {model} was looked for at {source}: {outcome}: {reason}.",
        {"model": "text", "source": "text", "outcome": "text", "reason": "text", "version": "count"},
    ),
    "model-decided": EventKind(
        "configuration-change",
        "Version {version} of model {model} will be fetched: policy {policy_sequence}, change {ticket}.",
        {
            "transaction": "text",
            "model": "text",
            "version": "count",
            "release": "text",
            "policy_sequence": "count",
            "ticket": "text",
        },
    ),
    "model-freshness-unproven": EventKind(
        "access-control",
        "Nothing proves that version {version} of model {model} is the newest: metadata lapses at {expires}, it is "
        "{t_low} or later.",
        {"transaction": "text", "model": "text", "version": "count", "expires": "count", "t_low": "count"},
    ),
    "model-resumed": EventKind(
        "control-system",
        "Work on version {version} of model {model} goes on.",
        {"transaction": "text", "model": "text", "version": "count"},
    ),
    "model-interrupted": EventKind(
        "control-system",
        "Work on version {version} of model {model} stopped: {reason}.",
        {"transaction": "text", "model": "text", "version": "count", "reason": "text"},
    ),
    "model-dropped": EventKind(
        "configuration-change",
        "Version {version} of model {model} is not wanted any more: {reason}.",
        {"transaction": "text", "model": "text", "version": "count", "reason": "text"},
    ),
    "model-stored": EventKind(
        "configuration-change",
        "Version {version} of model {model} ({sha256}) is here: {fetched} bytes fetched, in {seconds} s.",
        {
            "transaction": "text",
            "model": "text",
            "version": "count",
            "sha256": "text",
            "fetched": "count",
            "seconds": "count",
        },
    ),
    "medium-seen": EventKind("access-control", "A medium with updates is there: {medium}.", {"medium": "text"}),
    # Zones and conduits.
    "ruleset-loaded": EventKind(
        "configuration-change",
        "The sealed ruleset {sha256} is in force: {conduits} conduits, {closed} of them wait for the site's addresses.",
        {"sha256": "text", "conduits": "count", "closed": "count"},
    ),
    "ruleset-load-failed": EventKind(
        "configuration-change",
        "The sealed ruleset {sha256} is not in force: {reason}.",
        {"sha256": "text", "reason": "text"},
    ),
    "ruleset-drift": EventKind(
        "configuration-change",
        "The live ruleset was not the sealed one, {count} differences: {differences}. Changed by {by}; {untold} more"
        " such events before were not recorded.",
        {"differences": "text", "count": "count", "by": "text", "untold": "count"},
    ),
    "ruleset-restored": EventKind(
        "configuration-change",
        "The sealed ruleset is in force again, {milliseconds} ms after the difference was seen.",
        {"milliseconds": "count"},
    ),
    "slot-filled": EventKind(
        "configuration-change",
        "The site filled the slot {slot} with {addresses}.",
        {"slot": "text", "addresses": "text"},
    ),
    "slots-refused": EventKind(
        "configuration-change", "What the site fills slots with was refused: {reason}.", {"reason": "text"}
    ),
    "conduit-drop": EventKind(
        "access-control",
        "{count} packets were dropped ({reason}) on {interface}: {protocol} from {source} to {destination} port {port};"
        " {untold} more before were not recorded.",
        {
            "reason": "text",
            "interface": "text",
            "protocol": "text",
            "source": "text",
            "destination": "text",
            "port": "count",
            "count": "count",
            "untold": "count",
        },
    ),
    "drops-unseen": EventKind("access-control", "Dropped packets cannot be told of: {reason}.", {"reason": "text"}),
    "log-opened": EventKind(
        "audit-log",
        "The log was opened at entry {sequence}; the writer before this one ended {ending}.",
        {"sequence": "count", "ending": "text"},
        writer_only=True,
    ),
    "log-closed": EventKind("audit-log", "The log was closed.", {}, writer_only=True),
    "log-torn-tail": EventKind(
        "audit-log", "An unfinished last entry of {bytes} bytes was cut off.", {"bytes": "count"}, writer_only=True
    ),
    "log-replaced": EventKind(
        "audit-log",
        "The log did not verify and was put aside as {file}: {reason}.",
        {"file": "text", "reason": "text"},
        writer_only=True,
    ),
    "log-full": EventKind(
        "audit-log", "The log is full at {bytes} bytes; new events are refused.", {"bytes": "count"}, writer_only=True
    ),
    "events-refused": EventKind(
        "audit-log", "{count} events were refused: {reason}.", {"count": "count", "reason": "text"}, writer_only=True
    ),
}


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


class NotRecorded(FrozenStruct, frozen=True, kw_only=True, tag="refused", tag_field="kind"):
    """Nothing was written."""

    reason: Literal["malformed", "not-allowed", "too-large", "full"]
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
