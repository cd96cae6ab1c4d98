"""Progress on stderr for a person at a terminal; nothing when it is not one."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

_console = Console(stderr=True, highlight=False)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Show `title` with a spinner while the block runs, then with its duration."""
    if not sys.stderr.isatty():
        yield
        return
    started = time.monotonic()
    with _console.status(title):
        yield
    _console.print(f"  [green]✓[/] {title} [dim]{time.monotonic() - started:.1f} s[/]")


def say(text: str) -> None:
    """One line of talk on stderr, only at a terminal."""
    if sys.stderr.isatty():
        _console.print(text, markup=False)
