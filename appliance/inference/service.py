"""edgeseal-inference: frames in, verdicts to the uplink."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from appliance.core.clock import Clock
from appliance.core.errors import DecodeError
from appliance.formats.audit_event import AUDIT_SOCKET
from appliance.formats.device import DEVICE_CONFIG_PATH, InferenceConfig
from appliance.formats.model_card import CARD_FILE, MODEL_FILE, MODELS_DIRECTORY, decode_model_card
from appliance.formats.uplink_message import UPLINK_SOCKET, Refused
from appliance.formats.verdict import Verdict
from appliance.inference.judge import Judge, self_test
from appliance.inference.session import Session, load_verified_model
from appliance.inference.source import PortSource, open_source
from appliance.machine.audit_client import AuditClient
from appliance.machine.clock import system_clock
from appliance.machine.config import load_device_config, read_sealed
from appliance.machine.credentials import Credentials
from appliance.machine.entry import StopFlag
from appliance.machine.notify import Notifier, say
from appliance.machine.uplink_client import AlarmBell, UplinkClient

SERVICE = "edgeseal-inference"
NO_FRAMES = "frame-source-lost"
ROUND_S = 5.0
RETRY_S = 1.0


@dataclass(frozen=True)
class Settings:
    """Where things are; a test has its own."""

    config: Path = Path(DEVICE_CONFIG_PATH)
    models: Path = Path(MODELS_DIRECTORY)
    audit_socket: str = AUDIT_SOCKET
    uplink_socket: str = UPLINK_SOCKET


@dataclass
class Counts:
    """Since start. dropped: verdicts that the uplink did not accept. told: states that were already audited."""

    judged: int = 0
    dropped: int = 0
    told: set[str] = field(default_factory=set)


def serve(settings: Settings = Settings()) -> None:
    """Run until SIGTERM. Ready means: the model judges, and the source is open. Raises EdgesealError."""
    stop = StopFlag()
    notifier = Notifier.from_environment()
    config = load_device_config(settings.config).inference
    device = Credentials.from_environment().device_id()
    clock = system_clock()
    audit = AuditClient(settings.audit_socket)
    judge = _load(settings.models / config.model, config, device, clock, audit)
    source = open_source(config.source, stop)
    audit.post("source-opened", source=config.source.device)
    audit.post("service-started", service=SERVICE)
    notifier.ready("judging")
    bell = AlarmBell(settings.uplink_socket, device)
    loop = Loop(settings, config, judge, source, audit, notifier, clock, bell)
    while not stop:
        loop.round(stop)
        notifier.alive(loop.status)
    notifier.stopping()
    loop.finish()


def _load(directory: Path, config: InferenceConfig, device: str, clock: Clock, audit: AuditClient) -> Judge:
    card = decode_model_card(read_sealed(directory / CARD_FILE))
    session = Session(load_verified_model(directory / MODEL_FILE, card), card, config)
    self_test(session, card)
    audit.try_record("model-loaded", model=card.name, sha256=card.sha256, execution_provider=config.execution_provider)
    say(f"<6>model {card.name} ({card.sha256}) on {config.execution_provider}")
    return Judge(session, card, config, device=device, clock=clock)


class Loop:
    """One frame after the other. While the uplink cannot be reached no frame is taken: the source waits."""

    def __init__(
        self,
        settings: Settings,
        config: InferenceConfig,
        judge: Judge,
        source: PortSource,
        audit: AuditClient,
        notifier: Notifier,
        clock: Clock,
        bell: AlarmBell,
    ) -> None:
        self._config = config
        self._judge = judge
        self._source = source
        self._audit = audit
        self._notifier = notifier
        self._clock = clock
        self._bell = bell
        self._uplink = UplinkClient(settings.uplink_socket)
        self._counts = Counts()

    def round(self, stop: StopFlag) -> None:
        """At most one frame."""
        try:
            frame = self._source.next(stop, ROUND_S)
            if frame is None:
                return
            verdict = self._judge.judge(frame, received_us=self._clock().monotonic_us)
        except DecodeError as error:
            self._source_failed(error)
            stop.wait(RETRY_S)
            return
        self._counts.told.discard("source")
        self._bell.set(NO_FRAMES, False, f"frames come from {self._config.source.device} again", self._clock())
        self._watch_deadline(verdict)
        self._deliver(verdict, stop)

    @property
    def status(self) -> str:
        """One line for people."""
        return f"judged {self._counts.judged}, dropped {self._counts.dropped}"

    def finish(self) -> None:
        """Say what was dropped, and close."""
        if self._counts.dropped:
            self._audit.post("verdicts-dropped", "failure", count=self._counts.dropped, reason="refused by the uplink")
        self._audit.post("service-stopped", service=SERVICE, reason="asked to")
        self._source.close()
        self._uplink.close()
        self._audit.close()

    def _deliver(self, verdict: Verdict, stop: StopFlag) -> None:
        """Hand over; an uplink that cannot be reached is waited for. A verdict handed over twice keeps its sequence."""
        while True:
            try:
                answer = self._uplink.publish(verdict)
                break
            except OSError as error:
                self._once("uplink", f"the uplink is not reachable: {error}")
                if stop:
                    self._counts.dropped += 1
                    return
                self._notifier.alive(self.status)
                stop.wait(RETRY_S)
        self._counts.told.discard("uplink")
        if isinstance(answer, Refused):
            self._dropped(answer)
        else:
            self._counts.judged += 1
            self._counts.told.discard("dropped")

    def _dropped(self, answer: Refused) -> None:
        self._counts.dropped += 1
        if self._once("dropped", f"the uplink refused a verdict: {answer.detail}"):
            self._audit.post("verdicts-dropped", "failure", count=self._counts.dropped, reason=answer.detail[:1024])

    def _source_failed(self, error: DecodeError) -> None:
        if self._once("source", str(error)):
            self._audit.post("source-failed", "failure", source=self._config.source.device, reason=error.message[:1024])
        self._bell.set(NO_FRAMES, True, f"{self._config.source.device}: {error.message}", self._clock())
        self._source.reopen()

    def _watch_deadline(self, verdict: Verdict) -> None:
        late = verdict.latency_us > self._config.deadline_ms * 1000
        if not late:
            self._counts.told.discard("deadline")
        elif self._once("deadline", f"a frame took {verdict.latency_us} us"):
            self._audit.post(
                "deadline-missed", "failure", latency_us=verdict.latency_us, deadline_ms=self._config.deadline_ms
            )

    def _once(self, state: str, line: str) -> bool:
        """Put a line in the journal when a state begins; tells whether it did."""
        if state in self._counts.told:
            return False
        self._counts.told.add(state)
        say(f"<4>{line}")
        return True
