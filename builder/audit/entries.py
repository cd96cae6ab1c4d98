"""What must hold from one entry to the next: places, boots, the time since boot. And what a clock did. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from appliance.core.errors import DecodeError
from appliance.formats.audit_log import LogEntry, decode_entry
from builder.audit.finding import Finding

CHAIN_KINDS = ("log-began", "epoch-began", "tpm-key-used")
"""Entries that a verification reads again: they say which keys there are, and what log was before."""
STEP_US = 2_000_000
"""A wall clock that runs away from the time since boot by more than this was moved."""


@dataclass(frozen=True)
class ClockStep:
    """The wall clock moved by_us between entry index - 1 and this one; over_boot: a restart lies between."""

    index: int
    by_us: int
    over_boot: bool


@dataclass
class Stretch:
    """Consecutive entries that were looked at. first, last: of them; None when none could be read."""

    first: LogEntry | None = None
    last: LogEntry | None = None
    count: int = 0
    findings: list[Finding] = field(default_factory=list)
    steps: list[ClockStep] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    chain: list[LogEntry] = field(default_factory=list)


def look(stretch: Stretch, entries: Sequence[bytes], *, start: int, file: str) -> None:
    """Add the entries of a bundle, the first with the index `start`, to `stretch`."""
    for index, data in enumerate(entries, start):
        try:
            entry = decode_entry(data, index=index)
        except DecodeError as error:
            stretch.findings.append(Finding(file, error.message, index))
            continue
        if stretch.last is None:
            stretch.first = entry
        else:
            _follow(stretch, stretch.last, entry, file)
        stretch.last = entry
        stretch.kinds[entry.event.kind] += 1
        if entry.event.kind in CHAIN_KINDS:
            stretch.chain.append(entry)
    stretch.count += len(entries)


def join(stretch: Stretch, later: Stretch, *, file: str) -> None:
    """Append `later`, which begins where `stretch` ends. file: of its first entry."""
    if stretch.last is not None and later.first is not None:
        _follow(stretch, stretch.last, later.first, file)
    stretch.first = stretch.first or later.first
    stretch.last = later.last or stretch.last
    stretch.count += later.count
    stretch.findings += later.findings
    stretch.steps += later.steps
    stretch.kinds.update(later.kinds)
    stretch.chain += later.chain


def clock_step(before: LogEntry, now: LogEntry) -> ClockStep | None:
    """How the wall clock moved between two entries, if it did."""
    if now.boot == before.boot:
        moved = (now.wall_us - before.wall_us) - (now.monotonic_us - before.monotonic_us)
        return ClockStep(now.index, moved, False) if abs(moved) > STEP_US else None
    moved = now.wall_us - before.wall_us
    return ClockStep(now.index, moved, True) if moved < -STEP_US else None


def _follow(stretch: Stretch, before: LogEntry, now: LogEntry, file: str) -> None:
    if (wrong := _wrong_order(before, now)) is not None:
        message, expected, found = wrong
        stretch.findings.append(Finding(file, message, now.index, expected, found))
    if (step := clock_step(before, now)) is not None:
        stretch.steps.append(step)


def _wrong_order(before: LogEntry, now: LogEntry) -> tuple[str, str, str] | None:
    if now.boot == before.boot:
        if now.boot_id != before.boot_id:
            return "another boot id in the same boot", before.boot_id, now.boot_id
        if now.monotonic_us < before.monotonic_us:
            return "the time since boot goes back", f"{before.monotonic_us} us or more", f"{now.monotonic_us} us"
        return None
    if now.boot != before.boot + 1:
        message = "the boot number goes back" if now.boot < before.boot else "boots are missing"
        return message, f"{before.boot} or {before.boot + 1}", str(now.boot)
    if now.boot_id == before.boot_id:
        return "a new boot has the boot id of the one before", "another boot id", now.boot_id
    return None
