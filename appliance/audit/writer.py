"""The rules of the log's single writer: what is taken, what is refused, what the log says about itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from appliance.audit.limits import Limits
from appliance.audit.store import TileLog
from appliance.core.clock import Clock, Moment
from appliance.core.errors import DecodeError
from appliance.formats.audit_event import (
    CATALOGUE,
    MAX_EVENT_BYTES,
    AuditAnswer,
    AuditEvent,
    EventResult,
    NotRecorded,
    Recorded,
    Refusal,
    check_event,
    decode_event,
)
from appliance.formats.audit_log import MAX_ENTRY_BYTES, Sender, encode_entry, make_entry

RESERVED_BYTES = 64 << 10  # kept for what the log has to say about itself

Signing = Callable[[str], bytes]
"""checkpoint's text -> signed note."""


@dataclass(frozen=True)
class Submission:
    """One packet and who sent it."""

    sender: Sender
    data: bytes


@dataclass(frozen=True)
class Taken:
    """answer: true once `commit` returned. urgent: commit at once."""

    answer: AuditAnswer
    urgent: bool


class Writer:
    """Appends events. budget: bytes of the log, then only its own words are taken; None for no such bound."""

    def __init__(
        self, log: TileLog, sign: Signing, clock: Clock, limits: Limits, *, me: Sender, boot: int, budget: int | None
    ) -> None:
        self.log = log
        self._sign = sign
        self._clock = clock
        self._limits = limits
        self._self = me
        self._boot = boot
        self._budget = budget
        self._full = False
        self._refused = 0

    def take(self, submission: Submission) -> Taken:
        """Append an event, or say why not. Nothing is durable before `commit`."""
        try:
            event = decode_event(submission.data)
        except DecodeError as error:
            return self._malformed(submission, error)
        kind, now = CATALOGUE[event.kind], self._clock()
        if kind.writer_only:
            return _refusal("not-allowed", f"only the log itself says {event.kind}")
        if not self._limits.admit(submission.sender, now.monotonic_us, security=kind.security):
            return _refusal("rate", "this sender says more than its rate allows")
        if not self.has_room:
            return self._refuse_full()
        index = self._append(event, submission.sender, now)
        return Taken(Recorded(sequence=index), kind.security)

    def own(self, kind: str, result: EventResult = "success", **fields: str | int | bool) -> int:
        """An entry of the log's own; its index."""
        return self.tell(AuditEvent(kind=kind, result=result, fields=fields))

    def tell(self, event: AuditEvent) -> int:
        """As `own`."""
        return self._append(check_event(event), self._self, self._clock())

    def commit(self) -> None:
        """Make what was appended durable, and sign it. Raises OSError; then only a new start knows what is durable."""
        if self.log.size > (0 if self.log.signed is None else self.log.signed.checkpoint.size):
            self.log.commit(self._sign)

    def tell_suppressed(self, now: Moment, *, at_once: bool = False) -> bool:
        """Gaps of senders over their rate, counted. Whether there were any."""
        found = self._limits.to_tell(now.monotonic_us, at_once=at_once)
        for sender, count in found:
            self.own("events-suppressed", "failure", sender=sender, count=count)
        return bool(found)

    def tell_refused(self) -> None:
        """What was refused because the log was full."""
        if self._refused:
            self.own("events-refused", "failure", count=self._refused, reason="the log is full")
            self._refused = 0

    def room_again(self, budget: int | None) -> None:
        """After pruning, or with another bound."""
        self._budget = budget
        if self._full and self.has_room:
            self._full = False
            self.tell_refused()

    @property
    def has_room(self) -> bool:
        """Whether the next event would be taken."""
        return self._budget is None or self.log.disk_bytes + MAX_ENTRY_BYTES + RESERVED_BYTES <= self._budget

    @property
    def full(self) -> bool:
        """Whether events are refused."""
        return self._full

    @property
    def status(self) -> str:
        """One line for people."""
        return f"{self.log.size} entries, {self.log.disk_bytes} bytes, {self._refused} refused"

    def _malformed(self, submission: Submission, error: DecodeError) -> Taken:
        if len(submission.data) > MAX_EVENT_BYTES:
            return _refusal("too-large", f"an event has at most {MAX_EVENT_BYTES} bytes")
        return _refusal("malformed", error.message)

    def _refuse_full(self) -> Taken:
        self._refused += 1
        if not self._full:
            self._full = True
            self.own("log-full", "failure", bytes=self.log.disk_bytes)
        return _refusal("full", f"the log has used its {self._budget} bytes")

    def _append(self, event: AuditEvent, sender: Sender, now: Moment) -> int:
        index = self.log.size
        self.log.append([encode_entry(make_entry(event, sender, now, index=index, boot=self._boot))])
        return index


def _refusal(reason: Refusal, detail: str) -> Taken:
    return Taken(NotRecorded(reason=reason, detail=detail), urgent=False)
