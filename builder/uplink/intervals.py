"""A set of whole numbers with few holes: kept as ranges, so that its size is the number of holes. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

Range = tuple[int, int]
"""First and last, ends included."""


class IntervalSet:
    """Numbers as ranges that neither meet nor touch.

    A number that follows the highest is added in constant time; any other one by a search among the ranges.
    """

    __slots__ = ("_firsts", "_lasts", "count")

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        """ranges: in any order; they may meet. Raises ValueError on one that ends before it begins."""
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        self.count = 0
        for first, last in ranges:
            self.add_range(first, last)

    @property
    def highest(self) -> int | None:
        """None when it is empty."""
        return self._lasts[-1] if self._lasts else None

    @property
    def lowest(self) -> int | None:
        """None when it is empty."""
        return self._firsts[0] if self._firsts else None

    def __contains__(self, number: int) -> bool:
        place = bisect_right(self._firsts, number) - 1
        return place >= 0 and number <= self._lasts[place]

    def range_of(self, number: int) -> Range:
        """The range that holds `number`. Raises KeyError."""
        place = bisect_right(self._firsts, number) - 1
        if place < 0 or self._lasts[place] < number:
            raise KeyError(number)
        return self._firsts[place], self._lasts[place]

    def __iter__(self) -> Iterator[Range]:
        return zip(self._firsts, self._lasts, strict=True)

    def __len__(self) -> int:
        """How many ranges there are."""
        return len(self._firsts)

    def add(self, number: int) -> bool:
        """Whether it was not there yet."""
        if self._lasts and number == self._lasts[-1] + 1:
            self._lasts[-1] = number
            self.count += 1
            return True
        return self.add_range(number, number) == 1

    def add_range(self, first: int, last: int) -> int:
        """How many of the numbers from first to last were not there yet. Raises ValueError when last < first."""
        if last < first:
            raise ValueError(f"a range from {first} to {last}")
        low = bisect_right(self._firsts, first) - 1
        if low < 0 or self._lasts[low] < first - 1:
            low += 1  # the range before neither meets nor touches
        high = bisect_right(self._firsts, last + 1)
        before = sum(self._lasts[place] - self._firsts[place] + 1 for place in range(low, high))
        if low < high:
            first, last = min(first, self._firsts[low]), max(last, self._lasts[high - 1])
        self._firsts[low:high], self._lasts[low:high] = [first], [last]
        added = last - first + 1 - before
        self.count += added
        return added

    def holes(self, first: int, last: int) -> Iterator[Range]:
        """The ranges between first and last, ends included, that are not in the set."""
        place = max(0, bisect_right(self._firsts, first) - 1)
        while place < len(self._firsts) and self._firsts[place] <= last:
            if first < self._firsts[place]:
                yield first, self._firsts[place] - 1
            first = max(first, self._lasts[place] + 1)
            place += 1
        if first <= last:
            yield first, last
