"""The models' part of a round: finish what is on its way, else ask, decide, and fetch. It needs no reboot.

Each model has failures and pauses of its own, and none of them is the firmware's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from appliance.core.errors import DecodeError, EdgesealError, VerificationError
from appliance.formats.approval import SitePolicy
from appliance.formats.model_store import PendingModel
from appliance.machine.notify import say
from appliance.update.asking import ModelAnswers, Word, ask_model
from appliance.update.client import RefusedError
from appliance.update.decide_model import Fetch, ModelDecision, ModelSituation, decide_model
from appliance.update.model_fetch import Fetcher
from appliance.update.model_store import ModelStore
from appliance.update.model_story import ModelStory
from appliance.update.reftime import TimeKnowledge
from appliance.update.rounds import Heard, Origin, Rhythm, Rounds
from appliance.update.rules import Device, Refuse, Wait, may_go_on
from appliance.update.staging import StoppedError
from appliance.update.transport import TransportError
from appliance.update.work import transaction_id


@dataclass
class _Turn:
    """Of one model. failed: in a row. due: when the repositories are asked about it without anybody else asking.

    retry: when what is on its way is tried again. begun_before: it was on its way when the service started.
    """

    failed: int = 0
    due: float = 0.0
    retry: float = 0.0
    begun_before: bool = False


@dataclass(frozen=True)
class Around:
    """clock: monotonic seconds. device: asked anew each round. progress: what is done, in words; called often.

    should_stop: the service ends, or somebody wants its attention.
    """

    clock: Callable[[], float]
    device: Callable[[], Device]
    progress: Callable[[str], None]
    should_stop: Callable[[], bool]


MakeFetcher = Callable[[ModelStore, Callable[[int, int], None], Callable[[], bool]], Fetcher]


def make_fetcher(store: ModelStore, progress: Callable[[int, int], None], should_stop: Callable[[], bool]) -> Fetcher:
    """As devices fetch."""
    return Fetcher(store, progress=progress, should_stop=should_stop)


class ModelRounds:
    """names: of the models that the profile has. firmware: knows the marks and the time, and meets repositories."""

    def __init__(
        self,
        store: ModelStore,
        story: ModelStory,
        firmware: Rounds,
        around: Around,
        *,
        names: Sequence[str],
        rhythm: Rhythm,
        fetcher: MakeFetcher = make_fetcher,
    ) -> None:
        self._store = store
        self._story = story
        self._firmware = firmware
        self._around = around
        self._rhythm = rhythm
        self._turns = {name: _Turn() for name in names}
        self._examined: set[str] = set()
        self._settled = False
        self._until = 0.0
        self._working: PendingModel | None = None
        self._fetcher = fetcher(store, self._tell_progress, self._must_pause)

    def round(self, heard: Heard, *, until: float) -> None:
        """Work on the models until about that time of the clock. heard: by the firmware, in the same round.

        Only a bug raises.
        """
        self._until = until
        try:
            device = self._around.device()
        except EdgesealError as error:
            say(f"<4>{error}")
            return
        if not device.confirmed:
            return
        self._settle()
        for name, turn in self._turns.items():
            if self._around.should_stop():
                return
            if name not in self._examined and self._around.clock() < turn.retry:
                continue
            try:
                self._model(name, turn, heard, device)
            except EdgesealError as error:
                say(f"<4>model {name}: {error}")
                self._put_off(turn)

    def _settle(self) -> None:
        """What the confirmed version does not name is of no use any more; before that the old one might want it."""
        if self._settled:
            return
        try:
            self._store.keep_only(tuple(self._turns))
            self._settled = True
        except EdgesealError as error:
            say(f"<4>{error}")

    def _model(self, name: str, turn: _Turn, heard: Heard, device: Device) -> None:
        self._examine(name, turn)
        pending, current = self._store.pending(name), self._store.current(name)
        if pending is not None and current is not None and pending.release == current.current.release:
            self._end(pending, fetched=0)  # the power went before the log was told
            pending = None
        in_trouble = False
        if pending is not None:
            if self._around.clock() < turn.retry or not may_go_on(pending, self._firmware.time):
                return
            in_trouble = not self._fetch(pending, turn, heard.origins)
            if not in_trouble and self._store.pending(name) is not None:
                return  # it has to pause
        is_answered = any(word is not None for word in heard.words.values())
        if in_trouble or is_answered or self._around.clock() >= turn.due:
            begun = self._look(name, turn, heard, device)
            if begun is not None:
                self._fetch(begun, turn, heard.origins)

    def _examine(self, name: str, turn: _Turn) -> None:
        """Once after the start."""
        if name in self._examined:
            return
        for sentence in self._store.examine(name, progress=lambda: self._around.progress(f"reads model {name}")):
            self._story.damaged(sentence)
        turn.begun_before = self._store.pending(name) is not None
        self._examined.add(name)

    # ---- on its way

    def _fetch(self, pending: PendingModel, turn: _Turn, origins: Sequence[Origin]) -> bool:
        """False: it could not be had this time."""
        if turn.begun_before:
            self._story.resumed(pending)
            turn.begun_before = False
        if not may_go_on(pending, self._firmware.time):
            return True
        self._working, before = pending, self._fetcher.fetched
        try:
            self._fetcher.fetch(pending, [origin.content for origin in origins])
        except StoppedError as error:
            say(f"<6>version {pending.version} of model {pending.model} pauses: {error}")
            if not may_go_on(pending, self._firmware.time):
                self._story.interrupted(pending, "the maintenance window is closed")
            return True
        except EdgesealError as error:
            say(f"<4>model {pending.model}: {error}")
            self._story.interrupted(pending, str(error))
            self._put_off(turn, longer=isinstance(error, VerificationError))
            return False
        finally:
            self._working = None
        turn.failed = 0
        self._end(pending, fetched=self._fetcher.fetched - before)
        return True

    def _end(self, pending: PendingModel, *, fetched: int) -> None:
        release = self._store.release(pending.model, pending.version, pending.release)
        self._story.stored(pending, sha256=release.onnx.sha256, fetched=fetched)
        self._store.drop(pending.model)

    def _must_pause(self) -> bool:
        pending = self._working
        late = self._around.clock() >= self._until or self._around.should_stop()
        return late or (pending is not None and not may_go_on(pending, self._firmware.time))

    def _put_off(self, turn: _Turn, *, longer: bool = False) -> None:
        """longer: all of it has to be fetched again."""
        turn.failed += 1
        pause = self._rhythm.after_success if longer else self._rhythm.after_failure(turn.failed)
        turn.retry = turn.due = self._around.clock() + pause

    # ---- ask and decide

    def _look(self, name: str, turn: _Turn, heard: Heard, device: Device) -> PendingModel | None:
        """What is to be fetched at once. Raises what the last origin raised, which is told already."""
        asked = [origin for origin in heard.origins if heard.words.get(origin.name, heard) is not None]
        if not asked:
            return None  # the firmware has just heard nothing anywhere, and told it
        origin, word, answers = self._ask(name, asked, heard)
        turn.due = self._around.clock() + self._rhythm.after_success
        current, pending = self._store.current(name), self._store.pending(name)
        decision = decide_model(
            ModelSituation(
                device=device,
                name=name,
                have=None if current is None else current.current,
                room=self._store.room(name),
                policy=word.policy,
                seen=self._firmware.state.policy_sequence,
                offers=answers.offers,
                time=TimeKnowledge(max(word.t_low, self._firmware.time.t_low), self._firmware.time.wall),
                expires=word.expires,
            )
        )
        self._tell(name, origin, decision, answers)
        if isinstance(decision, Fetch) and word.policy is not None:
            if pending is not None and pending.release == decision.offer.sha256:
                return None
            if pending is not None:
                self._story.dropped(pending, f"version {decision.offer.release.version} takes its place")
            turn.failed = 0
            return self._begin(name, decision, word.policy, word, answers.manifests[decision.offer.path])
        if pending is not None and not isinstance(decision, Wait):
            self._store.drop(name)
            self._story.dropped(pending, decision.sentence)
            pending = None
        if pending is None:
            turn.failed = 0
        return None

    def _begin(self, name: str, decision: Fetch, policy: SitePolicy, word: Word, manifest: bytes) -> PendingModel:
        offer, approval = decision.offer, decision.approval
        pending = PendingModel(
            model=name,
            transaction=transaction_id(offer.sha256, policy.sequence),
            release=offer.sha256,
            version=offer.release.version,
            policy_sequence=policy.sequence,
            windows=policy.windows if approval is None else approval.windows,
            offsets=policy.offsets,
            clock=policy.clock,
            time_unknown=policy.time_unknown,
        )
        self._store.begin(pending, manifest, size=offer.bytes)
        self._story.decided(pending, ticket="" if approval is None else approval.ticket)
        if not decision.fresh:
            self._story.unproven(pending, expires=word.expires, t_low=word.t_low)
        return pending

    def _ask(self, name: str, origins: Sequence[Origin], heard: Heard) -> tuple[Origin, Word, ModelAnswers]:
        fault: EdgesealError = TransportError("there is neither a network nor a medium to ask")
        for origin in origins:
            try:
                word = heard.words.get(origin.name) or self._meet(origin, heard)
                if self._is_overtaken(word) and origin is not origins[-1]:
                    continue
                return origin, word, ask_model(origin.vendor, word, name)
            except (TransportError, VerificationError, DecodeError) as error:
                fault = error
                self._story.looked(name, origin.name, _outcome(error), str(error), version=0, refused=True)
        raise fault

    def _meet(self, origin: Origin, heard: Heard) -> Word:
        """Once in a round for all models."""
        heard.words[origin.name] = None
        word = heard.words[origin.name] = self._firmware.meet(origin)
        return word

    def _is_overtaken(self, word: Word) -> bool:
        """Another origin has said something newer in the meantime: an old medium, and the network."""
        return word.policy is not None and word.policy.sequence < self._firmware.state.policy_sequence

    def _tell(self, name: str, origin: Origin, decision: ModelDecision, answers: ModelAnswers) -> None:
        for sentence in answers.unreadable:
            self._story.looked(name, origin.name, "unreadable", sentence, version=0, refused=True)
        version = decision.offer.release.version if isinstance(decision, Fetch) else 0
        refused = isinstance(decision, Refuse)
        self._story.looked(name, origin.name, decision.reason, decision.sentence, version=version, refused=refused)

    def _tell_progress(self, done: int, total: int) -> None:
        name = "" if self._working is None else f" {self._working.model}"
        self._around.progress(f"model{name}: {done * 100 // max(1, total)} %")


def _outcome(error: EdgesealError) -> str:
    if isinstance(error, RefusedError):
        return error.reason
    return "unreachable" if isinstance(error, TransportError) else "malformed"
