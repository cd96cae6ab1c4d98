"""One run: a device, its broker, a link between them, and a schedule of what goes wrong."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from tests.integration.services_harness import Authority
from tests.support.chaos.broker import ChaosBroker
from tests.support.chaos.consumer import Consumer
from tests.support.chaos.device import DEVICE, NAMESPACE, Disk, WallClock, provision
from tests.support.chaos.judge import Judgement, judge
from tests.support.chaos.loss import PacketLoss
from tests.support.chaos.producer import Producer, wait
from tests.support.chaos.relay import Relay
from tests.support.chaos.schedule import LINK, SECONDS, Event, Plan, make_schedule
from tests.support.chaos.second import tallied
from tests.support.chaos.supervisor import Supervisor

LATENCY_S = 2.0
BYTES_PER_S = 8000  # 64 kbit/s
RESET_BYTES = 60_000
LOSS_PERCENT = 30
OWN_KINDS = frozenset({"certificate-request"})
DISK_FULL_S = 20.0
TRAFFIC_S = 60.0
_STALL_S = 75.0
_BROKER_AWAY_S = 0.5

Subject = Literal["uplink", "standin", "standin-early"]


@dataclass(frozen=True)
class Leg:
    """delivery: broker, where the broker keeps its sessions; historian, where it may forget what it acknowledged."""

    plan: Plan
    seed: int
    rate: float
    delivery: Literal["broker", "historian"] = "broker"
    subject: Subject = "uplink"


class Story:
    """Everything that runs, below `directory` (empty). Needs network and mount namespaces of its own."""

    def __init__(self, leg: Leg, directory: Path) -> None:
        self.leg = leg
        self.said: list[str] = []
        self.struck = 0
        """Faults of the link that began while messages came through it."""
        authority = Authority.make("site CA")
        self.broker = ChaosBroker(directory / "broker", authority, keeps=leg.delivery == "broker").start()
        self.relay = Relay(self.broker.port, seed=leg.seed)
        self.loss = PacketLoss(self.relay.port, percent=LOSS_PERCENT, seed=leg.seed)
        self.disk = Disk(directory / "disk")
        self.clock = WallClock(directory)
        config = provision(directory, authority, port=self.relay.port, delivery=leg.delivery)
        self.consumer = Consumer(
            self.broker.reader_port, namespace=NAMESPACE.topic, device=DEVICE, receipts=leg.delivery == "historian"
        )
        path = directory / "uplink.sock"
        arguments = _program(leg.subject, config, self.disk.path, directory / "audit.sock", self.clock.file)
        self.supervisor = Supervisor(arguments, path, directory)
        self.producer = Producer(path, device=DEVICE, messages=leg.plan.messages, rate=leg.rate, seed=leg.seed)

    def run(self) -> dict[str, Any]:
        """The whole story; returns what was counted. Raises AssertionError when something stands still."""
        try:
            return self._run()
        finally:
            self.close()

    def _run(self) -> dict[str, Any]:
        begun = time.monotonic()
        schedule = make_schedule(self.leg.plan, self.leg.seed)
        self.producer.start()
        hands = [_Hand(self, [event for event in schedule if (event.fault in LINK) is link]) for link in (True, False)]
        for hand in hands:
            hand.start()
        for hand in hands:
            hand.join()
            if hand.error is not None:
                raise hand.error
        wait(lambda: self.producer.done, what=f"the producer, at {self.producer.accepted}", within_s=3600)
        produced = time.monotonic()
        self._drain()
        result = self._result(time.monotonic() - begun, produced - begun)
        result["stopped"] = self.supervisor.stop()
        if self.consumer.error is not None:
            raise self.consumer.error
        return result

    def close(self) -> None:
        """End everything that is left."""
        self.producer.stop()
        self.supervisor.stop()
        self.consumer.close()
        self.broker.kill()
        self.disk.umount()

    def _drain(self) -> None:
        """Until everything promised has arrived, or nothing has for a long time."""
        last, since = -1, time.monotonic()
        promised = self.producer.ledger.accepted.keys()
        while time.monotonic() < since + _STALL_S and self.consumer.error is None:
            if len(self.consumer.arrivals) != last:
                last, since = len(self.consumer.arrivals), time.monotonic()
                if last >= len(promised) and promised <= {(one.stream, one.sequence) for one in self.consumer.arrivals}:
                    break
            time.sleep(0.5)
        time.sleep(1.0)  # whatever is still under way: repetitions, strangers

    def _result(self, seconds: float, produced: float) -> dict[str, Any]:
        ledger = self.producer.ledger
        sessions = sorted((*self.relay.started, *self.consumer.sessions[1:]))
        found: Judgement = judge(
            ledger.accepted,
            ledger.unanswered,
            self.consumer.arrivals,
            sessions,
            own_kinds=OWN_KINDS,
            repeated=ledger.repeated,
        )
        return {
            "seed": self.leg.seed,
            "delivery": self.leg.delivery,
            **{name: value for name, value in asdict(found).items() if name != "examples"},
            "reader": tallied(self.consumer.arrivals, DEVICE),
            "kills": self.supervisor.kills,
            "crashes": self.supervisor.crashes,
            "reconnects": self.relay.connections - 1,
            "link_faults_in_traffic": self.struck,
            "broker_starts": self.broker.starts,
            "unanswered": len(ledger.unanswered),
            "hang_ups": ledger.hang_ups,
            "refused": dict(ledger.refused),
            "segments_dropped": self.loss.dropped,
            "bytes_up": self.relay.up,
            "seconds": round(seconds, 1),
            "seconds_producing": round(produced, 1),
            "faults": found.faults,
            "examples": found.examples,
        }


class _Hand(threading.Thread):
    """Does what its part of the schedule says, one after the other."""

    def __init__(self, story: Story, events: list[Event]) -> None:
        super().__init__(name="chaos", daemon=True)
        self._story = story
        self._events = events
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            for event in self._events:
                wait(lambda at=event.at: self._due(at), what=f"{event} to be due", within_s=3600)  # type: ignore[misc]
                if event.fault in LINK:
                    self._wait_for_traffic()
                self._say(event)
                self._do(event)
        except BaseException as error:
            self.error = error

    def _due(self, at: int) -> bool:
        return self._story.producer.accepted >= at or self._story.producer.done

    def _wait_for_traffic(self) -> None:
        """A fault of the link hits a link that is in use, or everything has arrived already."""
        story, end = self._story, time.monotonic() + TRAFFIC_S
        before = len(story.consumer.arrivals)
        while time.monotonic() < end and len(story.consumer.arrivals) == before:
            if story.producer.done and before >= story.producer.accepted:
                return
            time.sleep(0.01)
        story.struck += len(story.consumer.arrivals) > before

    def _say(self, event: Event) -> None:
        text = f"{self._story.producer.accepted} accepted, {len(self._story.consumer.arrivals)} arrived: {event.fault}"
        self._story.said.append(text)
        print(text, file=sys.stderr, flush=True)

    def _do(self, event: Event) -> None:
        story, relay = self._story, self._story.relay
        begin: dict[str, Callable[[], object]] = {
            "kill": story.supervisor.kill,
            "clock-step": lambda: story.clock.step(event.value),
            "disk-full": self._fill_disk,
            "broker-restart": lambda: _restart(story.broker, story.broker.stop),
            "broker-kill": lambda: _restart(story.broker, story.broker.kill),
            "cut": relay.cut,
            "half-open": relay.half_open,
            "loss": story.loss.start,
            "latency": lambda: setattr(relay, "latency_s", LATENCY_S),
            "bandwidth": lambda: setattr(relay, "bytes_per_s", BYTES_PER_S),
            "reset": lambda: relay.resets(RESET_BYTES),
        }
        begin[event.fault]()
        time.sleep(SECONDS.get(event.fault, 0.0) if event.fault in LINK else 0.0)
        if event.fault == "loss":
            story.loss.stop()
        elif event.fault in LINK:
            relay.heal()
            wait(story.consumer.attached.is_set, what="the consumer to be attached", within_s=60)

    def _fill_disk(self) -> None:
        """Full until somebody was refused for it: the database has pages in stock, and lives on them for a while."""
        story = self._story
        before = story.producer.ledger.refused.total()
        story.disk.fill()
        story.producer.rush = True
        end = time.monotonic() + DISK_FULL_S
        while time.monotonic() < end and story.producer.ledger.refused.total() == before and not story.producer.done:
            time.sleep(0.02)
            story.disk.fill()  # a checkpoint may have given something back
        story.producer.rush = False
        time.sleep(SECONDS["disk-full"])
        story.disk.release()


def _restart(broker: ChaosBroker, end: Callable[[], None]) -> None:
    end()
    time.sleep(_BROKER_AWAY_S)
    broker.start()


def _program(subject: Subject, config: Path, disk: Path, audit: Path, clock: Path) -> list[str]:
    if subject == "uplink":
        return ["-m", "tests.support.chaos.subject", str(config), str(disk / "outbox.sqlite"), str(audit), str(clock)]
    early = ["--early"] if subject == "standin-early" else []
    return ["-m", "tests.support.chaos.standin", str(disk / "standin.sqlite"), NAMESPACE.topic, *early]
