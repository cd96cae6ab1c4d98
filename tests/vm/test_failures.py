"""Every failure ends in a reboot or a fallback: never in a prompt, never in a hang."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.disk import DiskEditor
from tests.support.images import Image
from tests.support.machine import Machine

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
def test_it_reboots(vm: Machine, source: str) -> None:
    seen = len(vm.vm.qmp.events)
    vm.python_without_answer(source)
    vm.vm.qmp.wait_for_event("RESET", within_s=RESET_S, since=seen)


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


def test_the_plug_pulled_while_it_works_loses_nothing_that_was_acknowledged(
    used_device: tuple[Machine, DiskEditor],
) -> None:
    machine, _ = used_device
    machine.boot()
    before = [entry.sequence for entry in machine.audit_log()]
    machine.write("/var/lib/mark", b"durable")
    machine.pull_the_plug()
    machine.boot()
    assert machine.read("/var/lib/mark") == b"durable"
    after = machine.audit_log()
    assert [entry.sequence for entry in after[: len(before)]] == before
    assert machine.booted_slot() == "a"


def test_a_stolen_disk_does_not_open_in_another_machine(used_device: tuple[Machine, DiskEditor]) -> None:
    machine, _ = used_device
    thief = machine.with_another_tpm()
    thief.start()
    thief.wait_for_console("Welcome to edgeseal")
    thief.wait_for_reset(within_s=400)
    assert "Mounted var.mount" not in thief.console
