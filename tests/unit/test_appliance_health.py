"""The judgement over a boot, with fakes for systemd, the broker and the clock."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from appliance.core.clock import Moment
from appliance.core.errors import DecodeError, EdgesealError
from appliance.formats.device import HealthConfig
from appliance.health.service import Probe, wait_until_healthy
from appliance.health.units import UnitState, decode_show

UNITS = ("edgeseal-audit.service", "edgeseal-uplink.service")
UP = "active"


def state(
    name: str, active: str = UP, *, load: str = "loaded", result: str = "success", restarts: int = 0
) -> UnitState:
    return UnitState(name, load, active, "running" if active == UP else "auto-restart", result, restarts)


class Machine:
    """Units as they are at each look; the last look stays. Every sleep takes as long as it says."""

    def __init__(self, *looks: list[UnitState], broker_after: int = 0) -> None:
        self.looks = list(looks)
        self.seconds = 0.0
        self.asked = 0
        self.broker_after = broker_after

    def probe(self) -> Probe:
        return Probe(
            units=self._units,
            broker_connected=lambda: self.seconds >= self.broker_after,
            clock=lambda: Moment("0" * 32, int(self.seconds * 1_000_000), 0),
            sleep=self._sleep,
        )

    def _units(self, required: Sequence[str]) -> list[UnitState]:
        assert required == UNITS
        self.asked += 1
        return self.looks[min(self.asked, len(self.looks)) - 1]

    def _sleep(self, seconds: float) -> None:
        self.seconds += seconds


ALL_UP = [state(name) for name in UNITS]
STARTING = [state(UNITS[0]), state(UNITS[1], "activating")]


def test_all_up_is_good_at_once() -> None:
    assert wait_until_healthy(UNITS, HealthConfig(), Machine(ALL_UP).probe()) == 0


def test_starting_units_are_waited_for() -> None:
    assert wait_until_healthy(UNITS, HealthConfig(), Machine(STARTING, STARTING, ALL_UP).probe()) == 4


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
        wait_until_healthy(UNITS, HealthConfig(), machine.probe())
    assert str(caught.value) == message
    assert machine.seconds == 2


def test_a_unit_that_never_comes_up_ends_at_the_deadline() -> None:
    machine = Machine(STARTING)
    with pytest.raises(EdgesealError) as caught:
        wait_until_healthy(UNITS, HealthConfig(deadline_s=30), machine.probe())
    assert str(caught.value) == f"after 30 s {UNITS[1]} is activating (auto-restart)"


def test_a_service_that_recovered_is_good() -> None:
    recovered = [ALL_UP[0], state(UNITS[1], restarts=7)]
    assert wait_until_healthy(UNITS, HealthConfig(), Machine(recovered).probe()) == 0


def test_the_broker_counts_only_when_the_profile_says_so() -> None:
    assert wait_until_healthy(UNITS, HealthConfig(), Machine(ALL_UP, broker_after=99).probe()) == 0
    required = HealthConfig(require_broker=True, deadline_s=60)
    assert wait_until_healthy(UNITS, required, Machine(ALL_UP, broker_after=20).probe()) == 20
    with pytest.raises(EdgesealError, match="after 60 s the broker has not accepted the device"):
        wait_until_healthy(UNITS, required, Machine(ALL_UP, broker_after=99).probe())


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
