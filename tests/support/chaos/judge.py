"""Holds what was promised against what arrived. Pure, exact, and it counts: nothing here may be approximate.

A lane's messages rise on each connection of the device. A reader sees no connections, but where a lane goes down a new
connection must have begun: so up to any moment there may be at most as many descents as there were reconnects.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message as it reached the consumer. at: monotonic seconds. number: of its body, None for a foreign one.

    digest: of the envelope's bytes, which are the same each time.
    """

    at: float
    epoch: str
    stream: str
    sequence: int
    lane: str
    kind: str
    number: int | None
    digest: bytes


@dataclass
class Judgement:
    """delivered: arrivals. unique: different (stream, sequence). duplicates: detectable repetitions.

    kept_unanswered: were kept although the producer did not live to see the answer; they are in the spool by right.
    The rest must be zero: missing: promised or between others, never seen. out_of_order: descents of a lane
    without a reconnect. unlike: the same name with other bytes. twice: one body under two names. strangers: bodies
    that nobody handed in. gaps: gap records. wrong: a name with another body than promised. epochs: beyond one.
    """

    accepted: int = 0
    delivered: int = 0
    unique: int = 0
    duplicates: int = 0
    kept_unanswered: int = 0
    missing: int = 0
    out_of_order: int = 0
    unlike: int = 0
    twice: int = 0
    strangers: int = 0
    gaps: int = 0
    wrong: int = 0
    epochs: int = 0
    repeated_promises: int = 0
    by_lane: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def faults(self) -> dict[str, int]:
        """What is not zero and must be."""
        names = (
            *("missing", "out_of_order", "unlike", "twice", "strangers", "gaps", "wrong", "epochs"),
            "repeated_promises",
        )
        return {name: getattr(self, name) for name in names if getattr(self, name)}

    def note(self, what: str, text: str) -> None:
        """Count one fault; the first few are told."""
        setattr(self, what, getattr(self, what) + 1)
        told = self.examples.setdefault(what, [])
        if len(told) < 5:
            told.append(text)


def judge(
    accepted: Mapping[tuple[str, int], int],
    unanswered: Set[int],
    arrivals: Sequence[Arrival],
    connections: Sequence[float],
    *,
    own_kinds: Set[str] = frozenset(),
    repeated: Iterable[tuple[str, int]] = (),
) -> Judgement:
    """connections: when each one of the device began, rising. own_kinds: what the uplink says by itself."""
    result = Judgement(accepted=len(accepted), delivered=len(arrivals))
    for name in repeated:
        result.note("repeated_promises", f"{name} was promised twice")
    seen: dict[tuple[str, int], Arrival] = {}
    for arrival in arrivals:
        name = (arrival.stream, arrival.sequence)
        first = seen.setdefault(name, arrival)
        if first is arrival:
            _new(result, arrival, accepted, unanswered, own_kinds)
        else:
            result.duplicates += 1
            if first.digest != arrival.digest:
                result.note("unlike", f"{name} came with two contents")
    result.unique = len(seen)
    result.by_lane = dict(sorted(collections.Counter(arrival.lane for arrival in arrivals).items()))
    _names(result, seen, accepted)
    _order(result, arrivals, connections)
    for epoch in sorted({arrival.epoch for arrival in arrivals})[1:]:
        result.note("epochs", f"epoch {epoch} beside the first")
    return result


def _new(
    result: Judgement,
    arrival: Arrival,
    accepted: Mapping[tuple[str, int], int],
    unanswered: Set[int],
    own_kinds: Set[str],
) -> None:
    name = (arrival.stream, arrival.sequence)
    if arrival.kind == "gap":
        result.note("gaps", f"{name} is a gap record")
    elif arrival.kind in own_kinds and name not in accepted:
        return
    elif name in accepted:
        if arrival.number != accepted[name]:
            result.note("wrong", f"{name} was promised for body {accepted[name]} and has {arrival.number}")
    elif arrival.number in unanswered:
        result.kept_unanswered += 1
    else:
        result.note("strangers", f"{name} has body {arrival.number}, kind {arrival.kind}")


def _names(result: Judgement, seen: Mapping[tuple[str, int], Arrival], accepted: Mapping[tuple[str, int], int]) -> None:
    last: dict[str, int] = {}
    for stream, sequence in (*seen, *accepted):
        last[stream] = max(last.get(stream, 0), sequence)
    for stream, end in sorted(last.items()):
        for sequence in range(1, end + 1):
            if (stream, sequence) not in seen:
                promise = accepted.get((stream, sequence))
                result.note("missing", f"{stream} {sequence}, " + (f"body {promise}" if promise else "a hole"))
    numbers = collections.Counter(arrival.number for arrival in seen.values() if arrival.number is not None)
    for number, count in numbers.items():
        if count > 1:
            result.note("twice", f"body {number} came under {count} names")


def _order(result: Judgement, arrivals: Sequence[Arrival], connections: Sequence[float]) -> None:
    """connections[0] is the first; each later one allows one descent of each lane, from its beginning on."""
    position: dict[str, int] = {}
    inferred, began = 1, 0
    for arrival in arrivals:
        while began < len(connections) and connections[began] <= arrival.at:
            began += 1
        if arrival.sequence <= position.get(arrival.lane, 0):
            inferred += 1
            position.clear()
            if inferred > max(began, 1):
                inferred -= 1
                result.note("out_of_order", f"lane {arrival.lane}: {arrival.sequence} without a new connection")
        position[arrival.lane] = arrival.sequence
