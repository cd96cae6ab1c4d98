"""One entry of the audit log. Spec: docs/specs/audit-log.md (v2), section Entry. Pure.

The log itself is a tree (merkle, tlog_tiles, checkpoint); an entry is the canonical JSON of a LogEntry, final newline
included. Version 1, lines in one file, is appliance.formats.audit_log_v1.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from appliance.core.clock import Moment, TimeQuality
from appliance.core.errors import DecodeError
from appliance.formats.audit_event import AuditEvent, Category, WholeNumber
from appliance.formats.device import FrozenStruct
from appliance.formats.verdict import BootId

MAX_ENTRY_BYTES = 8192


class Sender(FrozenStruct, frozen=True, kw_only=True):
    """Who sent the event, as the kernel told the writer. unit: of systemd, empty when there is none."""

    uid: WholeNumber
    pid: WholeNumber
    unit: Annotated[str, msgspec.Meta(max_length=256)]


class LogEntry(FrozenStruct, frozen=True, kw_only=True):
    """One entry.

    index: its place in the log, from 0. boot: counts the boots that this log has seen, from 1. boot_id, monotonic_us:
    order within a boot. wall_us: what the device's clock showed, in microseconds since 1970; time_quality: what that is
    worth; never used for order. category: of the event's kind when it was written.
    """

    schema: Literal[2] = 2
    index: WholeNumber
    boot: Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]
    boot_id: BootId
    monotonic_us: WholeNumber
    wall_us: WholeNumber
    time_quality: TimeQuality
    sender: Sender
    category: Category
    event: AuditEvent


_ENCODER = msgspec.json.Encoder(order="sorted")
_DECODER = msgspec.json.Decoder(LogEntry)


def make_entry(event: AuditEvent, sender: Sender, now: Moment, *, index: int, boot: int) -> LogEntry:
    """The entry for a checked event."""
    return LogEntry(
        index=index,
        boot=boot,
        boot_id=now.boot_id,
        monotonic_us=now.monotonic_us,
        wall_us=now.wall_us,
        time_quality=now.quality,
        sender=sender,
        category=event.category,
        event=event,
    )


def encode_entry(entry: LogEntry) -> bytes:
    """The canonical bytes. Raises DecodeError when they are too many."""
    data = _ENCODER.encode(entry) + b"\n"
    if len(data) > MAX_ENTRY_BYTES:
        raise DecodeError(f"log entry: {len(data)} bytes, at most {MAX_ENTRY_BYTES} are allowed")
    return data


def decode_entry(data: bytes, *, index: int) -> LogEntry:
    """index: where the log has it. Raises DecodeError on anything but the canonical bytes of an entry for that place.

    The event is not held against the catalogue: a later version may have more kinds than this one knows.
    """
    if len(data) > MAX_ENTRY_BYTES:
        raise DecodeError(f"log entry: {len(data)} bytes, at most {MAX_ENTRY_BYTES} are allowed")
    try:
        entry = _DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DecodeError(f"log entry: {error}") from error
    if encode_entry(entry) != data:
        raise DecodeError("log entry: not in canonical form")
    if entry.index != index:
        raise DecodeError(f"log entry: says that it is entry {entry.index}, it is entry {index}")
    return entry
