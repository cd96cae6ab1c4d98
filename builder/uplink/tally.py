"""The reference deduplicator and gap detector: what a consumer knows from the names of the messages alone. Pure.

Spec: docs/specs/uplink-envelope.md (v1), section Consumers. A message is named by (device, epoch, stream, sequence);
numbers rise by one from 1, so a hole is a message that was lost, or not here yet, or explained by a gap record. Memory
grows with the number of holes, not of messages.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, NamedTuple

import msgspec

from appliance.formats.device import FrozenStruct
from appliance.formats.uplink_envelope import Epoch, Lane, Sequence, Stream
from appliance.formats.verdict import Count, DeviceId
from builder.uplink.intervals import IntervalSet, Range


class StreamName(NamedTuple):
    """One numbering of messages."""

    device: str
    epoch: str
    stream: Stream


class Fate(NamedTuple):
    """What one arrival was.

    fresh: it was not here before. late: fresh, after a higher number of its stream: as a backlog is that follows live
    data. disordered: fresh, after a higher number of its own lane: a broken promise.
    """

    fresh: bool
    late: bool
    disordered: bool


_DUPLICATE = Fate(fresh=False, late=False, disordered=False)


@dataclass
class StreamTally:
    """One stream. excused: in a gap record; from excused_from on everything is, where nobody can tell the end.

    begins: numbers below it are not asked for. joined: it began before we listened, so begins is what came first.
    duplicates, late, disordered: arrivals, see Fate. lanes: the highest number that was fresh, of each lane.
    """

    arrived: IntervalSet = field(default_factory=IntervalSet)
    excused: IntervalSet = field(default_factory=IntervalSet)
    excused_from: int | None = None
    begins: int = 1
    joined: bool = False
    duplicates: int = 0
    late: int = 0
    disordered: int = 0
    lanes: dict[Lane, int] = field(default_factory=dict)

    def take(self, sequence: int, lane: Lane) -> Fate:
        """Count one arrival. sequence: 1 or more."""
        highest = self.arrived.highest
        if self.joined:
            self.begins = sequence if highest is None else min(self.begins, sequence)
        if not self.arrived.add(sequence):
            self.duplicates += 1
            return _DUPLICATE
        late = highest is not None and sequence < highest
        disordered = sequence < self.lanes.get(lane, 0)
        self.late += late
        self.disordered += disordered
        if not disordered:
            self.lanes[lane] = sequence
        return Fate(True, late, disordered)

    def excuse(self, first: int, last: int | None) -> None:
        """A gap record names these. last: None for no end."""
        if last is not None:
            self.excused.add_range(first, last)
        elif self.excused_from is None or first < self.excused_from:
            self.excused_from = first

    @property
    def received(self) -> int:
        """Arrivals, duplicates included."""
        return self.arrived.count + self.duplicates

    @property
    def highest(self) -> int:
        """The highest number that is known to exist; 0 for none."""
        return max(self.arrived.highest or 0, self.excused.highest or 0)

    def missing(self) -> Iterator[Range]:
        """Numbers up to the highest known one that neither arrived nor stand in a gap record, as ranges."""
        if self.joined and not self.arrived:
            return
        last = self.highest if self.excused_from is None else min(self.highest, self.excused_from - 1)
        for begin, end in self.arrived.holes(self.begins, last):
            yield from self.excused.holes(begin, end)

    @property
    def missing_count(self) -> int:
        """How many those are."""
        return sum(last - first + 1 for first, last in self.missing())

    @property
    def excused_count(self) -> int:
        """Numbers in gap records that did not arrive, as far as they can be counted."""
        return sum(last - first + 1 for begin, end in self.excused for first, last in self.arrived.holes(begin, end))


class Tally:
    """All streams of all devices."""

    def __init__(self, *, joined: bool = False) -> None:
        """joined: devices were sending before we listened, so their first epochs do not begin at 1 for us."""
        self.streams: dict[StreamName, StreamTally] = {}
        self._joined = joined
        self._first_epochs: dict[str, str] = {}

    def stream(self, name: StreamName) -> StreamTally:
        """The one of this name, made when there is none."""
        found = self.streams.get(name)
        if found is None:
            first = self._first_epochs.setdefault(name.device, name.epoch)
            found = self.streams[name] = StreamTally(joined=self._joined and first == name.epoch)
        return found

    def restore(self, name: StreamName, stream: StreamTally) -> None:
        """Put back what was kept."""
        self.streams[name] = stream
        if stream.joined or name.device not in self._first_epochs:
            self._first_epochs[name.device] = name.epoch

    def take(self, name: StreamName, sequence: int, lane: Lane) -> Fate:
        """Count one arrival."""
        return self.stream(name).take(sequence, lane)

    def excuse(self, name: StreamName, first: int, last: int | None) -> None:
        """A gap record says that these will never come."""
        self.stream(name).excuse(first, last)

    def total(self, count: str) -> int:
        """The sum of one number (`received`, `duplicates`, `late`, `disordered`, `missing_count`) over all streams."""
        return sum(getattr(each, count) for each in self.streams.values())


class StreamState(FrozenStruct, frozen=True, kw_only=True):
    """A StreamTally, as it is kept in a file."""

    device: DeviceId
    epoch: Epoch
    stream: Stream
    arrived: tuple[tuple[Sequence, Sequence], ...]
    excused: tuple[tuple[Sequence, Sequence], ...]
    excused_from: Sequence | None
    begins: Sequence
    joined: bool
    duplicates: Count
    late: Count
    disordered: Count
    lanes: dict[Lane, Annotated[int, msgspec.Meta(ge=1)]]


def states_of(tally: Tally) -> tuple[StreamState, ...]:
    """Everything that `tally` knows, sorted by name."""
    return tuple(
        StreamState(
            device=name.device,
            epoch=name.epoch,
            stream=name.stream,
            arrived=tuple(each.arrived),
            excused=tuple(each.excused),
            excused_from=each.excused_from,
            begins=each.begins,
            joined=each.joined,
            duplicates=each.duplicates,
            late=each.late,
            disordered=each.disordered,
            lanes=dict(sorted(each.lanes.items())),
        )
        for name, each in sorted(tally.streams.items())
    )


def tally_of(states: tuple[StreamState, ...], *, joined: bool = False) -> Tally:
    """The tally that goes on from there. Raises ValueError on a range that ends before it begins."""
    tally = Tally(joined=joined)
    for state in states:
        stream = StreamTally(
            arrived=IntervalSet(state.arrived),
            excused=IntervalSet(state.excused),
            excused_from=state.excused_from,
            begins=state.begins,
            joined=state.joined,
            duplicates=state.duplicates,
            late=state.late,
            disordered=state.disordered,
            lanes=dict(state.lanes),
        )
        tally.restore(StreamName(state.device, state.epoch, state.stream), stream)
    return tally
