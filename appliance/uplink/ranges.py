"""Sets of sequence numbers as ranges. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

Range = tuple[int, int]
"""First and last, ends included."""


class RangeSet:
    """Whole numbers, kept as disjoint rising ranges that do not touch. What it costs is the number of ranges."""

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        self.count = 0
        for first, last in ranges:
            self.add(first, last)

    def __iter__(self) -> Iterator[Range]:
        return iter(list(zip(self._firsts, self._lasts, strict=True)))

    def __bool__(self) -> bool:
        return bool(self._firsts)

    def __len__(self) -> int:
        """How many ranges."""
        return len(self._firsts)

    def __contains__(self, number: int) -> bool:
        index = bisect_right(self._firsts, number) - 1
        return index >= 0 and number <= self._lasts[index]

    @property
    def head(self) -> Range | None:
        """The lowest range."""
        return (self._firsts[0], self._lasts[0]) if self._firsts else None

    def add(self, first: int, last: int) -> None:
        """Also first to last; nothing when last is before first."""
        if last < first:
            return
        if self._lasts and first == self._lasts[-1] + 1:  # what nearly always happens
            self._lasts[-1] = last
            self.count += last - first + 1
            return
        start = bisect_left(self._lasts, first - 1)
        end = bisect_right(self._firsts, last + 1)
        before = sum(self._lasts[index] - self._firsts[index] + 1 for index in range(start, end))
        if start < end:
            first, last = min(first, self._firsts[start]), max(last, self._lasts[end - 1])
        self._firsts[start:end] = [first]
        self._lasts[start:end] = [last]
        self.count += last - first + 1 - before

    def discard(self, first: int, last: int) -> None:
        """Not first to last."""
        if self._firsts and first <= self._firsts[0] <= last < self._lasts[0]:  # what nearly always happens
            self.count -= last + 1 - self._firsts[0]
            self._firsts[0] = last + 1
            return
        start = bisect_left(self._lasts, first)
        end = bisect_right(self._firsts, last)
        if start >= end or last < first:
            return
        low, high = self._firsts[start], self._lasts[end - 1]
        before = sum(self._lasts[index] - self._firsts[index] + 1 for index in range(start, end))
        kept = [one for one in ((low, first - 1), (last + 1, high)) if one[0] <= one[1]]
        self._firsts[start:end] = [one[0] for one in kept]
        self._lasts[start:end] = [one[1] for one in kept]
        self.count += sum(one[1] - one[0] + 1 for one in kept) - before

    def outside(self, first: int, last: int) -> list[Range]:
        """The parts of first to last that are not in the set."""
        found, at = [], first
        for index in range(bisect_left(self._lasts, first), len(self._firsts)):
            if self._firsts[index] > last:
                break
            if at < self._firsts[index]:
                found.append((at, self._firsts[index] - 1))
            at = self._lasts[index] + 1
        if at <= last:
            found.append((at, last))
        return found

    def clear(self) -> None:
        """Nothing."""
        self._firsts.clear()
        self._lasts.clear()
        self.count = 0


def runs(numbers: Iterable[int]) -> list[Range]:
    """Rising numbers as ranges."""
    found: list[Range] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found
