"""Verdicts as they arrive: a table that grows at a terminal, one line each elsewhere. On stderr: it is talk."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live
from rich.table import Table

from appliance.formats.verdict import Verdict

_MILLION = 1_000_000


@dataclass(frozen=True)
class Judged:
    """A frame, what it shows, and what the device said about it."""

    frame: int
    truth: str
    verdict: Verdict

    @property
    def right(self) -> bool:
        """Whether the device said the truth."""
        return self.verdict.label == self.truth

    def cells(self) -> tuple[str, ...]:
        """frame, truth, verdict, score, latency, right: as text."""
        return (
            str(self.frame),
            f"{self.truth}°",
            f"{self.verdict.label}°",
            f"{self.verdict.score_ppm / _MILLION:.3f}",
            f"{self.verdict.latency_us / _MILLION:.2f} s",
            "✓" if self.right else "✗",
        )


class VerdictTable:
    """Shows each verdict that is added."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._table = Table("frame", "truth", "verdict", "score", "latency", "", title="verdicts from the device")
        self._live = Live(self._table, console=Console(stderr=True), refresh_per_second=4)

    def add(self, judged: Judged) -> None:
        """One row."""
        if self._terminal:
            self._table.add_row(*judged.cells(), style=None if judged.right else "red")
        else:
            frame, truth, verdict, score, latency, mark = judged.cells()
            sys.stderr.write(f"frame {frame}: truth {truth}, verdict {verdict}, score {score}, {latency} {mark}\n")
            sys.stderr.flush()

    def __enter__(self) -> VerdictTable:
        if self._terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal:
            self._live.stop()
