"""What the spool may hold: budgets, and ages beyond which nobody wants a message. ADR 0025."""

from __future__ import annotations

from appliance.core.clock import Moment
from appliance.formats.device import LaneConfig, UplinkConfig
from appliance.formats.gap import GapReason
from appliance.uplink.outbox import GAP, STREAMS, Head, Outbox
from appliance.uplink.ranges import RangeSet, runs
from appliance.uplink.spooled import Stream
from appliance.uplink.spoolwrite import ROW_OVERHEAD

AT_ONCE = 256  # messages that are looked at in one step
STEPS = 16  # of one call: a round must not take long
FREED = 64  # one part of the budget that is freed at once: drops come in ranges, not one by one


class Keeper:
    """Holds the outbox to the lanes' configuration."""

    def __init__(self, outbox: Outbox, config: UplinkConfig) -> None:
        self._outbox = outbox
        self._lanes: dict[Stream, LaneConfig] = {"alarm": config.alarm, "data": config.data, "audit": config.audit}
        self._strict = config.powered_off == "expired"
        self._full: set[Stream] = set()
        self.committed()

    def budget(self, stream: Stream) -> int:
        """Bytes."""
        return self._lanes[stream].bytes

    def fits(self, stream: Stream, size: int) -> bool:
        """Whether a body of `size` has room now."""
        return self._over(stream, size) <= 0

    def make_room(self, stream: Stream, size: int, flying: RangeSet) -> bool:
        """Whether a body of `size` fits; under drop-oldest, the oldest go first. flying: what must stay."""
        lane, needed = self._lanes[stream], self._over(stream, size)
        if needed <= 0:
            return True
        freed = 0 if lane.full == "refuse" else self._drop(stream, max(needed, lane.bytes // FREED), flying)
        self._freed[stream] += freed
        if freed < needed:
            self._full.add(stream)
        return freed >= needed

    def take_full(self) -> list[Stream]:
        """Streams that had no room since the last call."""
        full = sorted(self._full)
        self._full.clear()
        return full

    def committed(self) -> None:
        """What was dropped has left the counts."""
        self._freed: dict[Stream, int] = dict.fromkeys(STREAMS, 0)

    def expire(self, moment: Moment, flying: dict[Stream, RangeSet]) -> int:
        """Give up what is too old; how many messages that were."""
        return sum(
            self._expire(stream, lane.expiry_s * 1_000_000, moment, flying[stream])
            for stream, lane in self._lanes.items()
            if lane.expiry_s
        )

    def _over(self, stream: Stream, size: int) -> int:
        held = self._outbox.counts(stream).bytes - self._freed[stream]
        return held + size + ROW_OVERHEAD - self._lanes[stream].bytes

    def _drop(self, stream: Stream, wanted: int, flying: RangeSet) -> int:
        freed, at = 0, 1
        for _ in range(STEPS):
            heads, at = self._oldest(stream, at, flying)
            chosen: list[Head] = []
            for head in heads:
                if freed >= wanted:
                    break
                if head.kind != GAP:
                    chosen.append(head)
                    freed += head.cost
            self._give_up(stream, chosen, "dropped")
            if freed >= wanted or not at:
                break
        return freed

    def _expire(self, stream: Stream, limit_us: int, moment: Moment, flying: RangeSet) -> int:
        gone, at = 0, 1
        for _ in range(STEPS):
            heads, at = self._oldest(stream, at, flying)
            old = [head for head in heads if self._too_old(head, limit_us, moment)]
            chosen = [head for head in old if head.kind != GAP]
            self._give_up(stream, chosen, "expired")
            gone += len(chosen)
            if len(old) < len(heads) or not at:
                break
        return gone

    def _too_old(self, head: Head, limit_us: int, moment: Moment) -> bool:
        age = self._outbox.boots.age(head.boot, head.monotonic_us, moment)
        return age.us >= limit_us or (self._strict and not age.exact)

    def _oldest(self, stream: Stream, at: int, flying: RangeSet) -> tuple[list[Head], int]:
        """Some messages from `at` on that are not on the wire, and where to go on; 0 at the end."""
        end = self._outbox.counts(stream).next - 1
        found: list[Head] = []
        for first, last in flying.outside(at, end):
            found += self._outbox.heads(stream, first, last, AT_ONCE - len(found))
            if len(found) >= AT_ONCE:
                return found, found[-1].sequence + 1
        return found, 0

    def _give_up(self, stream: Stream, heads: list[Head], reason: GapReason) -> None:
        if heads:
            self._outbox.give_up(stream, runs(head.sequence for head in heads), reason)
