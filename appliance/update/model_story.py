"""The tale of a model's version in the audit log: one transaction, from the decision until it is here.

Kinds: docs/specs/audit-event.md.
"""

from __future__ import annotations

from collections.abc import Callable

from appliance.formats.audit_event import EventResult
from appliance.formats.model_store import PendingModel
from appliance.update.story import Recorder


class ModelStory:
    """Tells each thing once: what a check found is repeated only when it changes. clock: monotonic seconds."""

    def __init__(self, recorder: Recorder, *, clock: Callable[[], float]) -> None:
        self._recorder = recorder
        self._clock = clock
        self._last: dict[tuple[str, str], tuple[str, str]] = {}
        self._since: dict[str, float] = {}

    def looked(self, model: str, source: str, outcome: str, sentence: str, *, version: int, refused: bool) -> None:
        """What a check came to. outcome: a fixed word."""
        if self._is_news("checked", model, (outcome, sentence)):
            result: EventResult = "failure" if refused else "success"
            told = {"model": model, "source": source, "outcome": outcome, "reason": _short(sentence)}
            self._recorder.try_record("model-checked", result, **told, version=version)

    def decided(self, pending: PendingModel, *, ticket: str) -> None:
        """A version will be fetched. ticket: of the approval, or empty when the site follows its vendor."""
        self._since[pending.model] = self._clock()
        self._of(
            pending,
            "model-decided",
            release=pending.release,
            policy_sequence=pending.policy_sequence,
            ticket=ticket,
        )

    def unproven(self, pending: PendingModel, *, expires: int, t_low: int) -> None:
        """Nothing proves that it is the newest."""
        self._of(pending, "model-freshness-unproven", expires=expires, t_low=t_low)

    def interrupted(self, pending: PendingModel, reason: str) -> None:
        """Work on it stops for now. Told once per reason."""
        if self._is_news("interrupted", pending.model, (pending.transaction, reason)):
            self._of(pending, "model-interrupted", "failure", reason=_short(reason))

    def resumed(self, pending: PendingModel) -> None:
        """Work on what was decided before this start goes on."""
        self._since[pending.model] = self._clock()
        self._of(pending, "model-resumed")

    def dropped(self, pending: PendingModel, reason: str) -> None:
        """It could not be had, and is not wanted any more."""
        self._of(pending, "model-dropped", "failure", reason=_short(reason))

    def stored(self, pending: PendingModel, *, sha256: str, fetched: int) -> None:
        """It is whole, verified and current. fetched: bytes that came from outside since this start."""
        self._last.pop(("interrupted", pending.model), None)
        seconds = int(self._clock() - self._since.get(pending.model, self._clock()))
        self._of(pending, "model-stored", sha256=sha256, fetched=fetched, seconds=seconds)

    def damaged(self, reason: str) -> None:
        """Something of the store was not as it was written."""
        self._recorder.try_record("update-state-replaced", "failure", reason=_short(reason))

    def _is_news(self, about: str, model: str, what: tuple[str, str]) -> bool:
        news = self._last.get((about, model)) != what
        self._last[about, model] = what
        return news

    def _of(self, pending: PendingModel, kind: str, result: EventResult = "success", **fields: str | int) -> None:
        told: dict[str, str | int] = {
            "transaction": pending.transaction,
            "model": pending.model,
            "version": pending.version,
        }
        self._recorder.try_record(kind, result, **told, **fields)


def _short(text: str) -> str:
    return text[:1024]
