"""One round of edgeseal-update: finish what is under way, else ask the repositories and act on what they say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from appliance.core.errors import DecodeError, EdgesealError, VerificationError
from appliance.formats.approval import SitePolicy
from appliance.formats.update_state import UpdateState, with_seen
from appliance.machine.notify import say
from appliance.update.asking import Answers, Repository, Word, ask_vendor, meet
from appliance.update.client import RefusedError
from appliance.update.decide import Decision, Install, Situation, decide
from appliance.update.entries import Confirmed, FellBack, MustActivate, MustReboot, MustStage, OnTrial, Quiet
from appliance.update.entries import Situation as BootSituation
from appliance.update.ranges import ContentSource
from appliance.update.reftime import TimeKnowledge
from appliance.update.rules import Device, Refuse, may_go_on
from appliance.update.staging import StoppedError
from appliance.update.story import Story
from appliance.update.transport import TransportError
from appliance.update.work import Worker

POLL_S = 5.0
"""How often a version on trial is looked at."""


@dataclass(frozen=True)
class Origin:
    """Where both repositories and their content can be had: the network, or a medium. name: for messages."""

    name: str
    vendor: Repository
    site: Repository
    content: ContentSource


@dataclass(frozen=True)
class Heard:
    """What a round learnt that others can use. words: by origin's name; None where it asked in vain, and told so."""

    origins: Sequence[Origin] = ()
    words: dict[str, Word | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Rhythm:
    """Seconds until the next round. after_success; after_failure: of the failures in a row."""

    after_success: float
    after_failure: Callable[[int], float]


class Rounds:
    """device: asked anew each round, for its confirmation changes. origins: likewise, for media come and go.

    wall: the machine's clock in Unix seconds, or None when it has none.
    """

    def __init__(
        self,
        worker: Worker,
        story: Story,
        *,
        device: Callable[[], Device],
        origins: Callable[[], Sequence[Origin]],
        wall: Callable[[], int | None],
        epoch: int,
        rhythm: Rhythm,
    ) -> None:
        self._worker = worker
        self._story = story
        self._device = device
        self._origins = origins
        self._wall = wall
        self._epoch = epoch
        self._rhythm = rhythm
        self._failed = 0
        self._begun_before = worker.state.trial is not None
        self.heard = Heard()
        """Of the last round."""

    def round(self) -> float:
        """Returns the seconds until the next one. Only a bug or a broken device raises."""
        self.heard = Heard()
        try:
            pause = self._round()
        except StoppedError as error:
            self._interrupted(error)
            return POLL_S
        except EdgesealError as error:
            self._failed += 1
            self._interrupted(error)
            return self._rhythm.after_failure(self._failed)
        self._failed = 0
        return pause

    def may_work(self) -> bool:
        """Whether the update that is under way may be worked on now: its maintenance window is open."""
        trial = self._worker.state.trial
        return trial is None or may_go_on(trial, self.time)

    @property
    def time(self) -> TimeKnowledge:
        """What is known now."""
        return TimeKnowledge(max(self._worker.state.t_low, self._epoch), self._wall())

    @property
    def state(self) -> UpdateState:
        """What the journal holds."""
        return self._worker.state

    def _round(self) -> float:
        origins = self._origins()
        self.heard = Heard(origins)
        situation = self._go_on(origins)
        if isinstance(situation, OnTrial):
            return POLL_S
        if isinstance(situation, Confirmed | FellBack):
            return 0.0
        if not isinstance(situation, Quiet):
            return POLL_S  # what was begun waits for its window, or for the reboot
        origin, answers = self._ask(origins)
        device = self._device()
        self._worker.save(with_seen(self._worker.state, t_low=answers.t_low, policy_sequence=0))
        time = TimeKnowledge(answers.t_low, self._wall())
        decision = decide(
            Situation(
                device=device,
                state=self._worker.state,
                policy=answers.policy,
                offers=answers.offers,
                time=time,
                expires=answers.expires,
            )
        )
        self._look(origin, decision, answers)
        if not isinstance(decision, Install) or answers.policy is None:
            return self._rhythm.after_success
        self._begin(decision, answers.policy, answers)
        return 0.0

    def _begin(self, decision: Install, policy: SitePolicy, answers: Answers) -> None:
        trial = self._worker.begin(decision, answers.manifests[decision.offer.path], policy)
        if not decision.fresh:
            self._story.unproven(trial, expires=answers.expires, t_low=answers.t_low)

    def _go_on(self, origins: Sequence[Origin]) -> BootSituation:
        """What has come to its end is settled at any time; only work waits for its window."""
        trial, situation = self._worker.state.trial, self._worker.situation
        if trial is not None and isinstance(situation, OnTrial):
            self._story.on_trial(trial)
        if isinstance(situation, MustStage | MustActivate | MustReboot) and not self.may_work():
            return situation
        if trial is not None and self._begun_before and isinstance(situation, MustStage | MustActivate):
            self._story.resumed(trial)
        self._begun_before = False
        return self._worker.go_on([origin.content for origin in origins])

    def _ask(self, origins: Sequence[Origin]) -> tuple[Origin, Answers]:
        """The first origin that has both. Raises what the last one raised, which is told already."""
        fault: EdgesealError = TransportError("there is neither a network nor a medium to ask")
        for origin in origins:
            self.heard.words[origin.name] = None
            try:
                word = self.meet(origin)
                self.heard.words[origin.name] = word
                return origin, ask_vendor(origin.vendor, word)
            except TransportError as error:
                fault = error
                self._story.unreachable(origin.name, str(error), failed=self._failed + 1)
            except (VerificationError, DecodeError) as error:
                fault = error
                outcome = error.reason if isinstance(error, RefusedError) else "malformed"
                self._story.looked(origin.name, outcome, str(error), version=0, refused=True)
        raise fault

    def meet(self, origin: Origin) -> Word:
        """Refresh both repositories there, and hear the site: that raises the marks, whatever comes of it.

        Raises as asking.meet does.
        """
        device = self._device()
        word = meet(origin.vendor, origin.site, product=device.product, t_low=self.time.t_low)
        sequence = _sequence(word.policy, device)
        self._worker.save(with_seen(self._worker.state, t_low=word.t_low, policy_sequence=sequence))
        return word

    def _look(self, origin: Origin, decision: Decision, answers: Answers) -> None:
        for sentence in answers.unreadable:
            self._story.looked(origin.name, "unreadable", sentence, version=0, refused=True)
        version = decision.offer.release.version if isinstance(decision, Install) else 0
        refused = isinstance(decision, Refuse)
        self._story.looked(origin.name, decision.reason, decision.sentence, version=version, refused=refused)

    def _interrupted(self, error: EdgesealError) -> None:
        say(f"<4>{error}")
        trial = self._worker.state.trial
        if trial is not None:
            self._story.interrupted(trial, str(error))


def _sequence(policy: SitePolicy | None, device: Device) -> int:
    """A policy for somebody else raises nothing here."""
    if policy is None or (policy.site, policy.product) != (device.site, device.product):
        return 0
    return policy.sequence
