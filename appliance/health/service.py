"""edgeseal-health: decides whether this boot is good. Success is what lets boot-complete.target be reached.

Names of the units that have to be up are its arguments.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.core.clock import Clock
from appliance.core.errors import EdgesealError
from appliance.formats.audit_event import AUDIT_SOCKET
from appliance.formats.device import DEVICE_CONFIG_PATH, HealthConfig
from appliance.formats.uplink_message import UPLINK_SOCKET
from appliance.health.units import PROPERTIES, UnitState, check_units, decode_show, is_failure
from appliance.machine.audit_client import AuditClient
from appliance.machine.clock import system_clock
from appliance.machine.config import load_device_config
from appliance.machine.exec import run
from appliance.machine.notify import say
from appliance.machine.uplink_client import UplinkClient

PAUSE_S = 2.0
SYSTEMCTL_TIMEOUT_S = 120  # an emulated machine at its busiest


@dataclass(frozen=True)
class Probe:
    """What is asked of the machine; a test has fakes."""

    units: Callable[[Sequence[str]], list[UnitState]]
    broker_connected: Callable[[], bool]
    clock: Clock
    sleep: Callable[[float], None]


def wait_until_healthy(required: Sequence[str], config: HealthConfig, probe: Probe) -> int:
    """Seconds it took. Raises EdgesealError: at once when a unit has failed, else at the deadline."""
    start = probe.clock().monotonic_us
    while True:
        verdict = _verdict(required, config, probe)
        seconds = (probe.clock().monotonic_us - start) // 1_000_000
        if verdict is None:
            return seconds
        if is_failure(verdict):
            raise EdgesealError(verdict)
        if seconds >= config.deadline_s:
            raise EdgesealError(f"after {seconds} s {verdict}")
        probe.sleep(PAUSE_S)


def _verdict(required: Sequence[str], config: HealthConfig, probe: Probe) -> str | None:
    verdict = check_units(probe.units(required), required)
    if verdict is None and config.require_broker and not probe.broker_connected():
        return "the broker has not accepted the device"
    return verdict


def serve() -> None:
    """Judge this boot once. Raises EdgesealError when it is not good."""
    required = sys.argv[1:]
    if not required:
        raise EdgesealError("no unit to wait for", hint="name them as arguments")
    config = load_device_config(Path(DEVICE_CONFIG_PATH)).health
    audit = AuditClient(AUDIT_SOCKET)
    probe = Probe(units=_show, broker_connected=_broker_connected, clock=system_clock(), sleep=time.sleep)
    try:
        seconds = wait_until_healthy(required, config, probe)
    except EdgesealError as error:
        audit.try_record("boot-judged", "failure", reason=str(error)[:1024], seconds=config.deadline_s)
        raise
    audit.try_record("boot-judged", "success", reason="every required unit is up", seconds=seconds)
    say(f"<6>this boot is good, after {seconds} s")


def _show(required: Sequence[str]) -> list[UnitState]:
    command = ["systemctl", "show", f"--property={','.join(PROPERTIES)}", *required]
    output = run(command, reason="ask systemd for the state of its units", timeout_s=SYSTEMCTL_TIMEOUT_S)
    return decode_show(output.decode())


def _broker_connected() -> bool:
    client = UplinkClient(UPLINK_SOCKET)
    try:
        return client.status().connected
    except OSError:
        return False
    finally:
        client.close()
