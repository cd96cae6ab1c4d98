"""Every failure ends in a reboot or a fallback: never in a prompt, never in a hang."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.disk import DiskEditor
from tests.support.images import Image
from tests.support.machine import AUDIT_LOG, Machine

RESET_S = 120.0


@pytest.mark.parametrize(
    "source",
    [
        "import subprocess; subprocess.run(['systemctl', 'start', '--no-block', 'emergency.target'])",
        "import subprocess; subprocess.run(['systemctl', 'start', '--no-block', 'rescue.target'])",
        "open('/proc/sysrq-trigger', 'w').write('c')",
        "import os; os.kill(1, 6)",
    ],
    ids=["emergency", "rescue", "kernel-panic", "crash-of-systemd"],
)
@pytest.mark.xdist_group("vm-thawed")
def test_it_reboots(vm: Machine, source: str) -> None:
    seen = len(vm.vm.qmp.events)
    vm.python_without_answer(source)
    vm.vm.qmp.wait_for_event("RESET", within_s=RESET_S, since=seen)


@pytest.mark.xdist_group("vm-fresh")
def test_the_plug_pulled_twice_during_the_first_boot(
    device: Callable[[Image], tuple[Machine, DiskEditor]], image: Image
) -> None:
    machine, _ = device(image)
    for moment in (
        r"Starting systemd-repart\.service",
        r"Starting systemd-cryptsetup@data\.service|Mounting var\.mount",
    ):
        machine.start()
        machine.wait_for_console(moment)
        machine.pull_the_plug()
    machine.boot()
    assert machine.succeed(["systemctl", "--failed", "--no-legend", "--plain"]) == ""
    assert "recovery-key-escrowed" in machine.audit_events()


@pytest.mark.xdist_group("vm-thawed")
def test_the_plug_pulled_while_it_works_loses_nothing_that_was_acknowledged(vm: Machine) -> None:
    before = vm.read(AUDIT_LOG)
    vm.write("/var/lib/mark", b"durable")
    vm.pull_the_plug()
    vm.boot()
    assert vm.read("/var/lib/mark") == b"durable"
    assert vm.read(AUDIT_LOG).startswith(before)
    assert [kind for kind in vm.audit_events() if kind == "boot-started"] == ["boot-started"] * 2
    assert (vm.booted_slot(), vm.succeed(["systemctl", "--failed", "--no-legend", "--plain"])) == ("a", "")


@pytest.mark.xdist_group("vm-fresh")
def test_a_stolen_disk_does_not_open_in_another_machine(used_device: tuple[Machine, DiskEditor]) -> None:
    machine, _ = used_device
    thief = machine.with_another_tpm()
    thief.start()
    thief.wait_for_console("Welcome to edgeseal")
    thief.wait_for_reset(within_s=400)
    assert "Mounted var.mount" not in thief.console
