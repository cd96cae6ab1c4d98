"""Every failure ends in a reboot or a fallback: never in a prompt, never in a hang."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from appliance.formats.verdict import decode_verdict
from builder.uplink.tally import StreamName, Tally
from builder.vm.deadline import wait_until
from builder.vm.historian import Historian
from tests.support.disk import DiskEditor
from tests.support.images import Image
from tests.support.machine import Machine
from tests.support.vm_producer import PIPELINED, acknowledged_by, start_producer, wait_for_acknowledged
from tests.vm.conftest import DEVICE

RESET_S = 120.0
PRODUCED = 2000


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
def test_the_plug_pulled_while_it_works_loses_nothing_that_was_acknowledged(
    vm: Machine, historian: Historian, record_property: Callable[[str, object], None]
) -> None:
    before = vm.audit_log()
    vm.write("/var/lib/mark", b"durable")
    start_producer(vm, DEVICE)
    wait_for_acknowledged(vm, PRODUCED, within_s=RESET_S)
    vm.pull_the_plug()
    vm.boot()
    assert vm.read("/var/lib/mark") == b"durable"
    after = vm.audit_log()
    assert after[: len(before)] == before
    assert [entry.event.kind for entry in after].count("boot-started") == 2
    assert (vm.booted_slot(), vm.succeed(["systemctl", "--failed", "--no-legend", "--plain"])) == ("a", "")

    # what the uplink had taken arrives, as it was handed in, and nothing is missing before or after it
    acknowledged = acknowledged_by(vm)

    def arrived() -> dict[int, int]:
        bodies = [message.envelope for message in historian.messages if message.envelope.kind == "verdict"]
        return {envelope.sequence: decode_verdict(envelope.body).sequence for envelope in bodies}

    def complete() -> bool:
        historian.take()
        return acknowledged.items() <= arrived().items()

    wait_until(complete, what="everything acknowledged arrives", within_s=RESET_S, check=vm.vm.require_alive)
    tally = Tally()
    for message in historian.messages:
        envelope = message.envelope
        tally.take(StreamName(envelope.device, envelope.epoch, envelope.stream), envelope.sequence, message.lane)
    counts = f"power cut: {len(acknowledged)} acknowledged and arrived, {tally.total('duplicates')} duplicates"
    record_property("counts", counts)
    assert len(acknowledged) >= PRODUCED - PIPELINED
    # the parts of the audit log that left before this historian listened are none of its business
    missing = {name.stream: state.missing_count for name, state in tally.streams.items() if name.stream == "data"}
    assert (missing, tally.total("disordered")) == ({"data": 0}, 0)


@pytest.mark.xdist_group("vm-fresh")
def test_a_stolen_disk_does_not_open_in_another_machine(used_device: tuple[Machine, DiskEditor]) -> None:
    machine, _ = used_device
    thief = machine.with_another_tpm()
    thief.start()
    thief.wait_for_console("Welcome to edgeseal")
    thief.wait_for_reset(within_s=400)
    assert "Mounted var.mount" not in thief.console
