"""A service that hangs, without ending, is noticed and started anew."""

from __future__ import annotations

import pytest

from builder.vm.deadline import IN_GUEST_S, wait_until
from tests.support.machine import Machine

pytestmark = pytest.mark.xdist_group("vm-fresh")

UNIT = "edgeseal-uplink.service"
NOTICED_S = 300.0
SHORT = "[Service]\nWatchdogSec=30\n"  # the unit's own 180 s would only be waited for


def test_a_service_that_hangs_is_killed_and_started_anew(vm: Machine) -> None:
    place = f"/run/systemd/system/{UNIT}.d"
    vm.python(f"import os\nos.makedirs({place!r})\nopen({place + '/short.conf'!r}, 'w').write({SHORT!r})")
    vm.succeed(["systemctl", "daemon-reload"])
    vm.succeed(["systemctl", "restart", UNIT])
    process = int(vm.succeed(["systemctl", "show", "-P", "MainPID", UNIT]))
    vm.python(f"import os, signal\nos.kill({process}, signal.SIGSTOP)")

    def restarted() -> bool:
        return vm.succeed(["systemctl", "show", "-P", "NRestarts", UNIT]).strip() == "1"

    what = "the hung uplink is started anew"
    wait_until(restarted, what=what, within_s=NOTICED_S, check=vm.vm.require_alive, every_s=IN_GUEST_S)
    vm.wait_for_unit(UNIT)
    assert int(vm.succeed(["systemctl", "show", "-P", "MainPID", UNIT])) != process
