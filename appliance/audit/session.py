"""One open log: what it says when it begins, while time passes, and when it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from appliance.audit.anchor import EVERY_US, Anchor
from appliance.audit.clockwatch import ClockWatch, behind
from appliance.audit.opening import Opened
from appliance.audit.signing import Signing
from appliance.audit.writer import Writer
from appliance.core.clock import Clock, Moment
from appliance.core.errors import EdgesealError
from appliance.formats.audit_event import AuditEvent
from appliance.formats.device import DeviceConfig


@dataclass(frozen=True)
class Anchoring:
    """anchor: None where nothing can be counted, for `reason`."""

    anchor: Anchor | None
    reason: str = ""


class Session:
    """Ties the parts together. facts: events of a boot, asked for when one has to be told of. publish_us: at least."""

    def __init__(
        self,
        opened: Opened,
        writer: Writer,
        signing: Signing,
        anchoring: Anchoring,
        config: DeviceConfig,
        clock: Clock,
        facts: Callable[[], list[AuditEvent]],
        publish_us: int,
    ) -> None:
        self.writer = writer
        self._opened = opened
        self._keys = opened.keys
        self._log = opened.log
        self._signing = signing
        self._anchoring = anchoring
        self._config = config
        self._clock = clock
        self._facts = facts
        self._publish_us = publish_us
        self._watch = ClockWatch(clock())
        self._published_us = 0
        self._anchored_us = 0
        self._anchored_size = 0

    def start(self, degraded: str = "") -> None:
        """Say what was found. All of it is durable, signed and published, and the TPM has counted, when it returns.

        degraded: why the session before this one had to end. Raises EdgesealError, OSError.
        """
        now, newest = self._clock(), self._opened.newest
        new_boot = newest is None or newest.boot_id != now.boot_id
        self._begin(now)
        for finding in self._opened.findings:
            self.writer.tell(finding)
        if self._log.torn_bytes:
            self.writer.own("log-torn-tail", "failure", bytes=self._log.torn_bytes)
        if degraded:
            self.writer.own("log-degraded", "failure", reason=degraded[:1024])
        if new_boot:
            self._tell_boot(now)
        ending = self._opened.ending
        self.writer.own(
            "log-opened", "failure" if ending == "unclean" else "success", sequence=self._log.size, ending=ending
        )
        self._anchor(now)
        if new_boot and self._signing.tpm is not None:
            self.writer.own("tpm-key-used", vkey=self._signing.tpm.vkey)
        self._sign_in_tpm()

    def tick(self) -> None:
        """What time brings: call it after each round."""
        now = self._clock()
        for event in self._watch.look(now):
            self.writer.tell(event)
        self.writer.tell_suppressed(now)
        if self._config.audit.epoch == "day" and self._keys.is_due(now, "day"):
            self._new_epoch(now)
        if now.monotonic_us - self._anchored_us >= EVERY_US and self._log.size > self._anchored_size:
            self._anchor(now)
            self._sign_in_tpm()
        self.writer.commit()
        if now.monotonic_us - self._published_us >= self._publish_us:
            self._published_us = now.monotonic_us
            self._log.publish()

    def stop(self) -> None:
        """A clean end."""
        now = self._clock()
        self.writer.tell_suppressed(now, at_once=True)
        self.writer.tell_refused()
        self._anchor(now)
        self.writer.own("log-closed")
        self._sign_in_tpm()
        self._log.close()

    def _begin(self, now: Moment) -> None:
        """The first entries of a new log; in one that goes on, a new epoch for a new boot."""
        if self._opened.began is not None:
            self.writer.tell(self._opened.began)
            self.writer.own("epoch-began", epoch=1, vkey=self._keys.vkeys[1], handover="")
        elif self._keys.is_due(now, self._config.audit.epoch):
            self._new_epoch(now)
        self.writer.commit()

    def _new_epoch(self, now: Moment) -> None:
        self.writer.commit()
        signed = self._log.signed
        if signed is None:
            raise EdgesealError("the log has nothing signed to hand over")
        handover = self._keys.begin(signed.size, signed.checkpoint.root, now)
        self.writer.own("epoch-began", epoch=handover.epoch, vkey=handover.vkey, handover=handover.note)
        self.writer.commit()
        self._keys.finish()

    def _tell_boot(self, now: Moment) -> None:
        self.writer.own(
            "boot-started",
            product=self._config.product,
            version=self._config.version,
            development=self._config.development,
        )
        for event in self._facts():
            self.writer.tell(event)
        lag = behind(self._opened.newest.wall_us, now) if self._opened.newest is not None else None
        if lag is not None:
            self.writer.tell(lag)

    def _anchor(self, now: Moment) -> None:
        """Only after all before it is durable: an older disk is then one that lacks something."""
        self.writer.commit()
        self._anchored_us = now.monotonic_us
        try:
            if self._anchoring.anchor is None:
                raise EdgesealError(self._anchoring.reason)
            self.writer.own("log-anchored", count=self._anchoring.anchor.step())
        except EdgesealError as error:
            self.writer.own("log-unanchored", "failure", reason=str(error)[:1024])
        self._anchored_size = self._log.size + 1  # what is said of it is no reason to do it again

    def _sign_in_tpm(self) -> None:
        """Commit and publish with the TPM's line; without it, and said so, when the TPM fails."""
        self._signing.ask_tpm()
        try:
            self.writer.commit()
        except EdgesealError as error:
            self._signing.tpm = None
            self.writer.own("tpm-key-unusable", "failure", reason=str(error)[:1024])
            self.writer.commit()
        self._log.publish()
