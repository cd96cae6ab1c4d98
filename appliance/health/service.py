"""edgeseal-health: decides whether this boot is good. Success is what lets boot-complete.target be reached.

Names of the units that have to be up are its arguments. A trial of an update is asked for more: demands.py.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.core.clock import Clock, Moment
from appliance.core.durable import write_durable
from appliance.core.errors import DecodeError, EdgesealError
from appliance.formats.audit_event import AUDIT_SOCKET
from appliance.formats.device import DEVICE_CONFIG_PATH
from appliance.formats.judgement import JUDGEMENT_PATH, Judgement, encode_judgement
from appliance.formats.update_state import STATE_PATH, UpdateState, decode_state
from appliance.formats.uplink_message import UPLINK_SOCKET
from appliance.health.demands import Demands, UplinkState, awaited, demands_of, in_words, trial_of
from appliance.health.units import PROPERTIES, UnitState, check_units, decode_show, is_failure
from appliance.machine.audit_client import AuditClient
from appliance.machine.clock import system_clock
from appliance.machine.config import load_device_config
from appliance.machine.credentials import Credentials
from appliance.machine.exec import run
from appliance.machine.notify import say
from appliance.machine.uplink_client import AlarmBell, UplinkClient

PAUSE_S = 2.0
EFI_VARIABLES = Path("/sys/firmware/efi/efivars")
SYSTEMCTL_TIMEOUT_S = 120  # an emulated machine at its busiest


@dataclass(frozen=True)
class Probe:
    """What is asked of the machine; a test has fakes."""

    units: Callable[[Sequence[str]], list[UnitState]]
    uplink: Callable[[], UplinkState]
    clock: Clock
    sleep: Callable[[float], None]


def wait_until_healthy(required: Sequence[str], demands: Demands, probe: Probe, *, deadline_s: int) -> int:
    """Seconds it took. Raises EdgesealError: at once when a unit has failed, else at the deadline."""
    start = probe.clock().monotonic_us
    while True:
        verdict = _verdict(required, demands, probe)
        seconds = (probe.clock().monotonic_us - start) // 1_000_000
        if verdict is None:
            return seconds
        if is_failure(verdict):
            raise EdgesealError(verdict)
        if seconds >= deadline_s:
            raise EdgesealError(f"after {seconds} s {verdict}")
        probe.sleep(PAUSE_S)


def _verdict(required: Sequence[str], demands: Demands, probe: Probe) -> str | None:
    verdict = check_units(probe.units(required), required)
    if verdict is None and (demands.verdict or demands.broker):
        return awaited(demands, probe.uplink())
    return verdict


def serve() -> None:
    """Judge this boot once. Raises EdgesealError when it is not good."""
    required = sys.argv[1:]
    if not required:
        raise EdgesealError("no unit to wait for", hint="name them as arguments")
    device = load_device_config(Path(DEVICE_CONFIG_PATH))
    trial = trial_of(read_state(Path(STATE_PATH)), version=device.version, counted=is_counted(EFI_VARIABLES))
    demands = demands_of(device.health, trial)
    clock = system_clock()
    probe = Probe(units=_show, uplink=_uplink_state, clock=clock, sleep=time.sleep)
    judge = Judge(AuditClient(AUDIT_SOCKET), Path(JUDGEMENT_PATH), clock, device.version)
    try:
        seconds = wait_until_healthy(required, demands, probe, deadline_s=device.health.deadline_s)
    except EdgesealError as error:
        judge.tell(good=False, reason=str(error), seconds=device.health.deadline_s)
        _ring(str(error), clock())
        raise
    judge.tell(good=True, reason=in_words(demands), seconds=seconds)
    say(f"<6>this boot is good, after {seconds} s")


def _ring(reason: str, moment: Moment) -> None:
    """The plant should know; a device that the site has not named yet has nobody to tell."""
    try:
        device = Credentials.from_environment().device_id()
    except EdgesealError as error:
        say(f"<4>no alarm: {error}")
        return
    AlarmBell(UPLINK_SOCKET, device).set("boot-judged-bad", True, reason, moment)


@dataclass(frozen=True)
class Judge:
    """Where a judgement is told: the audit log, and a file for the update service, also for that of the next boot."""

    audit: AuditClient
    path: Path
    clock: Clock
    version: int

    def tell(self, *, good: bool, reason: str, seconds: int) -> None:
        """A disk that takes no file makes no boot a bad one."""
        reason = reason[:1024]
        judgement = Judgement(
            boot_id=self.clock().boot_id, version=self.version, good=good, reason=reason, seconds=seconds
        )
        try:
            write_durable(self.path, encode_judgement(judgement))
        except OSError as error:
            say(f"<3>cannot write {self.path}: {error.strerror}")
        self.audit.try_record("boot-judged", "success" if good else "failure", reason=reason, seconds=seconds)


def read_state(path: Path) -> UpdateState:
    """What the update service remembers; nothing, when there is no such file or it cannot be understood.

    Then no trial is known, and the boot is judged as any other.
    """
    try:
        return decode_state(path.read_bytes())
    except FileNotFoundError:
        return UpdateState()
    except (OSError, DecodeError) as error:
        say(f"<3>cannot read {path}: {error}: no trial is known")
        return UpdateState()


def is_counted(variables: Path) -> bool:
    """Whether the boot loader counts this boot; edgeseal-fallback.service asks the same."""
    return any(variables.glob("LoaderBootCountPath-*"))


def _show(required: Sequence[str]) -> list[UnitState]:
    command = ["systemctl", "show", f"--property={','.join(PROPERTIES)}", *required]
    output = run(command, reason="ask systemd for the state of its units", timeout_s=SYSTEMCTL_TIMEOUT_S)
    return decode_show(output.decode())


def _uplink_state() -> UplinkState:
    client = UplinkClient(UPLINK_SOCKET)
    try:
        status = client.status()
        return UplinkState(accepted=status.accepted, connected=status.connected)
    except OSError:
        return UplinkState(accepted=0, connected=False)
    finally:
        client.close()
