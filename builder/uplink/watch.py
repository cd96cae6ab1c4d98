"""What a watcher does with each MQTT message, and what it can say afterwards. Pure: time is an argument."""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from appliance.core.errors import DecodeError
from appliance.formats.gap import decode_gap
from appliance.formats.receipt import MAX_RANGES, HistorianReceipt, encode_receipt
from appliance.formats.uplink_envelope import RECEIPT_LEVEL
from builder.uplink.intervals import IntervalSet, Range
from builder.uplink.receive import Message, is_ours, read_message
from builder.uplink.tally import StreamName, Tally

SHOWN_RANGES = 64
_RATE_S = 10
_GAP_KIND = "gap"


@dataclass(frozen=True)
class Heard:
    """One MQTT message. packet: its identifier; 0 with QoS 0. again: the broker says that it has sent it before."""

    topic: str
    payload: bytes
    content_type: str
    properties: tuple[tuple[str, str], ...]
    packet: int
    again: bool

    @property
    def digest(self) -> str:
        """Names it among the few that were not acknowledged to the broker yet."""
        return hashlib.sha256(self.topic.encode() + b"\0" + self.payload).hexdigest()[:16]


class Rate:
    """Messages a second, over the last _RATE_S seconds."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, int]] = deque(maxlen=_RATE_S + 1)

    def count(self, now_s: float) -> None:
        """One more."""
        second = int(now_s)
        if self._seconds and self._seconds[-1][0] == second:
            self._seconds[-1] = (second, self._seconds[-1][1] + 1)
        else:
            self._seconds.append((second, 1))

    def per_second(self, now_s: float) -> float:
        """Of the last whole seconds."""
        since = int(now_s) - _RATE_S
        return sum(count for second, count in self._seconds if since <= second < int(now_s)) / _RATE_S


class Recent:
    """The last messages that were counted, by packet identifier: the broker sends one again when it did not hear our
    acknowledgement, and that is no duplicate of the device's.
    """

    def __init__(self, limit: int, entries: tuple[tuple[int, str], ...] = ()) -> None:
        """limit: as many as the broker may have on the way to us at once."""
        self._limit = limit
        self._digests: OrderedDict[int, str] = OrderedDict(entries)

    def knows(self, heard: Heard) -> bool:
        """Whether this is such a repetition."""
        return heard.again and self._digests.get(heard.packet) == heard.digest

    def add(self, heard: Heard) -> None:
        """It was counted."""
        self._digests.pop(heard.packet, None)
        self._digests[heard.packet] = heard.digest
        while len(self._digests) > self._limit:
            self._digests.popitem(last=False)

    def entries(self) -> tuple[tuple[int, str], ...]:
        """For the state file, oldest first."""
        return tuple(self._digests.items())


class Watch:
    """Counts. unreadable: messages that claim to be a device's and are not as the spec says; last_fault: the last's."""

    def __init__(self, tally: Tally, recent: Recent, *, unreadable: int = 0) -> None:
        self.tally = tally
        self.recent = recent
        self.unreadable = unreadable
        self.last_fault: str | None = None
        self._rates: dict[StreamName, Rate] = {}
        self._ages: dict[StreamName, int | None] = {}
        self._touched: dict[StreamName, IntervalSet] = {}
        self._prefixes: dict[str, str] = {}

    def take(self, heard: Heard, now_s: float) -> bool:
        """Count what is in it. now_s: of any steady clock. Whether it was a device's message."""
        if not is_ours(heard.content_type, heard.properties):
            return False
        try:
            messages = read_message(heard.topic, heard.payload, heard.content_type, heard.properties)
            gaps = [decode_gap(each.envelope.body) for each in messages if each.envelope.kind == _GAP_KIND]
        except DecodeError as error:
            self.unreadable += 1
            self.last_fault = f"{heard.topic[:200]}: {error.message}"
            return True
        again = self.recent.knows(heard)
        for message in messages:
            self._take(message, now_s, again=again, topic=heard.topic)
        for gap in gaps:
            self.tally.excuse(StreamName(messages[0].envelope.device, gap.epoch, gap.stream), gap.first, gap.last)
        if not again and heard.packet:
            self.recent.add(heard)
        return True

    def _take(self, message: Message, now_s: float, *, again: bool, topic: str) -> None:
        envelope = message.envelope
        name = StreamName(envelope.device, envelope.epoch, envelope.stream)
        if not again:
            self.tally.take(name, envelope.sequence, message.lane)
            self._rates.setdefault(name, Rate()).count(now_s)
            self._ages[name] = message.age_ms
        self._touched.setdefault(name, IntervalSet()).add(envelope.sequence)
        self._prefixes[envelope.device] = topic.rpartition("/")[0]

    def receipts(self) -> Iterator[tuple[str, bytes]]:
        """Topic and payload of receipts for what was taken since the last call; say them once it is kept safely.

        They name whole ranges, so that a receipt that was lost is made good by the next one.
        """
        for name, touched in self._touched.items():
            arrived = self.tally.streams[name].arrived
            ranges = list(dict.fromkeys(arrived.range_of(first) for first, _last in touched))
            for place in range(0, len(ranges), MAX_RANGES):
                receipt = HistorianReceipt(
                    device=name.device,
                    epoch=name.epoch,
                    stream=name.stream,
                    ranges=tuple(ranges[place : place + MAX_RANGES]),
                )
                yield f"{self._prefixes[name.device]}/{RECEIPT_LEVEL}", encode_receipt(receipt)
        self._touched.clear()

    def rows(self, now_s: float) -> list[dict[str, Any]]:
        """Every stream as plain data, sorted: what --json prints and the table shows."""
        return [self._row(name, now_s) for name in sorted(self.tally.streams)]

    def _row(self, name: StreamName, now_s: float) -> dict[str, Any]:
        stream = self.tally.streams[name]
        missing: list[Range] = list(stream.missing())
        rate = self._rates.get(name)
        return {
            "device": name.device,
            "epoch": name.epoch,
            "stream": name.stream,
            "highest": stream.highest,
            "received": stream.received,
            "duplicates": stream.duplicates,
            "late": stream.late,
            "disordered": stream.disordered,
            "missing": sum(last - first + 1 for first, last in missing),
            "missing_ranges": [list(each) for each in missing[:SHOWN_RANGES]],
            "excused": stream.excused_count,
            "rate": 0.0 if rate is None else rate.per_second(now_s),
            "age_ms": self._ages.get(name),
        }

    @property
    def whole(self) -> bool:
        """Nothing is missing, disordered or unreadable."""
        return not (self.unreadable or self.tally.total("missing_count") or self.tally.total("disordered"))
