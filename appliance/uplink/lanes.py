"""Which message is the next on the wire. Pure: no socket, no file, no clock.

Alarms go first. Live data, the backlog and the audit log share the rest by weight: deficit round robin over the bytes
that were really sent, so that a compressed batch costs what it costs. Within a lane sequences rise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args

from appliance.uplink.ranges import RangeSet
from appliance.uplink.spooled import Lane, Stream

LANES: tuple[Lane, ...] = get_args(Lane)
STREAM_OF: dict[Lane, Stream] = {"alarm": "alarm", "live": "data", "backlog": "data", "audit": "audit"}
LANE_AT_START: dict[Stream, Lane] = {"alarm": "alarm", "data": "backlog", "audit": "audit"}
LANE_LATER: dict[Stream, Lane] = {"alarm": "alarm", "data": "live", "audit": "audit"}
QUANTUM = 256  # bytes of a turn, times the weight
LIVE_BEHIND = 1024  # live messages that wait: then the link is too slow for all of them
LIVE_KEPT = 256  # and so many, the newest, stay live
RESERVED_FROM = 4  # with so many in flight or more, one place is kept for an alarm


@dataclass(frozen=True, slots=True)
class Flight:
    """What one token stands for: messages first to last of a lane. count: of messages. sent_us: monotonic."""

    lane: Lane
    first: int
    last: int
    count: int
    bytes: int
    sent_us: int

    @property
    def stream(self) -> Stream:
        """Of the lane."""
        return STREAM_OF[self.lane]


@dataclass(slots=True)
class _Queue:
    waiting: RangeSet = field(default_factory=RangeSet)
    deficit: int = 0


class Lanes:
    """What waits in each lane, and what is in flight, on the present connection.

    After close() everything unacknowledged counts as unsent: it is sent again, and consumers see a repeated sequence.
    """

    def __init__(self, shares: Mapping[Lane, int]) -> None:
        """shares: weights of live, backlog and audit."""
        self._shares = {lane: shares[lane] for lane in LANES if lane != "alarm"}
        self._queues = {lane: _Queue() for lane in LANES}
        self._turns = list(self._shares)
        self._limit = 0
        self._bytes = 0
        self._paused: dict[Lane, int] = {}
        self.flights: dict[int, Flight] = {}

    @property
    def connected(self) -> bool:
        """Whether there is a connection to send on."""
        return self._limit > 0

    @property
    def bytes_in_flight(self) -> int:
        """Of all lanes."""
        return self._bytes

    def waiting(self, lane: Lane) -> RangeSet:
        """What has not been sent on this connection; some of it may have been removed from the spool meanwhile."""
        return self._queues[lane].waiting

    def in_flight(self, stream: Stream) -> RangeSet:
        """What is on the wire."""
        return RangeSet(sorted((one.first, one.last) for one in self.flights.values() if one.stream == stream))

    def open(self, limit: int, newest: Mapping[Stream, int]) -> None:
        """A new connection, with at most `limit` messages in flight (1 or more). newest: sequences; 0 for none."""
        self.close()
        self._limit = limit
        for stream, last in newest.items():
            self.extend(LANE_AT_START[stream], 1, last)

    def close(self) -> None:
        """The connection has gone."""
        self._limit = 0
        self._bytes = 0
        self.flights.clear()
        self._paused.clear()
        for queue in self._queues.values():
            queue.waiting.clear()
            queue.deficit = 0

    def extend(self, lane: Lane, first: int, last: int) -> None:
        """These may be sent; when live falls behind, its oldest become backlog. Without a connection: nothing."""
        if not self.connected:
            return
        self._queues[lane].waiting.add(first, last)
        live = self._queues["live"].waiting
        if lane == "live" and live.count > LIVE_BEHIND:
            edge = last - LIVE_KEPT
            for low, high in live:
                self._queues["backlog"].waiting.add(low, min(high, edge))
            live.discard(1, edge)

    def next(self, *, bytes_allowed: int) -> Lane | None:
        """The lane whose turn it is, or None when nothing may be sent now.

        bytes_allowed: in flight, for all but alarms; a single message may go over it.
        """
        free = self._limit - len(self.flights)
        if free <= 0:
            return None
        if self._queues["alarm"].waiting and "alarm" not in self._paused:
            return "alarm"
        if self._limit >= RESERVED_FROM and free == 1:
            return None
        if self.flights and self._bytes >= bytes_allowed:
            return None
        return self._turn()

    def pause(self, lane: Lane, until_us: int) -> None:
        """Send nothing of this lane until then."""
        self._paused[lane] = max(until_us, self._paused.get(lane, 0))

    def resume(self, now_us: int) -> None:
        """Go on with lanes whose pause is over."""
        for lane in [lane for lane, until_us in self._paused.items() if until_us <= now_us]:
            del self._paused[lane]

    def due_us(self) -> int | None:
        """When a pause ends."""
        return min(self._paused.values(), default=None)

    def passed(self, lane: Lane, last: int) -> None:
        """Up to `last` there is nothing more to send in this lane."""
        self._queues[lane].waiting.discard(1, last)

    def sent(self, token: int, flight: Flight) -> None:
        """It was given to the transport."""
        queue = self._queues[flight.lane]
        queue.waiting.discard(flight.first, flight.last)
        queue.deficit -= flight.bytes
        self.flights[token] = flight
        self._bytes += flight.bytes

    def done(self, token: int) -> Flight | None:
        """The broker has it, or refused it; None when it is of another connection."""
        flight = self.flights.pop(token, None)
        if flight is not None:
            self._bytes -= flight.bytes
        return flight

    def _turn(self) -> Lane | None:
        ready = [lane for lane in self._turns if self._queues[lane].waiting and lane not in self._paused]
        for lane in self._shares:
            if lane not in ready:
                self._queues[lane].deficit = min(0, self._queues[lane].deficit)
        if not ready:
            return None
        while True:
            for lane in ready:
                if self._queues[lane].deficit > 0:
                    return lane
            needed = min(
                -(self._queues[lane].deficit - 1) // (QUANTUM * self._shares[lane]) + 1 for lane in ready
            )  # whole rounds at once, so that a large batch is not worked off turn by turn
            for lane in ready:
                self._queues[lane].deficit += max(1, needed) * QUANTUM * self._shares[lane]
