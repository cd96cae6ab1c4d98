"""Takes messages from the spool to the transport, and what the broker says of them back to the spool.

It decides nothing about order (lanes), form (dialect) or refusals; it is driven by the service, in its thread.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from dataclasses import dataclass

from appliance.core.clock import Moment
from appliance.formats.gap import encode_gap
from appliance.formats.uplink_envelope import MAX_BATCH_BYTES, MAX_BATCH_MESSAGES
from appliance.uplink.awaiting import Awaiting
from appliance.uplink.dialect import Dialect, Publish, Receipt, Sending
from appliance.uplink.lanes import LANE_AT_START, LANE_LATER, LANES, STREAM_OF, Flight, Lanes
from appliance.uplink.outbox import STREAMS, Outbox
from appliance.uplink.pace import Pace
from appliance.uplink.ranges import RangeSet
from appliance.uplink.refusals import Refusals
from appliance.uplink.spooled import Lane, Spooled, Stream

AHEAD = 32  # messages that are read at once for a lane without batches
AROUND = 400  # bytes of an envelope around its body, nearly always
WIRE = 240  # bytes of topic, user properties and header
GAPS_AT_ONCE = 16


@dataclass
class Tally:
    """Messages since start. resent: given to a broker a second time."""

    acknowledged: int = 0
    resent: int = 0


class Courier:
    """See the module. publish(token, message) hands over to the transport; receipts: rows stay until one."""

    def __init__(
        self, outbox: Outbox, lanes: Lanes, publish: Callable[[int, Publish], None], *, receipt_us: int | None
    ) -> None:
        """receipt_us: how long to wait for a receipt before sending again; None: the PUBACK is enough."""
        self._outbox = outbox
        self._lanes = lanes
        self._publish = publish
        self._receipts = receipt_us is not None
        self._awaiting = Awaiting(receipt_us or 0)
        self._refusals = Refusals()
        self._chunks: dict[Lane, collections.deque[Spooled]] = {lane: collections.deque() for lane in LANES}
        self._newest = {stream: outbox.counts(stream).next - 1 for stream in STREAMS}
        self._kinds: dict[int, str] = {}
        self._token = 0
        self._packet_limit: int | None = None
        self._given_up = outbox.given_up.total()
        self.tally = Tally()
        self.closed()

    def opened(self, receive_maximum: int, packet_limit: int | None) -> None:
        """There is a connection."""
        self.closed()
        self._packet_limit = packet_limit
        self._batches = MAX_BATCH_MESSAGES
        self._lanes.open(receive_maximum, self._newest)

    def closed(self) -> None:
        """There is none."""
        self.tally.resent += sum(flight.count for flight in self._lanes.flights.values())
        self._lanes.close()
        self._awaiting.clear()
        self._kinds.clear()
        self._pace = Pace()
        self._packet_limit = None
        self._batches = MAX_BATCH_MESSAGES
        self.forget()

    def replaced(self) -> None:
        """The spool is another one, of a new epoch."""
        self._newest = {stream: self._outbox.counts(stream).next - 1 for stream in STREAMS}
        self.closed()

    def forget(self) -> None:
        """What was read of the spool no longer holds."""
        for chunk in self._chunks.values():
            chunk.clear()

    def committed(self, *, old: RangeSet | None = None) -> None:
        """What was added is durable now and may go. old: sequences of stream data that were taken over: backlog."""
        for stream in STREAMS:
            newest = self._outbox.counts(stream).next - 1
            for first, last in old or () if stream == "data" else ():
                self._lanes.extend("backlog", first, last)
                self._newest[stream] = max(self._newest[stream], last)
            if newest > self._newest[stream]:
                self._lanes.extend(LANE_LATER[stream], self._newest[stream] + 1, newest)
                self._newest[stream] = newest

    def add_gaps(self, moment: Moment) -> None:
        """Make messages of the records that wait, when they could be sent at once."""
        if self._outbox.gaps and self._lanes.connected and not self._lanes.waiting("alarm"):
            for gap in self._outbox.gaps.take(GAPS_AT_ONCE):
                self._outbox.add("alarm", "gap", encode_gap(gap), moment)

    def fill(self, dialect: Dialect, moment: Moment) -> int:
        """Give the transport all that may be in flight; how many messages of MQTT that was."""
        sent = 0
        self._release(moment)
        while self._lanes.connected and not dialect.holds:
            lane = self._lanes.next(bytes_allowed=self._pace.allowed)
            if lane is None:
                break
            sent += self._send(lane, dialect, moment)
        return sent

    def acknowledged(self, token: int, moment: Moment) -> None:
        """The broker has what `token` stands for, or the socket has, where nobody will ever say more."""
        flight = self._lanes.done(token)
        kind = self._kinds.pop(token, "")
        if flight is None:
            return
        self.tally.acknowledged += flight.count
        self._refusals.accepted(kind)
        self._pace.acknowledged(flight.sent_us, moment.monotonic_us)
        if self._receipts:
            self._awaiting.put(flight.stream, flight.first, flight.last, moment.monotonic_us)
        else:
            self._outbox.remove(flight.stream, flight.first, flight.last)

    def received(self, receipt: Receipt) -> None:
        """The historian has these; what is not of this spool is passed over."""
        if self._receipts and receipt.epoch == self._outbox.epoch:
            for stream in STREAMS:
                if stream == receipt.stream and receipt.first <= self._newest[stream]:
                    self._awaiting.heard()
                    self._outbox.remove(stream, receipt.first, min(receipt.last, self._newest[stream]))

    def rejected(self, token: int, code: int | None, moment: Moment) -> tuple[Stream, int] | None:
        """The broker refused it. The message that is given up now, if one is."""
        flight = self._lanes.done(token)
        kind = self._kinds.pop(token, "")
        if flight is None:
            return None
        self._chunks[flight.lane].clear()
        if flight.count > 1:
            self._batches = flight.count // 2 if code is None else 1
            self._lanes.extend(flight.lane, flight.first, flight.last)
            return None
        ruling = self._refusals.judge(flight.stream, flight.first, kind, code, moment.monotonic_us)
        if ruling.fate == "given-up":
            self._outbox.give_up(flight.stream, [(flight.first, flight.first)], "undeliverable")
            return flight.stream, flight.first
        if ruling.fate == "lane-later":
            self._lanes.pause(flight.lane, ruling.until_us)
        self._awaiting.later(flight.stream, flight.first, flight.last, ruling.until_us)
        return None

    def due_us(self) -> int | None:
        """Monotonic time at which fill() should be called although nothing happens."""
        times = [time for time in (self._awaiting.due_us(), self._lanes.due_us()) if time is not None]
        return min(times, default=None)

    def _release(self, moment: Moment) -> None:
        self._lanes.resume(moment.monotonic_us)
        for stream, first, last in self._awaiting.take(moment.monotonic_us):
            for low, high in self._outbox.present(stream, first, last):
                lane = LANE_AT_START[stream]
                self._lanes.extend(lane, low, high)
                self._chunks[lane].clear()
                self.tally.resent += high - low + 1

    def _send(self, lane: Lane, dialect: Dialect, moment: Moment) -> int:
        chunk = self._fetched(lane)
        if not chunk:
            return 0
        if lane == "backlog" and self._batches > 1 and len(chunk) > 1:
            messages = self._some(chunk)
            batch = self._batch(messages, lane, dialect) if len(messages) > 1 else None
            if batch is not None:
                self._hand_over(lane, *batch, kind="batch", moment=moment)
                return 1
        message = chunk[0]
        age = self._outbox.boots.age(message.boot, message.monotonic_us, moment)
        publish = dialect.encode(message, Sending(lane, age.us // 1000 if age.exact else None))
        self._hand_over(lane, publish, (message,), kind=message.kind, moment=moment)
        return 1

    def _batch(
        self, messages: tuple[Spooled, ...], lane: Lane, dialect: Dialect
    ) -> tuple[Publish, tuple[Spooled, ...]] | None:
        while len(messages) > 1:
            publish = dialect.encode_batch(messages, Sending(lane, None))
            if publish is None:
                self._batches = 1 if len(messages) < 16 else self._batches
                return None
            if self._packet_limit is None or len(publish.payload) + 2 * WIRE <= self._packet_limit:
                return publish, messages
            messages = messages[: len(messages) // 2]
        return None

    def _hand_over(
        self, lane: Lane, publish: Publish, messages: tuple[Spooled, ...], *, kind: str, moment: Moment
    ) -> None:
        self._token += 1
        first, last = messages[0].sequence, messages[-1].sequence
        size = len(publish.payload) + WIRE
        self._lanes.sent(self._token, Flight(lane, first, last, len(messages), size, moment.monotonic_us))
        self._kinds[self._token] = kind
        chunk = self._chunks[lane]
        while chunk and chunk[0].sequence <= last:
            chunk.popleft()
        self._publish(self._token, publish)

    def _some(self, chunk: collections.deque[Spooled]) -> tuple[Spooled, ...]:
        """The first of `chunk`, as many as one batch may hold."""
        allowed = min(MAX_BATCH_BYTES, max(16 << 10, 8 * self._pace.allowed))
        found: list[Spooled] = []
        for message in chunk:
            allowed -= len(message.body) + AROUND
            if len(found) == self._batches or (found and allowed < 0):
                break
            found.append(message)
        return tuple(found)

    def _fetched(self, lane: Lane) -> collections.deque[Spooled]:
        """What of the lane was read from the spool, read now if need be; empty when nothing is there."""
        if self._given_up != self._outbox.given_up.total():
            self._given_up = self._outbox.given_up.total()
            self.forget()
        chunk = self._chunks[lane]
        while not chunk:
            head = self._lanes.waiting(lane).head
            if head is None:
                break
            limit = MAX_BATCH_MESSAGES if lane == "backlog" and self._batches > 1 else AHEAD
            chunk.extend(self._outbox.read(STREAM_OF[lane], *head, limit))
            self._lanes.passed(lane, chunk[0].sequence - 1 if chunk else head[1])
        return chunk
