"""The spool, its lanes and its sender against a simple model, in any order of accepting, committing, crashing, losing.

None lost that was accepted; each lane in order on each connection; every number is delivered or in one gap record.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from appliance.core.clock import Moment, TimeQuality
from appliance.formats.device import DataLaneConfig, LaneConfig, Namespace, UplinkConfig
from appliance.formats.gap import decode_gap
from appliance.uplink import lanes as lanes_module
from appliance.uplink import spoolfile
from appliance.uplink.courier import Courier
from appliance.uplink.dialect import Publish, Receipt, Sending
from appliance.uplink.keeping import Keeper
from appliance.uplink.lanes import LANES, Lanes
from appliance.uplink.outbox import STREAMS, Outbox
from appliance.uplink.spooled import Lane, Spooled, Stream
from appliance.uplink.spoolfile import SpoolUnwritableError
from tests.support.effort import examples

CONFIG = UplinkConfig(
    namespace=Namespace(enterprise="e", site="s"),
    alarm=LaneConfig(bytes=64 << 10, full="drop-oldest"),
    data=DataLaneConfig(bytes=64 << 10, full="drop-oldest", expiry_s=3600),
    audit=LaneConfig(bytes=64 << 10),
)
SHARES: dict[Lane, int] = {"live": 50, "backlog": 50, "audit": 20}
S = 1_000_000


class Plain:
    """A dialect whose payload is not looked at; what was sent is kept."""

    def __init__(self, batches: bool) -> None:
        self.batches = batches
        self.holds = False
        self.last: tuple[Lane, tuple[Spooled, ...]] | None = None

    def encode(self, message: Spooled, sending: Sending) -> Publish:
        """One."""
        self.last = (sending.lane, (message,))
        return Publish("t", message.body)

    def encode_batch(self, messages: tuple[Spooled, ...], sending: Sending) -> Publish | None:
        """Several."""
        if not self.batches:
            return None
        self.last = (sending.lane, messages)
        return Publish("t", b"".join(message.body for message in messages))


class Device(RuleBasedStateMachine):
    """One device, one broker that remembers everything."""

    historian = False

    @initialize(batches=st.booleans())
    def begin(self, batches: bool) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="edgeseal-spool-"))
        self.boot, self.now_us = 1, S
        self.quality: TimeQuality = "unknown"
        self.accepted: dict[Stream, dict[int, bytes]] = {stream: {} for stream in STREAMS}
        self.uncommitted: list[tuple[Stream, int, bytes]] = []
        self.unremoved: list[tuple[Stream, int]] = []
        self.delivered: dict[Stream, set[int]] = defaultdict(set)
        self.finished: dict[Stream, set[int]] = defaultdict(set)
        self.gaps: list[tuple[Stream, int, int]] = []
        self.excused: dict[Stream, set[int]] = defaultdict(set)
        self.order: dict[Lane, int] = {}
        self.wire: list[tuple[int, Lane, tuple[Spooled, ...]]] = []
        self.retrying = False
        self.dialect: Any = Plain(batches)
        self.start()

    def start(self) -> None:
        """The service starts."""
        self.outbox = Outbox(self.directory / "outbox", self.moment())
        assert self.outbox.replaced is None
        self.keeper = Keeper(self.outbox, CONFIG)
        self.lanes = Lanes(SHARES)
        receipt_us = 60 * S if self.historian else None
        self.courier = Courier(self.outbox, self.lanes, self.publish, receipt_us=receipt_us)

    def moment(self) -> Moment:
        return Moment(f"{self.boot:032x}", self.now_us, 1_700_000_000 * S + self.now_us, self.quality)

    def publish(self, token: int, _message: Publish) -> None:
        lane, messages = self.dialect.last
        self.wire.append((token, lane, messages))

    @rule(stream=st.sampled_from(STREAMS), count=st.integers(1, 30), size=st.sampled_from([0, 400, 6000]))
    def accept(self, stream: Stream, count: int, size: int) -> None:
        for _ in range(count):
            number = self.outbox.counts(stream).next
            body = b"%d %b" % (number, bytes(size))
            if self.keeper.make_room(stream, len(body), self.lanes.in_flight(stream)):
                assert self.outbox.add(stream, "k", body, self.moment()) == number
                self.uncommitted.append((stream, number, body))

    @rule()
    def commit(self) -> None:
        self.courier.add_gaps(self.moment())
        self.outbox.commit(self.moment())
        self.keeper.committed()
        self.courier.committed()
        for stream, number, body in self.uncommitted:
            self.accepted[stream][number] = body
        self.uncommitted.clear()
        self.unremoved.clear()

    @rule()
    def commit_on_a_full_disk(self) -> None:
        """Unless removals make room, nothing of it is kept."""
        database = self.outbox._database
        [pages] = database.execute("PRAGMA page_count").fetchone()
        database.execute(f"PRAGMA max_page_count={pages}")
        try:
            self.commit()
        except SpoolUnwritableError:
            self.outbox.forget()
            self.uncommitted.clear()
        finally:
            database.execute("PRAGMA max_page_count=1000000")

    @rule(reboots=st.booleans())
    def crash(self, reboots: bool) -> None:
        self.lose()
        self.outbox.close()
        self.uncommitted.clear()
        for stream, number in self.unremoved:  # a crash brings back what was acknowledged a moment before
            self.finished[stream].discard(number)
        self.unremoved.clear()
        if reboots:
            self.boot, self.now_us = self.boot + 1, S
        self.start()

    @rule(count=st.integers(10, 30))
    def stream(self, count: int) -> None:
        """The usual case: some are accepted, and go."""
        self.accept("data", count, 400)
        self.commit()
        self.send()

    @rule()
    def overflow(self) -> None:
        """More than the budget."""
        for _ in range(3):
            self.accept("data", 8, 6000)
            self.commit()
            self.send()

    @rule(limit=st.integers(1, 20))
    def connect(self, limit: int) -> None:
        self.lose()
        self.courier.opened(limit, None)
        self.order.clear()
        self.retrying = False

    @rule()
    def lose(self) -> None:
        self.courier.closed()
        self.wire.clear()

    @rule()
    def send(self) -> None:
        before = len(self.wire)
        self.courier.fill(self.dialect, self.moment())
        for _, lane, messages in self.wire[before:]:
            for message in messages:
                self.arrive(lane, message)

    def arrive(self, lane: Lane, message: Spooled) -> None:
        """The broker sees it, whatever becomes of its acknowledgement."""
        known = self.accepted[message.stream]
        if message.sequence in known:
            assert message.body == known[message.sequence]
        else:
            assert message.kind == "gap", "it was never accepted"
            known[message.sequence] = message.body
        assert message.sequence not in self.excused[message.stream], "it was given up"
        if not self.retrying:
            assert message.sequence > self.order.get(lane, 0), f"{lane} is out of order"
            self.order[lane] = message.sequence
        if message.kind == "gap" and message.sequence not in self.delivered["alarm"]:
            gap = decode_gap(message.body)
            assert gap.last is not None
            self.gaps.append((gap.stream, gap.first, gap.last))
            numbers = set(range(gap.first, gap.last + 1))
            assert not numbers & self.excused[gap.stream], "two gap records say the same"
            assert not numbers & self.finished[gap.stream], "it was acknowledged"
            self.excused[gap.stream] |= numbers
        self.delivered[message.stream].add(message.sequence)

    @precondition(lambda self: self.wire)
    @rule(count=st.integers(1, 30))
    def acknowledge(self, count: int) -> None:
        for token, _, messages in self.wire[:count]:
            self.courier.acknowledged(token, self.moment())
            if not self.historian:
                for message in messages:
                    self.finish_one(message)
            else:
                self.receive(messages)
        del self.wire[:count]

    def receive(self, messages: tuple[Spooled, ...]) -> None:
        """The historian has one of two."""
        for message in messages[::2]:
            receipt = Receipt(self.outbox.epoch, message.stream, message.sequence, message.sequence)
            self.courier.received(receipt)
            self.finish_one(message)

    def finish_one(self, message: Spooled) -> None:
        """It is delivered: nobody may give it up any more."""
        self.finished[message.stream].add(message.sequence)
        self.unremoved.append((message.stream, message.sequence))

    @precondition(lambda self: self.wire)
    @rule(code=st.sampled_from([0x97, 0x87, None]))
    def reject(self, code: int | None) -> None:
        token, _, _ = self.wire.pop(0)
        self.courier.rejected(token, code, self.moment())
        self.retrying = True

    @rule(seconds=st.sampled_from([1, 59, 700, 1800]))
    def wait(self, seconds: int) -> None:
        self.now_us += seconds * S
        if self.historian:
            self.retrying = True
        flying = {stream: self.lanes.in_flight(stream) for stream in STREAMS}
        self.keeper.expire(self.moment(), flying)

    @rule(quality=st.sampled_from(["unknown", "held", "synchronised"]))
    def clock(self, quality: TimeQuality) -> None:
        self.quality = quality

    @invariant()
    def the_window_is_kept(self) -> None:
        if hasattr(self, "lanes") and self.lanes.connected:
            assert len(self.lanes.flights) <= 20

    def teardown(self) -> None:
        """Give it a good connection and all the time it wants: then everything is accounted for."""
        self.commit()
        if self.lanes.connected and not self.retrying:
            self.drain()
            assert not self.outbox.rows, "what is on the disk must go without another connection"
        self.connect(20)
        self.drain()
        assert (self.outbox.rows, self.outbox.used, bool(self.outbox.gaps)) == (0, 0, False)
        for stream, numbers in self.accepted.items():
            missing = set(numbers) - self.delivered[stream] - self.excused[stream]
            assert not missing, f"{stream}: lost {sorted(missing)}"
            assert self.excused[stream] <= set(range(1, self.outbox.counts(stream).next))
        self.outbox.close()
        shutil.rmtree(self.directory)

    def drain(self) -> None:
        """Send and acknowledge until nothing is left."""
        while True:
            self.send()
            self.commit()
            if not self.wire and not self.outbox.gaps and not any(self.lanes.waiting(lane) for lane in LANES):
                break
            self.finish()

    def finish(self) -> None:
        """Everything on the wire is acknowledged, and the historian has it."""
        for token, _, messages in self.wire:
            self.courier.acknowledged(token, self.moment())
            for message in messages:
                self.courier.received(Receipt(self.outbox.epoch, message.stream, message.sequence, message.sequence))
                self.finish_one(message)
        self.wire.clear()


class DeviceWithHistorian(Device):
    """Rows stay until the receipt."""

    historian = True


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here loses power, and live falls behind soon."""
    quick = tuple("synchronous=OFF" if one == "synchronous=FULL" else one for one in spoolfile._PRAGMAS)
    monkeypatch.setattr(spoolfile, "_PRAGMAS", quick)
    monkeypatch.setattr(lanes_module, "LIVE_BEHIND", 20)
    monkeypatch.setattr(lanes_module, "LIVE_KEPT", 5)


EFFORT = settings(examples(60), stateful_step_count=40)
TestDevice = pytest.mark.usefixtures("no_disk")(Device.TestCase)
TestDevice.settings = EFFORT
TestDeviceWithHistorian = DeviceWithHistorian.TestCase
TestDeviceWithHistorian.settings = EFFORT
