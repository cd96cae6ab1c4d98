"""What edgeseal-update does with a decision: journal it, stage, activate, and after the boot confirm or forget it.

Every step is announced in the journal before it begins and can be begun again after a power cut at any instruction.
What was decided is finished without asking again: expiry and policies count when a decision is made, not afterwards.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from appliance.core.errors import DecodeError, EdgesealError, VerificationError
from appliance.formats.approval import SitePolicy
from appliance.formats.release import Release
from appliance.formats.update_state import (
    Refused,
    Trial,
    UpdateState,
    with_epoch,
    with_refused,
    with_step,
    with_trial,
)
from appliance.update import entries, esp
from appliance.update.decide import Install
from appliance.update.entries import Entry, Running
from appliance.update.esp_files import EntryFiles
from appliance.update.journal import Journal
from appliance.update.ranges import ContentSource
from appliance.update.slots import SlotPartitions, check_stage
from appliance.update.staging import StagedSlot
from appliance.update.story import Story
from appliance.update.transport import TransportError

T = TypeVar("T")
Stage = Callable[[Release, ContentSource], StagedSlot]


class Epoch(Protocol):
    """The security epoch in the TPM."""

    def raise_to(self, epoch: int) -> int:
        """See EpochCounter."""


@dataclass(frozen=True)
class Machine:
    """What the work is done on. stage: into the inactive slot. epoch: None on a device without a TPM.

    reboot: asks for one and returns. tries: boots that a new version gets. security_epoch: of the running image.
    judgement: why a version was found sick, when the health check left word.
    """

    running: Running
    inactive: SlotPartitions
    files: EntryFiles
    stage: Stage
    epoch: Epoch | None
    reboot: Callable[[], None]
    tries: int
    security_epoch: int
    judgement: Callable[[int], str | None]


class Worker:
    """Carries updates. `state` is what the journal holds."""

    def __init__(self, machine: Machine, journal: Journal, story: Story, state: UpdateState) -> None:
        self._machine = machine
        self._journal = journal
        self._story = story
        self._tpm_settled = False
        self.state = state

    @property
    def situation(self) -> entries.Situation:
        """What the boot entries and the journal say together."""
        return entries.judge(esp.list_entries(self._machine.files), self._machine.running, self.state.trial)

    @property
    def confirmed(self) -> bool:
        """The running version passed its health gate."""
        return not isinstance(self.situation, entries.OnTrial | entries.EntryLost)

    def save(self, state: UpdateState) -> None:
        """Make it the state, durably."""
        if state != self.state:
            self._journal.save(state)
            self.state = state

    def tidy(self) -> None:
        """At start, before anything is judged: undo what a power cut made of a rename by others."""
        esp.tidy(self._machine.files, self._machine.running)

    # ---- decide

    def begin(self, decision: Install, manifest: bytes, policy: SitePolicy) -> Trial:
        """Journal a decision. policy: that it was made under."""
        release = decision.offer.release
        sha256 = self._journal.keep_release(manifest)
        trial = Trial(
            transaction=transaction_id(sha256, policy.sequence),
            release=sha256,
            version=release.version,
            security_epoch=release.security_epoch,
            slot=decision.slot,
            step="decided",
            confirm=decision.confirm,
            policy_sequence=policy.sequence,
            windows=policy.windows if decision.approval is None else decision.approval.windows,
            offsets=policy.offsets,
            clock=policy.clock,
            time_unknown=policy.time_unknown,
        )
        self.save(with_trial(self.state, trial))
        self._story.decided(trial, ticket="" if decision.approval is None else decision.approval.ticket)
        return trial

    # ---- go on

    def go_on(self, sources: Sequence[ContentSource]) -> entries.Situation:
        """Take every step that can be taken now. Called at start, after `begin`, and again after a failure.

        sources: tried in turn. Raises StoppedError, TransportError when none of them delivers, EdgesealError and
        VerificationError when the device or the content fails; the journal stands where it stood then.
        """
        situation = self.situation
        match situation:
            case entries.Quiet():
                self._settle_epoch()
            case entries.Confirmed():
                self._confirm()
            case entries.FellBack(reason):
                self._forget(reason)
            case entries.MustStage():
                self._stage(sources)
                self._activate(sources)
            case entries.MustActivate():
                self._activate(sources)
            case entries.MustReboot():
                self._machine.reboot()
            case entries.EntryLost():
                self._restore(sources)
            case entries.OnTrial():
                pass
        return situation

    def _stage(self, sources: Sequence[ContentSource]) -> None:
        trial, release = self._trial(), self._release()
        found = esp.list_entries(self._machine.files)
        check_stage(release, self._machine.running, self._machine.inactive, found)
        esp.clear_entries(self._machine.files, self._machine.running, content=release.uki)
        self._story.staging()
        staged = _first(sources, lambda source: self._machine.stage(release, source))
        self.save(with_step(self.state, "staged"))
        self._story.staged(trial, staged)

    def _activate(self, sources: Sequence[ContentSource]) -> None:
        trial, release = self._trial(), self._release()
        entry = Entry(trial.version, left=self._machine.tries)
        _first(sources, lambda source: self._install(entry, release, source))
        self.save(with_step(self.state, "activated"))
        self._story.activated(trial, tries=self._machine.tries)
        self._machine.reboot()

    def _install(self, entry: Entry, release: Release, source: ContentSource) -> None:
        esp.install_entry(
            self._machine.files, entry, release.uki, source, self._machine.running, root_hash=release.root.root_hash
        )

    def _restore(self, sources: Sequence[ContentSource]) -> None:
        """The running version has no entry that boots: write it again, from the manifest that it came by.

        One on trial gets a counter again: only the health gate confirms a version, never the loss of its entry.
        """
        running = self._machine.running
        release = self._journal.last_release()
        if release is None or release.root.root_hash != running.root_hash:
            raise EdgesealError(
                f"the boot entry of the running version {running.version} is damaged, and its manifest is not here",
                hint="write the device anew: nothing is updated before the running version can boot again",
            )
        on_trial = self.state.trial is not None and entries.runs(self.state.trial, running)
        entry = Entry(running.version, left=self._machine.tries if on_trial else None)
        _first(sources, lambda source: self._install(entry, release, source))
        self._story.entry_restored(running.version)

    # ---- end

    def _confirm(self) -> None:
        trial = self._trial()
        self._story.confirmed(trial)
        self.save(with_trial(self.state, None))
        self._settle_epoch()

    def _forget(self, reason: str) -> None:
        trial = self._trial()
        reason = self._machine.judgement(trial.version) or reason
        self._story.fell_back(trial, reason)
        refused = Refused(release=trial.release, policy_sequence=trial.policy_sequence, reason=reason[:1024])
        self.save(with_refused(self.state, refused))

    def _settle_epoch(self) -> None:
        """A confirmed version's epoch shuts out every older one, on this disk and in the TPM, once and for ever.

        The TPM is asked again at each start: it may have refused before, or the disk may be an older one.
        """
        machine, epoch = self._machine, self._machine.security_epoch
        is_new = epoch > self.state.security_epoch
        if not is_new and self._tpm_settled:
            return
        told, self._tpm_settled = self._raise_in_tpm(epoch), True
        if is_new:
            for name in entries.removable(esp.list_entries(machine.files), machine.running):
                esp.discard(machine.files, name, keep=())
            self._story.epoch_raised(epoch, tpm=told)
            self.save(with_epoch(self.state, epoch))

    def _raise_in_tpm(self, epoch: int) -> str:
        """In words. A TPM that does not take it is told, and must not stop the updates."""
        if self._machine.epoch is None:
            return "there is none"
        try:
            self._machine.epoch.raise_to(epoch)
        except EdgesealError as error:
            return f"no, {error}"
        return "yes"

    def _trial(self) -> Trial:
        assert self.state.trial is not None
        return self.state.trial

    def _release(self) -> Release:
        return self._journal.release(self._trial().release)


def _first(sources: Sequence[ContentSource], do: Callable[[ContentSource], T]) -> T:
    """`do` with the first source that delivers what the release names: a bad medium must not shut out the network."""
    fault: EdgesealError = TransportError("there is neither a network nor a medium to take the content from")
    for source in sources:
        try:
            return do(source)
        except (TransportError, VerificationError, DecodeError) as error:
            fault = error
    raise fault


def transaction_id(release: str, policy_sequence: int) -> str:
    """Names one attempt at one release in the audit log: the same after a power cut, another under another policy."""
    return hashlib.sha256(f"{release} {policy_sequence}".encode()).hexdigest()[:16]
