"""The audit log's first format, for the slot that still writes it. Spec: docs/specs/audit-event.md (v1), The log.

The second is appliance.formats.audit_log, whose first entry names the digest of the last line here. One canonical
JSON line per entry; each names the SHA-256 of the line before it, so a change in the middle shows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec

from appliance.core.canonical import canonical_json
from appliance.core.clock import Moment
from appliance.core.errors import DecodeError, VerificationError
from appliance.formats.audit_event import AuditEvent, Category, WholeNumber, check_event
from appliance.formats.audit_log import Sender
from appliance.formats.device import FrozenStruct, Sha256Hex
from appliance.formats.verdict import BootId

FIRST_PREVIOUS = "0" * 64
MAX_LINE_BYTES = 8192


class LogEntry(FrozenStruct, frozen=True, kw_only=True):
    """One entry.

    sequence: from 1, without gaps. previous: SHA-256 of the line before, newline included; zeros in the first.
    boot_id, monotonic_us: order within a boot. wall_us: what the device's clock showed, in microseconds since 1970;
    never used for order. time_quality: `unproven` until a signed time source exists.
    """

    schema: Literal[1] = 1
    sequence: Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]
    previous: Sha256Hex
    boot_id: BootId
    monotonic_us: WholeNumber
    wall_us: WholeNumber
    time_quality: Literal["unproven"] = "unproven"
    sender: Sender
    category: Category
    event: AuditEvent


def make_entry(event: AuditEvent, sender: Sender, now: Moment, *, sequence: int, previous: str) -> LogEntry:
    """The entry for a checked event."""
    return LogEntry(
        sequence=sequence,
        previous=previous,
        boot_id=now.boot_id,
        monotonic_us=now.monotonic_us,
        wall_us=now.wall_us,
        sender=sender,
        category=event.category,
        event=event,
    )


def encode_entry(entry: LogEntry) -> bytes:
    """One line, newline included."""
    return canonical_json(msgspec.to_builtins(entry))


def line_digest(line: bytes) -> str:
    """What the next entry has to name as `previous`."""
    return hashlib.sha256(line).hexdigest()


def decode_entry(line: bytes) -> LogEntry:
    """line: with its newline. Raises DecodeError on anything but the canonical bytes of an entry."""
    if len(line) > MAX_LINE_BYTES:
        raise DecodeError(f"log entry: {len(line)} bytes, at most {MAX_LINE_BYTES} are allowed")
    try:
        entry = msgspec.json.decode(line, type=LogEntry)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DecodeError(f"log entry: {error}") from error
    if encode_entry(entry) != line:
        raise DecodeError("log entry: not in canonical form")
    if check_event(entry.event).category != entry.category:
        raise DecodeError(f"log entry: category {entry.category} is not the one of {entry.event.kind}")
    return entry


def verify_lines(lines: Iterable[bytes], *, after: tuple[int, str] | None = (0, FIRST_PREVIOUS)) -> list[LogEntry]:
    """Verify a run of consecutive lines and return their entries.

    after: sequence and digest of the line before the first; None trusts the first line's own word for both.
    Raises DecodeError or VerificationError, naming the entry.
    """
    entries = []
    for line in lines:
        entry = decode_entry(line)
        sequence, previous = (entry.sequence - 1, entry.previous) if after is None else after
        if entry.sequence != sequence + 1:
            raise VerificationError(f"audit log: entry {entry.sequence} follows entry {sequence}")
        if entry.previous != previous:
            raise VerificationError(f"audit log: entry {entry.sequence} does not continue the entry before it")
        after = (entry.sequence, line_digest(line))
        entries.append(entry)
    return entries
