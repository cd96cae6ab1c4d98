"""The spool day by day: what is due for it, its commits, and what is told when one fails."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from appliance.core.clock import Moment
from appliance.formats.uplink_message import Refused, UplinkAnswer
from appliance.machine.notify import say
from appliance.machine.packets import Connection
from appliance.uplink.keeping import Keeper
from appliance.uplink.line import Line
from appliance.uplink.outbox import STREAMS, Outbox
from appliance.uplink.ranges import RangeSet
from appliance.uplink.spoolfile import SpoolDamagedError, SpoolUnwritableError
from appliance.uplink.takeover import OldSpool
from appliance.uplink.teller import Teller

REMOVAL_US = 1_000_000  # acknowledged messages leave with the next commit, or after so long,
REMOVAL_ROWS = 1000  # or when there are so many: each commit of its own wears the flash
EXPIRY_EVERY_US = 1_000_000
RETRY_US = 1_000_000  # after a failure, when only we want a commit


class Stock:
    """See the module."""

    def __init__(self, outbox: Outbox, keeper: Keeper, line: Line, teller: Teller, old_spool: Path) -> None:
        self._outbox = outbox
        self._keeper = keeper
        self._line = line
        self._teller = teller
        self._old = OldSpool(old_spool)
        self._taken_over = 0
        self._moved = RangeSet()
        self._moved_to: int | None = None
        self._removal_us: int | None = None
        self._not_before_us = 0
        self._expired_us = 0

    def tend(self, moment: Moment) -> None:
        """What time and the connection make due. Raises SpoolDamagedError, SpoolUnwritableError."""
        if moment.monotonic_us - self._expired_us >= EXPIRY_EVERY_US:
            self._expired_us = moment.monotonic_us
            flying = {stream: self._line.lanes.in_flight(stream) for stream in STREAMS}
            self._keeper.expire(moment, flying)
        if self._moved_to is None and not self._old.done and self._line.has_room:
            self._take_over(moment)
        self._line.courier.add_gaps(moment)

    def commit(self, moment: Moment) -> None:
        """Make durable what has to be now. Raises SpoolDamagedError, SpoolUnwritableError."""
        if self._outbox.removed and self._removal_us is None:
            self._removal_us = moment.monotonic_us
        if not (self._outbox.has_added or self._is_due(moment)):
            return
        self._outbox.commit(moment)
        self._removal_us = None
        self._keeper.committed()
        self._line.courier.committed(old=self._moved)
        if self._moved_to is not None:
            self._old.forget(self._moved_to)
        self._moved_to = None
        self._moved.clear()
        if self._teller.was_told("unwritable"):
            self._teller.forget("unwritable")
            self._teller.tell("spool-recovered")

    def failed(self, error: SpoolDamagedError | SpoolUnwritableError, moment: Moment) -> None:
        """Say so; a damaged file is replaced, which is a new spool for everybody."""
        self._moved_to = None
        self._moved.clear()
        self._not_before_us = moment.monotonic_us + RETRY_US
        if isinstance(error, SpoolUnwritableError):
            self._outbox.forget()
            self._teller.once("unwritable", kind="spool-unwritable", reason=error.message)
            return
        self._outbox.recover(error, moment)
        self._keeper.committed()
        say(f"<3>the spool was replaced: {self._outbox.replaced}")
        self._teller.tell("spool-replaced", "failure", reason=self._outbox.replaced or "")
        self._line.renew()

    def report(self, answers: Sequence[tuple[Connection, UplinkAnswer]]) -> None:
        """Audit refusals and what was given up."""
        for connection, answer in answers:
            if isinstance(answer, Refused):
                self._tell_refusal(connection.peer.uid, answer)
        for stream in self._keeper.take_full():
            used = self._outbox.counts(stream).bytes
            self._teller.once("full", stream, kind="spool-full", stream=stream, bytes=used)
        for stream, reason, first, last, count in self._outbox.news():
            self._teller.tell(
                "messages-dropped", "failure", stream=stream, reason=reason, first=first, last=last, count=count
            )

    def due_us(self) -> int | None:
        """Monotonic time of the next thing to do."""
        times = [self._removal_us + REMOVAL_US] if self._removal_us is not None else []
        return max(min(times), self._not_before_us) if times else None

    def _is_due(self, moment: Moment) -> bool:
        if moment.monotonic_us < self._not_before_us:
            return False
        if self._outbox.gaps.changed or self._outbox.removed >= REMOVAL_ROWS:
            return True
        return self._removal_us is not None and moment.monotonic_us - self._removal_us >= REMOVAL_US

    def _take_over(self, moment: Moment) -> None:
        epoch, done = self._outbox.taken_over
        done = done if epoch == self._old.epoch else 0
        if not self._old.is_tidy:
            self._old.forget(done)  # a crash may have come between the two files
        rows = self._old.after(done)
        for row in rows:
            if row.is_sound:
                sequence = self._outbox.add("data", row.kind, row.body, moment)
                self._moved.add(sequence, sequence)
        if rows:
            self._moved_to = rows[-1].sequence
            self._outbox.taken_over = (self._old.epoch, self._moved_to)
            self._taken_over += len(rows)
        elif self._old.fault is not None:
            reason = f"the spool of an earlier version cannot be read: {self._old.fault}"
            self._teller.once("old spool", kind="spool-replaced", reason=reason)
        elif self._taken_over:
            self._teller.tell("spool-taken-over", count=self._taken_over)

    def _tell_refusal(self, uid: int, answer: Refused) -> None:
        if answer.reason not in ("full", "unwritable"):
            self._teller.once("refused", uid, answer.reason, kind="uplink-refused", uid=uid, reason=answer.detail)
