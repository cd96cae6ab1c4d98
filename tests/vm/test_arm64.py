"""The foreign architecture: built here without an emulator, booted in one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.disk import DiskEditor
from tests.support.images import Image
from tests.support.machine import Machine

pytestmark = pytest.mark.xdist_group("vm-fresh")


def test_it_boots_under_secure_boot_and_nothing_fails(
    device: Callable[[Image], tuple[Machine, DiskEditor]], arm_image: Image
) -> None:
    machine, _ = device(arm_image)
    machine.boot(within_s=900)
    assert machine.read("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c")[4] == 1
    assert "[integrity]" in machine.text("/sys/kernel/security/lockdown")
    assert machine.succeed(["systemctl", "--failed", "--no-legend", "--plain"]) == ""
    assert "broker-connected" in machine.audit_events()
