"""The time of a log as a picture: one panel per boot, one lane per category, a mark where something happened. Pure.

A panel's axis is the time since boot, which nobody can set; marks that would cover each other are one, the larger the
more they are. Readable in black and white: what failed is a diamond, and a moved clock a line.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from builder.audit.timeline import Shown, duration_text, sentence, time_text

LEFT, RIGHT, WIDTH = 168, 936, 960
LANE, HEAD, FOOT = 22, 14, 26
BIN = 16
MAX_PANELS = 40
"""The last so many boots; the text has them all."""


@dataclass(frozen=True)
class Mark:
    """x, y: its middle. radius: by count. failed: one of them did. title: for the reader who points at it."""

    x: float
    y: float
    radius: float
    failed: bool
    title: str


@dataclass(frozen=True)
class Step:
    """A moved clock."""

    x: float
    title: str


@dataclass(frozen=True)
class Panel:
    """One boot."""

    title: str
    height: int
    lanes: tuple[tuple[str, float], ...]
    ticks: tuple[tuple[float, str], ...]
    marks: tuple[Mark, ...]
    steps: tuple[Step, ...]


def panels(lines: Iterable[Shown]) -> tuple[list[Panel], int]:
    """One per boot, the last MAX_PANELS; and how many were left out."""
    made = [_panel(boot, list(group)) for boot, group in groupby(lines, key=lambda shown: shown.entry.boot)]
    return made[-MAX_PANELS:], max(0, len(made) - MAX_PANELS)


def _panel(boot: int, lines: Sequence[Shown]) -> Panel:
    end = max(max(shown.entry.monotonic_us for shown in lines), 1)
    step = _tick_us(end)
    span = step * math.ceil(end / step)

    def x_of(shown: Shown) -> float:
        return LEFT + (RIGHT - LEFT) * shown.entry.monotonic_us / span

    there: set[str] = {shown.entry.category for shown in lines}
    lanes = tuple((name, HEAD + LANE * (row + 0.5)) for row, name in enumerate(sorted(there)))
    places = dict(lanes)
    heaps: dict[tuple[str, int], list[Shown]] = {}
    for shown in lines:
        heaps.setdefault((shown.entry.category, int(x_of(shown) / BIN)), []).append(shown)
    first = time_text(lines[0].entry).strip()
    return Panel(
        title=f"boot {boot} · {len(lines)} entries · {duration_text(end)[1:]} · first at {first}",
        height=HEAD + LANE * len(lanes) + FOOT,
        lanes=lanes,
        ticks=tuple((LEFT + (RIGHT - LEFT) * at / span, _tick_text(at)) for at in range(0, span + 1, step)),
        marks=tuple(_mark(heap, x_of(heap[0]), places[category]) for (category, _), heap in heaps.items()),
        steps=tuple(
            Step(x_of(shown), f"before entry {shown.entry.index}: clock moved by {duration_text(shown.step_us)}")
            for shown in lines
            if shown.step_us is not None
        ),
    )


def _mark(heap: Sequence[Shown], x: float, y: float) -> Mark:
    failed = any(shown.entry.event.result == "failure" for shown in heap)
    told = [f"{shown.entry.index} {sentence(shown.entry.event)}" for shown in heap[:8]]
    more = [f"and {len(heap) - len(told)} more"] if len(heap) > len(told) else []
    return Mark(round(x, 1), y, round(min(7.5, 3.5 + math.log2(len(heap))), 1), failed, "\n".join(told + more))


def _tick_us(end: int) -> int:
    """A round step that gives three to eight ticks."""
    for seconds in (0.001, 0.01, 0.1, 1, 2, 5, 10, 30, 60, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400):
        if end / (seconds * 1e6) <= 8:
            return int(seconds * 1e6)
    return 86_400_000_000 * math.ceil(end / 86_400_000_000 / 8)


def _tick_text(at: int) -> str:
    for unit, length in (("d", 86_400_000_000), ("h", 3_600_000_000), ("min", 60_000_000)):
        if at >= 2 * length or (at >= length and at % length == 0):
            return f"{at / length:g} {unit}"
    return f"{at / 1e6:g} s"
