"""Entries for a reader: chosen, told in sentences, with the worth of their times. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from itertools import groupby
from typing import Any

import msgspec

from appliance.core.errors import DecodeError
from appliance.formats.audit_event import AuditEvent, check_event
from appliance.formats.audit_log import LogEntry
from builder.audit.entries import clock_step

_MARKS = {"synchronised": " ", "held": "~", "unknown": "?"}
LEGEND = "time: UTC as the device's clock showed it; ~ not synchronised any more, ? never synchronised in that boot"
_LAST_US = 253_402_300_799_000_000  # 31 December 9999


@dataclass(frozen=True)
class Choice:
    """What is shown; empty or None: everything. kinds: patterns. service: a unit, or how its name begins.

    from_us, to_us: wall clock, microseconds since 1970; the second not included.
    """

    from_us: int | None = None
    to_us: int | None = None
    boot: int | None = None
    kinds: tuple[str, ...] = ()
    category: str | None = None
    transaction: str | None = None
    service: str | None = None

    def takes(self, entry: LogEntry) -> bool:
        """Whether `entry` is shown."""
        event = entry.event
        return (
            (self.from_us is None or entry.wall_us >= self.from_us)
            and (self.to_us is None or entry.wall_us < self.to_us)
            and (self.boot is None or entry.boot == self.boot)
            and (not self.kinds or any(fnmatchcase(event.kind, pattern) for pattern in self.kinds))
            and self.category in (None, entry.category)
            and (self.transaction is None or event.fields.get("transaction") == self.transaction)
            and (self.service is None or entry.sender.unit.startswith(self.service))
        )


@dataclass(frozen=True)
class Shown:
    """One line. step_us: the wall clock was moved by so much before this entry."""

    entry: LogEntry
    step_us: int | None


def chosen(entries: Iterable[LogEntry], choice: Choice) -> Iterator[Shown]:
    """Those of `entries`, which are all of the log in order, that `choice` takes."""
    before: LogEntry | None = None
    for entry in entries:
        step = None if before is None else clock_step(before, entry)
        before = entry
        if choice.takes(entry):
            yield Shown(entry, None if step is None else step.by_us)


def sentence(event: AuditEvent) -> str:
    """The event in words; a kind that this version does not know, or with other fields, by its fields.

    What a sender wrote cannot move the reader's cursor: what is not printable is shown as its escape.
    """
    try:
        text = check_event(event).sentence()
    except DecodeError:
        told = ", ".join(f"{name} {value}" for name, value in sorted(event.fields.items()))
        text = f"{event.kind} ({told or 'no fields'}), which is not in this version's catalogue."
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def time_text(entry: LogEntry) -> str:
    """2026-02-13 16:26:40.001 with its mark."""
    if entry.wall_us > _LAST_US:
        return f"after the year 9999{' ' * 4}{_MARKS[entry.time_quality]}"
    moment = datetime.fromtimestamp(entry.wall_us // 1_000_000, UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{entry.wall_us // 1000 % 1000:03}{_MARKS[entry.time_quality]}"


def duration_text(microseconds: int) -> str:
    """+12.345 s, -10.0 years."""
    sign, seconds = "-" if microseconds < 0 else "+", abs(microseconds) / 1e6
    for name, length in (("years", 31_557_600), ("days", 86_400), ("h", 3_600)):
        if seconds >= 2 * length:
            return f"{sign}{seconds / length:.1f} {name}"
    return f"{sign}{seconds:.3f} s"


def entry_data(shown: Shown) -> dict[str, Any]:
    """As --json prints it: the entry as it is in the log, its sentence, and what the clock did."""
    data: dict[str, Any] = msgspec.to_builtins(shown.entry)
    return data | {"sentence": sentence(shown.entry.event), "clock_moved_us": shown.step_us}


def timeline_text(lines: Iterable[Shown]) -> str:
    """Grouped by boot: index, time, time since boot, result, service, sentence."""
    found = []
    for boot, group in groupby(lines, key=lambda shown: shown.entry.boot):
        rows = list(group)
        found.append(f"boot {boot} ({rows[0].entry.boot_id})")
        for shown in rows:
            found += _row(shown)
        found.append("")
    return "\n".join([*found, LEGEND]) if found else "no entry is like that"


def _row(shown: Shown) -> Iterator[str]:
    entry = shown.entry
    if shown.step_us is not None:
        yield f"{'':>8}  ! the wall clock was moved by {duration_text(shown.step_us)} before the next entry"
    failed = "FAILED " if entry.event.result == "failure" else ""
    unit = entry.sender.unit.removesuffix(".service").removeprefix("edgeseal-") or f"uid {entry.sender.uid}"
    since = f"+{entry.monotonic_us / 1e6:.3f} s"
    yield f"{entry.index:>8}  {time_text(entry)} {since:>14}  {unit:<10} {failed}{sentence(entry.event)}"
