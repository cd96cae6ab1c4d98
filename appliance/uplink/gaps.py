"""Gap records that wait until they can be published. Pure.

While one waits, what is dropped beside it becomes part of it: a month without a broker makes one record.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from appliance.formats.gap import Gap, GapReason
from appliance.formats.uplink_envelope import Stream
from appliance.uplink.ranges import Range, RangeSet


class PendingGaps:
    """By epoch, stream and reason. changed: whether the file has to be told."""

    def __init__(self, gaps: Iterable[Gap] = ()) -> None:
        self._ranges: dict[tuple[str, Stream, GapReason], RangeSet] = {}
        self._open: list[Gap] = []
        for gap in gaps:
            self.put(gap)
        self.changed = False

    def __iter__(self) -> Iterator[Gap]:
        """Lowest first within a stream; those of an epoch that ended come first."""
        yield from self._open
        for (epoch, stream, reason), ranges in self._ranges.items():
            for first, last in ranges:
                yield Gap(epoch=epoch, stream=stream, first=first, last=last, reason=reason)

    def __bool__(self) -> bool:
        return bool(self._open) or any(self._ranges.values())

    def add(self, epoch: str, stream: Stream, reason: GapReason, ranges: Iterable[Range]) -> None:
        """These sequences will never come."""
        kept = self._ranges.setdefault((epoch, stream, reason), RangeSet())
        for first, last in ranges:
            kept.add(first, last)
            self.changed = True

    def put(self, gap: Gap) -> None:
        """One record; it becomes part of those that wait."""
        if gap.last is None:
            self._open.append(gap)
            self.changed = True
        else:
            self.add(gap.epoch, gap.stream, gap.reason, [(gap.first, gap.last)])

    def take(self, limit: int) -> list[Gap]:
        """Remove up to `limit` records and return them: they are messages from now on."""
        taken = [gap for gap, _ in zip(self, range(limit), strict=False)]
        for gap in taken:
            if gap.last is None:
                self._open.remove(gap)
            else:
                self._ranges[gap.epoch, gap.stream, gap.reason].discard(gap.first, gap.last)
        self.changed = self.changed or bool(taken)
        return taken
