"""When the live ruleset is compared, put right and told.

Whoever changes it all the time gets a share of the processor, and a few lines of the audit log.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from appliance.core.errors import DecodeError, EdgesealError
from appliance.machine.notify import say
from appliance.network.budget import Budget, Pace
from appliance.network.keeper import Finding, Keeper
from appliance.network.sockets import Committer
from appliance.network.teller import Tells

SETTLE_S = 2.0
"""A unit that starts or stops has its cgroup and the set's element one after the other."""
BURST, EVERY_S = 10, 60.0
CREDIT_S, SHARE, LONGEST_S = 3.0, 0.1, 5.0
TEXT = 1000
MOST_NAMES = 8
NOT_LOADED = "it was not in force when the service started"


@dataclass(frozen=True)
class Clocks:
    """Seconds of a steady clock, and of processor time that this process has used."""

    steady: Callable[[], float]
    work: Callable[[], float]


class Changes(Protocol):
    """The kernel's news about transactions, as sockets.GenerationSocket has it."""

    def fileno(self) -> int:
        """Readable when there is news."""

    def changes(self) -> list[Committer]:
        """Take the news in."""


class DriftWatch:
    """Driven round by round. restored: how often the ruleset was put right."""

    def __init__(
        self,
        keeper: Keeper,
        generations: Changes,
        teller: Tells,
        digest: str,
        *,
        check_s: float,
        clocks: Clocks,
        own_pid: int,
    ) -> None:
        """digest: of the sealed ruleset. check_s: seconds between two comparisons that nothing asked for."""
        self._keeper = keeper
        self._generations = generations
        self._teller = teller
        self._digest = digest
        self._check_s = check_s
        self._pace = Pace(credit_s=CREDIT_S, share=SHARE, longest_s=LONGEST_S)
        self._budget = Budget(burst=BURST, every_s=EVERY_S)
        self._untold = 0
        self._by: list[Committer] = []
        self._own_pid = own_pid
        self._clocks = clocks
        self._due = 0.0
        self._passing_since: float | None = None
        self.restored = 0

    def start(self) -> None:
        """Put the ruleset in force. When that cannot be, the device is closed and EdgesealError is raised."""
        try:
            finding = self._keeper.start()
        except EdgesealError as error:
            self._fail(error)
            raise
        if not self._keeper.was_loaded:
            self._teller.tell("ruleset-load-failed", "failure", sha256=self._digest, reason=NOT_LOADED)
        elif finding.differences:
            self._tell(finding, milliseconds=0)
        self._changes()
        self._by.clear()  # ourselves
        self._due = self._clocks.steady() + (0.0 if self._keeper.is_new else self._check_s)

    def watched(self, now: float) -> Sequence[Changes]:
        """What to wait for: nothing in a pause, or an attacker would keep us running."""
        return () if self._pace.wait_s(now) > 0 else (self._generations,)

    def wait_s(self, now: float) -> float:
        """Until the next comparison that nobody has to ask for."""
        return max(0.0, self._due - now, self._pace.wait_s(now))

    def round(self, *, awake: bool) -> None:
        """awake: the kernel told of a transaction. Raises EdgesealError when the ruleset cannot be put right."""
        started = self._clocks.steady()
        if self._pace.wait_s(started) > 0:
            return
        is_new = awake and self._is_news()
        if started >= self._due or is_new:
            cost = self._clocks.work()
            self._due = started + self._compare(started)
            self._pace.worked(self._clocks.work() - cost, now=self._clocks.steady())

    def _is_news(self) -> bool:
        """Whether the kernel told of a transaction that no comparison has seen yet."""
        self._changes()
        if self._keeper.is_new:
            return True
        self._by.clear()
        return False

    def _compare(self, started: float) -> float:
        """Compare, and put right what is not. Returns the seconds until the next time."""
        finding = self._keeper.check()
        if not finding.differences:
            self._passing_since = None
            self._by.clear()
            return self._check_s
        if finding.passing:
            self._passing_since = started if self._passing_since is None else self._passing_since
            if started < self._passing_since + SETTLE_S:
                return self._passing_since + SETTLE_S - started
        self._passing_since = None
        return self._check_s if self._restore(finding, started) else 0.0

    def _restore(self, finding: Finding, started: float) -> bool:
        try:
            done = self._keeper.restore()
        except EdgesealError as error:
            self._fail(error)
            raise
        self.restored += 1
        self._changes()
        self._tell(finding, milliseconds=round((self._clocks.steady() - started) * 1000) if done else None)
        self._by.clear()
        return done and not self._keeper.is_new  # what was drained above may have told of somebody else's

    def _fail(self, error: EdgesealError) -> None:
        """Closed first, told then."""
        reason = str(error)
        try:
            self._keeper.close_device()
        except EdgesealError as second:
            reason += f"; the device cannot be closed: {second}"
        say(f"<2>{reason}")
        self._teller.tell("ruleset-load-failed", "failure", sha256=self._digest, reason=reason[:1024])

    def _tell(self, finding: Finding, *, milliseconds: int | None) -> None:
        """milliseconds: None when somebody was at it again meanwhile."""
        text = in_words(finding.differences)
        say(f"<3>the live ruleset was not the sealed one: {text}")
        if not self._budget.take(self._clocks.steady()):
            self._untold += 1
            return
        count, by, untold = len(finding.differences), self._names(), self._untold
        self._teller.tell("ruleset-drift", "failure", differences=text, count=count, by=by, untold=untold)
        if milliseconds is not None:
            self._teller.tell("ruleset-restored", milliseconds=milliseconds)
        self._untold = 0

    def _names(self) -> str:
        """Who committed since the last good comparison, as the kernel names them."""
        names = dict.fromkeys(str(one) for one in self._by if one.pid != self._own_pid)
        return ", ".join(names)[:TEXT] or "a process that is not known"

    def _changes(self) -> None:
        try:
            found = self._generations.changes()
        except DecodeError as error:
            say(f"<4>{error}")
            return
        self._by = (self._by + found)[-MOST_NAMES:]


def in_words(differences: Sequence[str]) -> str:
    """One line, as many as fit."""
    text = ""
    for number, difference in enumerate(differences):
        longer = f"{text}; {difference}" if text else difference
        rest = len(differences) - number
        if len(longer) > TEXT:
            return f"{text}; and {rest} more" if text else f"{difference[: TEXT - 20]}…; and {rest - 1} more"
        text = longer
    return text
