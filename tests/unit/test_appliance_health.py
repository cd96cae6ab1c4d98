"""The judgement over a boot, with fakes for systemd, the broker and the clock."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from appliance.core.clock import Moment
from appliance.core.errors import DecodeError, EdgesealError
from appliance.formats.audit_event import AuditEvent, Recorded, decode_event, encode_audit_answer
from appliance.formats.device import HealthConfig
from appliance.formats.judgement import Judgement, decode_judgement, encode_judgement
from appliance.formats.update_state import Trial, UpdateState, encode_state
from appliance.health.demands import Demands, UplinkState, demands_of, in_words, trial_of
from appliance.health.service import EFI_VARIABLES, Judge, Probe, is_counted, read_state, wait_until_healthy
from appliance.health.units import UnitState, decode_show
from appliance.machine.audit_client import AuditClient
from builder.host.paths import source_root

UNITS = ("edgeseal-audit.service", "edgeseal-uplink.service")
UP = "active"


def state(
    name: str, active: str = UP, *, load: str = "loaded", result: str = "success", restarts: int = 0
) -> UnitState:
    return UnitState(name, load, active, "running" if active == UP else "auto-restart", result, restarts)


class Machine:
    """Units as they are at each look; the last look stays. Every sleep takes as long as it says."""

    def __init__(self, *looks: list[UnitState], broker_after: int = 0, verdict_after: int = 0) -> None:
        self.looks = list(looks)
        self.seconds = 0.0
        self.asked = 0
        self.broker_after = broker_after
        self.verdict_after = verdict_after

    def probe(self) -> Probe:
        return Probe(
            units=self._units,
            uplink=lambda: UplinkState(int(self.seconds >= self.verdict_after), self.seconds >= self.broker_after),
            clock=lambda: Moment("0" * 32, int(self.seconds * 1_000_000), 0),
            sleep=self._sleep,
        )

    def _units(self, required: Sequence[str]) -> list[UnitState]:
        assert required == UNITS
        self.asked += 1
        return self.looks[min(self.asked, len(self.looks)) - 1]

    def _sleep(self, seconds: float) -> None:
        self.seconds += seconds


NOTHING = Demands(verdict=False, broker=False)
TRIAL = Trial(
    transaction="0123456789abcdef",
    release="ab" * 32,
    version=8,
    security_epoch=1,
    slot="b",
    step="activated",
    confirm="online",
)
ALL_UP = [state(name) for name in UNITS]
STARTING = [state(UNITS[0]), state(UNITS[1], "activating")]


def test_all_up_is_good_at_once() -> None:
    assert wait_until_healthy(UNITS, NOTHING, Machine(ALL_UP).probe(), deadline_s=300) == 0


def test_starting_units_are_waited_for() -> None:
    assert wait_until_healthy(UNITS, NOTHING, Machine(STARTING, STARTING, ALL_UP).probe(), deadline_s=300) == 4


@pytest.mark.parametrize(
    ("look", "message"),
    [
        ([ALL_UP[0], state(UNITS[1], "failed", result="exit-code")], f"failed: {UNITS[1]} ended with exit-code"),
        ([ALL_UP[0], state(UNITS[1], "inactive", load="not-found")], f"failed: {UNITS[1]} is not-found"),
        ([ALL_UP[0]], f"failed: {UNITS[1]} is unknown"),
        (
            [ALL_UP[0], state(UNITS[1], "activating", result="watchdog", restarts=3)],
            f"failed: {UNITS[1]} was started 4 times and ended with watchdog",
        ),
    ],
    ids=["failed", "not there", "not shown", "restarted"],
)
def test_a_failure_ends_the_wait_at_once(look: list[UnitState], message: str) -> None:
    machine = Machine(STARTING, look)
    with pytest.raises(EdgesealError) as caught:
        wait_until_healthy(UNITS, NOTHING, machine.probe(), deadline_s=300)
    assert str(caught.value) == message
    assert machine.seconds == 2


def test_a_unit_that_never_comes_up_ends_at_the_deadline() -> None:
    machine = Machine(STARTING)
    with pytest.raises(EdgesealError) as caught:
        wait_until_healthy(UNITS, NOTHING, machine.probe(), deadline_s=30)
    assert str(caught.value) == f"after 30 s {UNITS[1]} is activating (auto-restart)"


def test_a_service_that_recovered_is_good() -> None:
    recovered = [ALL_UP[0], state(UNITS[1], restarts=7)]
    assert wait_until_healthy(UNITS, NOTHING, Machine(recovered).probe(), deadline_s=300) == 0


@pytest.mark.parametrize(
    ("require_broker", "confirm", "demands"),
    [
        (False, None, NOTHING),
        (True, None, Demands(verdict=False, broker=True)),
        (False, "offline", Demands(verdict=True, broker=False)),
        (True, "offline", Demands(verdict=True, broker=True)),
        (False, "online", Demands(verdict=True, broker=True)),
        (True, "online", Demands(verdict=True, broker=True)),
    ],
)
def test_what_a_boot_is_asked_for(require_broker: bool, confirm: str | None, demands: Demands) -> None:
    trial = None if confirm is None else msgspec.structs.replace(TRIAL, confirm=confirm)
    assert demands_of(HealthConfig(require_broker=require_broker), trial) == demands


def test_a_boot_is_a_trial_when_the_new_version_runs_and_is_counted() -> None:
    """After a fall-back the state still names the trial, but the old version runs; a confirmed one is not counted."""
    assert trial_of(UpdateState(trial=TRIAL), version=8, counted=True) == TRIAL
    assert trial_of(UpdateState(trial=TRIAL), version=8, counted=False) is None
    assert trial_of(UpdateState(trial=TRIAL), version=7, counted=True) is None
    assert trial_of(UpdateState(), version=8, counted=True) is None
    decided, staged = (UpdateState(trial=msgspec.structs.replace(TRIAL, step=step)) for step in ("decided", "staged"))
    assert trial_of(decided, version=8, counted=True) is None
    assert trial_of(staged, version=8, counted=True) == staged.trial, "the power failed before the journal said more"


def test_the_boot_loader_counts_trials(tmp_path: Path) -> None:
    assert not is_counted(tmp_path / "none")
    (tmp_path / "LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f").touch()
    assert not is_counted(tmp_path)
    (tmp_path / "LoaderBootCountPath-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f").touch()
    assert is_counted(tmp_path)
    fallback = (source_root() / "appliance/units/edgeseal-fallback.service").read_text()
    assert f"ConditionPathExistsGlob={EFI_VARIABLES}/LoaderBootCountPath-*" in fallback


@pytest.mark.parametrize(
    ("demands", "broker_after", "verdict_after", "seconds"),
    [
        (NOTHING, 99, 99, 0),
        (Demands(verdict=False, broker=True), 20, 99, 20),
        (Demands(verdict=True, broker=False), 99, 10, 10),
        (Demands(verdict=True, broker=True), 20, 10, 20),
        (Demands(verdict=True, broker=True), 20, 40, 40),
    ],
)
def test_what_is_asked_for_is_waited_for(demands: Demands, broker_after: int, verdict_after: int, seconds: int) -> None:
    machine = Machine(ALL_UP, broker_after=broker_after, verdict_after=verdict_after)
    assert wait_until_healthy(UNITS, demands, machine.probe(), deadline_s=60) == seconds


@pytest.mark.parametrize(
    ("demands", "missing"),
    [
        (Demands(verdict=False, broker=True), "the broker has not accepted the device"),
        (Demands(verdict=True, broker=False), "no verdict has reached the uplink"),
        (Demands(verdict=True, broker=True), "no verdict has reached the uplink"),
    ],
)
def test_what_is_asked_for_and_never_comes(demands: Demands, missing: str) -> None:
    machine = Machine(ALL_UP, broker_after=99, verdict_after=99)
    with pytest.raises(EdgesealError) as caught:
        wait_until_healthy(UNITS, demands, machine.probe(), deadline_s=60)
    assert str(caught.value) == f"after 60 s {missing}"


def test_a_unit_that_fails_while_a_verdict_is_awaited() -> None:
    machine = Machine(ALL_UP, ALL_UP, [ALL_UP[0], state(UNITS[1], "failed", result="watchdog")], verdict_after=99)
    with pytest.raises(EdgesealError, match="ended with watchdog"):
        wait_until_healthy(UNITS, Demands(verdict=True, broker=False), machine.probe(), deadline_s=60)
    assert machine.seconds == 4


def test_why_a_boot_is_good() -> None:
    assert in_words(NOTHING) == "every required unit is up"
    assert in_words(Demands(verdict=True, broker=True)) == (
        "every required unit is up, a verdict has reached the uplink, the broker has accepted the device"
    )


def test_the_state_of_updates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "state.json"
    assert read_state(path) == UpdateState()
    assert capsys.readouterr().err == ""
    path.write_bytes(encode_state(UpdateState(trial=TRIAL)))
    assert read_state(path) == UpdateState(trial=TRIAL)
    path.write_bytes(b"{")
    assert read_state(path) == UpdateState()
    assert capsys.readouterr().err == (
        f"<3>cannot read {path}: update state: Input data was truncated: no trial is known\n"
    )


@contextlib.contextmanager
def audit_writer(path: Path) -> Iterator[tuple[AuditClient, list[AuditEvent]]]:
    """A writer that records everything, and a client of it."""
    events: list[AuditEvent] = []
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            while packet := connection.recv(4096):
                events.append(decode_event(packet))
                connection.send(encode_audit_answer(Recorded(sequence=len(events))))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    client = AuditClient(str(path))
    try:
        yield client, events
    finally:
        client.close()
        thread.join(10)
        listener.close()


JUDGEMENT = Judgement(boot_id="0b6f" * 8, version=8, good=False, reason="after 60 s no verdict", seconds=60)


def test_a_judgement_is_told_twice(tmp_path: Path) -> None:
    """In the audit log, and in a file for the version that runs after a fall-back."""
    with audit_writer(tmp_path / "audit.sock") as (audit, events):
        judge = Judge(audit, tmp_path / "judgement.json", lambda: Moment("0b6f" * 8, 0, 0), 8)
        judge.tell(good=False, reason="after 60 s no verdict", seconds=60)
        judge.tell(good=True, reason="x" * 2000, seconds=1)
        assert decode_judgement((tmp_path / "judgement.json").read_bytes()) == msgspec.structs.replace(
            JUDGEMENT, good=True, reason="x" * 1024, seconds=1
        )
    assert [(event.kind, event.result, event.fields["seconds"]) for event in events] == [
        ("boot-judged", "failure", 60),
        ("boot-judged", "success", 1),
    ]


def test_a_judgement_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with audit_writer(tmp_path / "audit.sock") as (audit, events):
        judge = Judge(audit, tmp_path / "none" / "judgement.json", lambda: Moment("0b6f" * 8, 0, 0), 8)
        judge.tell(good=True, reason="", seconds=1)
    assert f"<3>cannot write {tmp_path}/none/judgement.json: No such file or directory" in capsys.readouterr().err
    assert len(events) == 1


def test_the_judgement_vectors() -> None:
    for vector in json.loads((source_root() / "tests/vectors/judgement.json").read_text())["judgements"]:
        judgement = decode_judgement(vector["canonical"].encode())
        assert msgspec.to_builtins(judgement) == vector["value"]
        assert encode_judgement(judgement).decode() == vector["canonical"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "judgement: Input data was truncated"),
        (encode_judgement(JUDGEMENT)[:-1], "judgement: not in canonical form"),
        (b" " * 8193, "judgement: 8193 bytes, at most 8192 are allowed"),
        (
            encode_judgement(JUDGEMENT).replace(b'"version":8', b'"version":0'),
            "judgement: Expected `int` >= 1 - at `$.version`",
        ),
    ],
    ids=["cut", "no newline", "too large", "version"],
)
def test_what_is_no_judgement(data: bytes, message: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_judgement(data)
    assert str(caught.value) == message


SHOWN = """\
Result=success
NRestarts=0
Id=edgeseal-audit.service
LoadState=loaded
ActiveState=active
SubState=running

Result=exit-code
NRestarts=2
Id=edgeseal-uplink.service
LoadState=loaded
ActiveState=activating
SubState=auto-restart
"""


def test_what_systemctl_shows_is_read() -> None:
    assert decode_show(SHOWN) == [
        UnitState(UNITS[0], "loaded", "active", "running", "success", 0),
        UnitState(UNITS[1], "loaded", "activating", "auto-restart", "exit-code", 2),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "systemctl show: no Id for a unit"),
        (SHOWN.replace("SubState=running\n", ""), "systemctl show: no SubState for a unit"),
        (SHOWN.replace("NRestarts=2", "NRestarts=[not set]"), "systemctl show: NRestarts is `[not set]`"),
    ],
)
def test_what_systemctl_cannot_show(text: str, message: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_show(text)
    assert str(caught.value) == message
