"""A made-up device's log with boots, epochs of keys and an update: entries and keys, written by the naive log."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from appliance.core.clock import Moment, TimeQuality
from appliance.formats.audit_event import AuditEvent
from appliance.formats.audit_log import Sender, encode_entry, make_entry
from tests.support.naive_log import NoteKey, checkpoint_text, named_key, signed_checkpoint, write_naive_log

DEVICE = "line-3"
ORIGIN = f"edgeseal.audit/{DEVICE}/0a1b2c3d"
WALL = 1_771_000_000_000_000  # 13 February 2026
WRITER = Sender(uid=0, pid=1, unit="edgeseal-audit.service")
UPDATER = Sender(uid=703, pid=412, unit="edgeseal-update.service")


@dataclass
class Story:
    """entries: so far. epoch_keys: the first at 0. now_us: since boot. offset_us: what the wall clock is off."""

    origin: str = ORIGIN
    log_key: NoteKey = field(default_factory=lambda: named_key(ORIGIN))
    entries: list[bytes] = field(default_factory=list)
    epoch_keys: list[NoteKey] = field(default_factory=list)
    boot: int = 0
    now_us: int = 0
    offset_us: int = 0
    started_us: int = WALL
    quality: TimeQuality = "unknown"
    variant: str = ""

    @property
    def signers(self) -> tuple[NoteKey, ...]:
        """Who signs a checkpoint now."""
        return (self.log_key, self.epoch_keys[-1])

    def begin(self, *, previous: str = "") -> None:
        """The first boot of a new log."""
        self._start_boot()
        reason = "this device had no log" if not previous else "its state was lost"
        self.say("log-began", origin=self.origin, previous=previous, old_log="", reason=reason)
        self._epoch("")
        self.say("boot-started", product="virtual-x86_64", version=7, development=True)

    def restart(self) -> None:
        """The next boot, a day later, which begins a new epoch."""
        handover = self._handover()
        self.started_us += 86_400_000_000
        self._start_boot()
        self._epoch(handover)
        self.say("boot-started", product="virtual-x86_64", version=7, development=True)

    def say(self, kind: str, sender: Sender = WRITER, result: str = "success", **fields: Any) -> bytes:
        """One more entry, 1 ms later."""
        self.now_us += 1000
        wall_us = self.started_us + self.now_us + self.offset_us
        now = Moment(f"{self.boot:032x}", self.now_us, wall_us, self.quality)
        event = AuditEvent(kind=kind, result=result, fields=fields)  # type: ignore[arg-type]
        self.entries.append(encode_entry(make_entry(event, sender, now, index=len(self.entries), boot=self.boot)))
        return self.entries[-1]

    def update(self, transaction: str = "00000000000000aa") -> None:
        """An update from decision to activation."""
        told = {"transaction": transaction, "version": 8}
        self.say("update-decided", UPDATER, release="8.0", policy_sequence=4, ticket="CHG-17", **told)
        self.say("update-staged", UPDATER, slot="b", fetched=61_000, copied=235_000_000, seconds=4, **told)
        self.say("update-activated", UPDATER, slot="b", tries=3, **told)

    def fill(self, count: int) -> None:
        """Entries that say nothing much."""
        for number in range(count):
            self.say("service-started", service=f"probe-{number}")

    def note(self, size: int | None = None) -> str:
        """The signed checkpoint of the present tree, or of `size` entries with today's keys."""
        return signed_checkpoint(self.entries[:size], *self.signers)

    def write(self, directory: Path) -> Path:
        """The log as files."""
        return write_naive_log(directory, self.entries, *self.signers)

    def _start_boot(self) -> None:
        self.boot += 1
        self.now_us = 5_000_000

    def _handover(self) -> str:
        number = len(self.epoch_keys) + 1
        text = checkpoint_text(self.origin, self.entries, more=(f"epoch {number} {self._next_key().vkey}",))
        return f"{text}\n" + "".join(key.line(text) for key in self.signers)

    def _next_key(self) -> NoteKey:
        return named_key(f"{self.origin}/epoch", variant=f"{len(self.epoch_keys) + 1}{self.variant}")

    def _epoch(self, handover: str) -> None:
        self.epoch_keys.append(self._next_key())
        self.say("epoch-began", epoch=len(self.epoch_keys), vkey=self.epoch_keys[-1].vkey, handover=handover)


def story(*, boots: int = 3, fill: int = 0, **options: Any) -> Story:
    """Some boots, an update in each, and `fill` entries more."""
    told = Story(**options)
    told.begin()
    told.update()
    for number in range(1, boots):
        told.restart()
        told.update(f"{number:016x}")
    told.fill(fill)
    return told
