"""The rules of the log's single writer: what is taken, what is refused, what the log says about itself."""

from __future__ import annotations

import os
from dataclasses import dataclass

from appliance.audit.log_file import LogFile
from appliance.core.clock import Clock
from appliance.core.errors import DecodeError
from appliance.formats.audit_event import (
    CATALOGUE,
    MAX_EVENT_BYTES,
    AuditAnswer,
    AuditEvent,
    EventResult,
    NotRecorded,
    Recorded,
    check_event,
    decode_event,
)
from appliance.formats.audit_log import MAX_LINE_BYTES, Sender, make_entry
from appliance.formats.device import DeviceConfig

RESERVED_BYTES = 64 << 10  # kept for what the log has to say about itself


@dataclass(frozen=True)
class Submission:
    """One packet and who sent it."""

    sender: Sender
    data: bytes


class Writer:
    """Appends events. budget: bytes of the whole log."""

    def __init__(self, log: LogFile, clock: Clock, *, budget: int, unit: str) -> None:
        self._log = log
        self._clock = clock
        self._budget = budget
        self._self = Sender(uid=os.getuid(), pid=os.getpid(), unit=unit)
        self._full = False
        self._refused = 0

    def start(self, config: DeviceConfig) -> None:
        """Say what was found at start. Durable when it returns."""
        opened = self._log.opened
        if opened.replaced is not None:
            self._own("log-replaced", "failure", file=opened.replaced[0], reason=opened.replaced[1][:1024])
        if opened.torn_bytes:
            self._own("log-torn-tail", "failure", bytes=opened.torn_bytes)
        ending = _ending(opened.last.event.kind if opened.last is not None else None)
        if opened.last is None or opened.last.boot_id != self._clock().boot_id:
            self._own(
                "boot-started",
                "success",
                product=config.product,
                version=config.version,
                development=config.development,
            )
        self._own(
            "log-opened", "failure" if ending == "unclean" else "success", sequence=self._log.sequence, ending=ending
        )
        self._log.commit()

    def take(self, submissions: list[Submission]) -> list[AuditAnswer]:
        """Append a round of events, make them durable together, and answer each in order."""
        answers = [self._take(submission) for submission in submissions]
        self._log.commit()
        return answers

    def stop(self) -> None:
        """The last entry of a clean end."""
        if self._refused:
            self._own("events-refused", "failure", count=self._refused, reason="the log is full")
        self._own("log-closed", "success")
        self._log.commit()
        self._log.close()

    @property
    def status(self) -> str:
        """One line for people."""
        return f"{self._log.sequence} entries, {self._log.size} of {self._budget} bytes, {self._refused} refused"

    def _take(self, submission: Submission) -> AuditAnswer:
        if len(submission.data) > MAX_EVENT_BYTES:
            return NotRecorded(reason="too-large", detail=f"an event has at most {MAX_EVENT_BYTES} bytes")
        try:
            event = decode_event(submission.data)
        except DecodeError as error:
            return NotRecorded(reason="malformed", detail=error.message)
        if CATALOGUE[event.kind].writer_only:
            return NotRecorded(reason="not-allowed", detail=f"only the log itself says {event.kind}")
        if self._log.size + MAX_LINE_BYTES + RESERVED_BYTES > self._budget:
            return self._refuse_full()
        self._append(event, submission.sender)
        return Recorded(sequence=self._log.sequence)

    def _refuse_full(self) -> NotRecorded:
        self._refused += 1
        if not self._full:
            self._full = True
            self._own("log-full", "failure", bytes=self._log.size)
        return NotRecorded(reason="full", detail=f"the log has used its {self._budget} bytes")

    def _own(self, kind: str, result: EventResult, **fields: str | int | bool) -> None:
        """The log's own entries come out of the reserve; when even that is used up they are left out."""
        if self._log.size + MAX_LINE_BYTES > self._budget:
            return
        self._append(check_event(AuditEvent(kind=kind, result=result, fields=fields)), self._self)

    def _append(self, event: AuditEvent, sender: Sender) -> None:
        entry = make_entry(event, sender, self._clock(), sequence=self._log.sequence + 1, previous=self._log.previous)
        self._log.append(entry)


def _ending(last_kind: str | None) -> str:
    if last_kind is None:
        return "never, this log is new"
    return "cleanly" if last_kind == "log-closed" else "unclean"
