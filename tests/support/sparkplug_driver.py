"""Drives the Sparkplug dialect as the service and its transport do, and records what they would put on the wire."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from appliance.core.clock import Moment, TimeQuality
from appliance.formats.alarm import Alarm, encode_alarm
from appliance.formats.gap import Gap, encode_gap
from appliance.formats.update_report import UpdateReport, encode_update_report
from appliance.formats.verdict import Verdict, encode_verdict
from appliance.uplink.dialect import HangUp, Publish, Reaction, Say, Sending
from appliance.uplink.json_dialect import JsonDialect
from appliance.uplink.sparkplug import SparkplugDialect
from appliance.uplink.sparkplug_births import BirthCounter
from appliance.uplink.spooled import Lane, Spooled, Stream
from tests.support.sparkplug_recording import (
    Connect,
    Ended,
    Heard,
    Message,
    Record,
    Recording,
    Restarted,
    Said,
    Subscribe,
)

GROUP, NODE, HOST, EPOCH = "plant-4", "line-3", "scada", "e" * 32
NAMESPACE = "acme/plant-4"
START_US = 1_767_225_600_000_000  # 2026-01-01, UTC
BOOT_ID = "0b" * 16


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self, quality: TimeQuality = "synchronised") -> None:
        self.now = Moment(BOOT_ID, 60_000_000, START_US, quality)

    def __call__(self) -> Moment:
        return self.now

    def forward(self, seconds: float) -> None:
        step = round(seconds * 1_000_000)
        self.now = replace(self.now, monotonic_us=self.now.monotonic_us + step, wall_us=self.now.wall_us + step)

    @property
    def ms(self) -> int:
        return self.now.wall_us // 1000


class Driver:
    """One edge node. host: its primary host; empty for none."""

    def __init__(self, directory: Path, *, host: str = HOST, walks: bool = False, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.host = host
        self.connected = False
        self.records: list[Record] = []
        self.published: list[Publish] = []
        self._sequences: dict[Stream, int] = {}
        self._path = directory / "sparkplug-bdseq"
        self._walks = walks
        self.restart()

    def restart(self) -> None:
        """A new process: what was in memory is gone."""
        self.lose()
        self.records.append(Restarted())
        self.dialect = SparkplugDialect(
            json=JsonDialect(namespace=NAMESPACE, device=NODE, epoch=EPOCH, batches=True, receipts=True),
            group=GROUP,
            device=NODE,
            epoch=EPOCH,
            primary_host=self.host,
            births=BirthCounter(self._path),
            clock=self.clock,
            walks=self._walks,
        )

    @property
    def recording(self) -> Recording:
        return Recording(GROUP, NODE, self.host, tuple(self.records))

    def connect(self, broker: str = "") -> None:
        self.lose()
        self.records.append(Connect(self._message(self.dialect.will()), broker=broker))
        self.records += [Subscribe(topic, 1) for topic in self.dialect.subscriptions()]
        self.connected = True
        self._say(*self.dialect.opened(broker))

    def fail_to_connect(self) -> None:
        """TCP or TLS fails: CONNECT is never sent."""
        self.lose()
        self.dialect.will()
        self.dialect.unsent()

    def lose(self) -> None:
        if self.connected:
            self.records.append(Ended(None))
        self.connected = False

    def leave(self) -> None:
        """Hang up in order."""
        if self.connected:
            self._say(*self.dialect.closing())
            self.records.append(Ended(4))
        self.connected = False

    def hear(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> tuple[Reaction, ...]:
        if not self.connected:
            return ()
        self.records.append(Heard(Message(topic, payload, qos, retain, self.clock.ms)))
        reactions = self.dialect.heard(topic, payload)
        for reaction in reactions:
            if isinstance(reaction, Say):
                self._say(reaction.publish)
            elif isinstance(reaction, HangUp):
                self.leave()
        return reactions

    def host_says(self, online: bool, *, at_ms: int | None = None, host: str = HOST) -> tuple[Reaction, ...]:
        state = {"online": online, "timestamp": self.clock.ms if at_ms is None else at_ms}
        return self.hear(f"spBv1.0/STATE/{host}", json.dumps(state).encode(), qos=1, retain=True)

    def command(self, payload: bytes) -> tuple[Reaction, ...]:
        return self.hear(f"spBv1.0/{GROUP}/NCMD/{NODE}", payload)

    def send(self, message: Spooled, lane: Lane = "live", *, age_ms: int | None = 0) -> Publish | None:
        """None when it has to wait."""
        if not self.connected or self.dialect.holds:
            return None
        publish = self.dialect.encode(message, Sending(lane, age_ms))
        self._say(publish)
        return publish

    def verdict(self, **changed: object) -> Spooled:
        return self.spooled("data", "verdict", verdict_body(), **changed)

    def spooled(self, stream: Stream, kind: str, body: bytes, **changed: object) -> Spooled:
        """The next message of `stream`, accepted now."""
        self._sequences[stream] = self._sequences.get(stream, 0) + 1
        now = self.clock()
        message = Spooled(
            stream=stream,
            sequence=self._sequences[stream],
            kind=kind,
            boot=3,
            boot_id=now.boot_id,
            monotonic_us=now.monotonic_us,
            wall_us=now.wall_us,
            quality=now.quality,
            body=body,
        )
        return replace(message, **changed)  # type: ignore[arg-type]

    def _say(self, *publishes: Publish) -> None:
        for publish in publishes:
            self.published.append(publish)
            self.records.append(Said(self._message(publish)))

    def _message(self, publish: Publish) -> Message:
        return Message(publish.topic, publish.payload, publish.qos, publish.retain, self.clock.ms)


def verdict_body(sequence: int = 1) -> bytes:
    return encode_verdict(
        Verdict(
            device=NODE,
            boot_id=BOOT_ID,
            start_us=1,
            sequence=sequence,
            frame_sequence=str(2**64 - 1),
            frame_sha256="a" * 64,
            label="90",
            score_ppm=900_000,
            model="page-orientation",
            model_sha256="b" * 64,
            execution_provider="cpu",
            latency_us=1000,
            monotonic_us=2000,
        )
    )


BODIES: dict[str, tuple[Stream, bytes]] = {
    "verdict": ("data", verdict_body()),
    "update": (
        "data",
        encode_update_report(
            UpdateReport(
                device=NODE,
                boot_id=BOOT_ID,
                monotonic_us=2,
                transaction="0123456789abcdef",
                version=8,
                running=7,
                outcome="fell-back",
                reason="after 300 s no verdict has reached the uplink",
            )
        ),
    ),
    "alarm": (
        "alarm",
        encode_alarm(
            Alarm(device=NODE, boot_id=BOOT_ID, name="source-lost", active=True, text="/dev/video0", monotonic_us=3)
        ),
    ),
    "gap": ("alarm", encode_gap(Gap(epoch="d" * 32, stream="data", first=4, last=None, reason="corrupt"))),
}
"""kind -> its stream and a body: all that travels as metrics."""
