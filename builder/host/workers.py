"""Work on several processors: a function of plain data over many items, in processes of their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0))


def in_processes(function: Callable[[A], B], items: Sequence[A], *, jobs: int) -> Iterator[B]:
    """The results in the order of `items`. function: of a module's first level. jobs: 1 works in this process."""
    if jobs <= 1 or len(items) <= 1:
        yield from map(function, items)
        return
    with ProcessPoolExecutor(min(jobs, len(items))) as pool:
        yield from pool.map(function, items)
