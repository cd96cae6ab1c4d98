"""The watcher's table at a terminal; where there is none, nothing. On stderr: it is talk."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

_COLUMNS = (
    "device",
    "epoch",
    "stream",
    "highest",
    "received",
    "missing",
    "gaps",
    "twice",
    "late",
    "disorder",
    "per s",
    "age",
)
_SHOWN = 3


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """One row of Watch.rows() as text, in the order of the columns."""
    return (
        row["device"],
        row["epoch"][:8],
        row["stream"],
        str(row["highest"]),
        str(row["received"]),
        missing_words(row),
        str(row["excused"]),
        str(row["duplicates"]),
        str(row["late"]),
        str(row["disordered"]),
        f"{row['rate']:.1f}",
        age_words(row["age_ms"]),
    )


def missing_words(row: Mapping[str, Any]) -> str:
    """`5: 3-6, 9` for numbers that are missing; `0` for none."""
    ranges = [str(first) if first == last else f"{first}-{last}" for first, last in row["missing_ranges"]]
    if not ranges:
        return "0"
    more = "" if len(ranges) <= _SHOWN else ", …"
    return f"{row['missing']}: {', '.join(ranges[:_SHOWN])}{more}"


def age_words(age_ms: int | None) -> str:
    """An age as people say it; `?` where nobody can tell."""
    if age_ms is None:
        return "?"
    seconds = age_ms / 1000
    for limit, size, unit in ((60, 1, "s"), (3600, 60, "min"), (86_400, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 86_400:.1f} d"


def as_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """The same table in plain text, without a final newline."""
    lines = [_COLUMNS, *map(cells, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_COLUMNS))]
    return "\n".join(
        "  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


class LiveTable:
    """Shows rows while they change."""

    def __init__(self, title: str, *, quiet: bool) -> None:
        """quiet: show nothing, whatever stderr is."""
        self._title = title
        self._live = None
        if sys.stderr.isatty() and not quiet:
            self._live = Live(console=Console(stderr=True), refresh_per_second=4)

    def show(self, rows: Sequence[Mapping[str, Any]], *, unreadable: int) -> None:
        """Replace what is shown."""
        if self._live is None:
            return
        table = Table(*_COLUMNS, title=self._title, caption=f"unreadable: {unreadable}" if unreadable else None)
        for row in rows:
            bad = row["missing"] or row["disordered"]
            table.add_row(*map(Text, cells(row)), style="red" if bad else None)
        self._live.update(table)

    def __enter__(self) -> LiveTable:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
