"""The tale of an update in the audit log: one transaction, from the decision to its end.

Kinds: docs/specs/audit-event.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from appliance.formats.audit_event import EventResult
from appliance.formats.release import BLOCK
from appliance.formats.update_report import Outcome
from appliance.formats.update_state import Trial
from appliance.update.staging import StagedSlot


class Recorder(Protocol):
    """What is used of an AuditClient."""

    def try_record(self, kind: str, result: EventResult = "success", **fields: str | int | bool) -> None:
        """See AuditClient."""


class Keeper(Protocol):
    """What is used of Reports."""

    def keep(self, trial: Trial, outcome: Outcome, *, running: int, reason: str) -> None:
        """See Reports."""


class Story:
    """Tells each thing once: what a check found is repeated only when it changes. Ends are told to the plant as well.

    clock: monotonic seconds. running: the version that runs.
    """

    def __init__(self, recorder: Recorder, reports: Keeper, *, clock: Callable[[], float], running: int) -> None:
        self._recorder = recorder
        self._reports = reports
        self._clock = clock
        self._running = running
        self._last: dict[str, tuple[str, str]] = {}
        self._staging_since = clock()

    # ---- outside of a transaction

    def looked(self, source: str, outcome: str, sentence: str, *, version: int, refused: bool) -> None:
        """What a check came to. outcome: a fixed word."""
        if self._is_news("checked", (outcome, sentence)):
            result: EventResult = "failure" if refused else "success"
            reason = _short(sentence)
            self._tell("update-checked", result, source=source, outcome=outcome, reason=reason, version=version)

    def unreachable(self, source: str, reason: str, *, failed: int) -> None:
        """failed: checks in a row."""
        if self._is_news("unreachable", (source, reason)):
            self._tell(
                "repository-unreachable",
                "failure",
                source=source,
                count=failed,
                reason=_short(reason),
            )

    def medium_seen(self, label: str) -> None:
        """label: what it says of itself."""
        self._tell("medium-seen", "success", medium=_short(label))

    def epoch_raised(self, epoch: int, *, tpm: str) -> None:
        """No version with a smaller security epoch is installed any more. tpm: whether its counter says so too."""
        self._tell("security-epoch-raised", "success", epoch=epoch, tpm=_short(tpm))

    def epoch_unreadable(self, reason: str) -> None:
        """The TPM does not tell its counter."""
        self._tell("security-epoch-unreadable", "failure", reason=_short(reason))

    def entry_restored(self, version: int) -> None:
        """The running version had no boot entry."""
        self._tell("boot-entry-restored", "success", version=version)

    def state_replaced(self, reason: str) -> None:
        """The journal could not be read."""
        self._tell("update-state-replaced", "failure", reason=_short(reason))

    # ---- in one

    def decided(self, trial: Trial, *, ticket: str) -> None:
        """An update begins. ticket: of the approval, or empty when the site follows its vendor."""
        self._of(
            trial,
            "update-decided",
            release=trial.release,
            policy_sequence=trial.policy_sequence,
            ticket=ticket or "none, the site follows its vendor",
        )

    def unproven(self, trial: Trial, *, expires: int, t_low: int) -> None:
        """It was decided although nothing proves that the metadata is the newest there is."""
        self._of(trial, "freshness-unproven", expires=expires, t_low=t_low)

    def resumed(self, trial: Trial) -> None:
        """It goes on after a restart."""
        self._of(trial, "update-resumed", step=trial.step)

    def interrupted(self, trial: Trial, reason: str) -> None:
        """A step did not come to its end and will be begun again."""
        if self._is_news("interrupted", (trial.step, reason)):
            self._of(trial, "update-interrupted", "failure", reason=_short(reason))

    def staging(self) -> None:
        """The slot is being written from now on."""
        self._staging_since = self._clock()

    def staged(self, trial: Trial, staged: StagedSlot) -> None:
        """The slot holds it, read back and verified."""
        self._of(
            trial,
            "update-staged",
            slot=trial.slot,
            fetched=staged.bytes_fetched,
            copied=staged.copied * BLOCK,
            seconds=int(self._clock() - self._staging_since),
        )

    def activated(self, trial: Trial, *, tries: int) -> None:
        """Its entry is in place; the next boot is its first."""
        self._of(trial, "update-activated", slot=trial.slot, tries=tries)

    def on_trial(self, trial: Trial) -> None:
        """It runs, unconfirmed."""
        if self._is_news("trial", (trial.transaction, "")):
            self._of(trial, "update-trial-booted")

    def confirmed(self, trial: Trial) -> None:
        """It runs and stays."""
        reason = "it passed its health gate"
        self._of(trial, "update-confirmed", reason=reason)
        self._reports.keep(trial, "confirmed", running=self._running, reason=reason)

    def fell_back(self, trial: Trial, reason: str) -> None:
        """It does not run, and will not under this policy."""
        self._of(trial, "update-fell-back", "failure", running=self._running, reason=_short(reason))
        self._reports.keep(trial, "fell-back", running=self._running, reason=reason)

    def _is_news(self, about: str, what: tuple[str, str]) -> bool:
        news = self._last.get(about) != what
        self._last[about] = what
        return news

    def _of(self, trial: Trial, kind: str, result: EventResult = "success", **fields: str | int | bool) -> None:
        self._tell(kind, result, transaction=trial.transaction, version=trial.version, **fields)

    def _tell(self, kind: str, result: EventResult, **fields: str | int | bool) -> None:
        self._recorder.try_record(kind, result, **fields)


def _short(text: str) -> str:
    return text[:1024]
