"""One run of an image, from a directory that is gone afterwards: what `edgeseal run` and `edgeseal demo` share."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from appliance.core.errors import EdgesealError
from builder.host.sandbox import Sandbox
from builder.vm.machine import Connections, VirtualMachine
from builder.vm.state import MachineState, Wanted, make_state, open_state

POWER_OFF_S = 60.0


@contextlib.contextmanager
def scratch_directory() -> Iterator[Path]:
    """A private directory with a short path; sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="edgeseal-", ignore_cleanup_errors=True) as name:
        yield Path(name).resolve()


def persistent_state(directory: Path, wanted: Wanted, disk: Path, tree: Sandbox) -> MachineState:
    """The machine that lives beside a build and writes to its disk: the one of the last run, or a new one."""
    if (directory / "variables.fd").exists():
        return open_state(directory, wanted, disk)
    return make_state(directory, wanted, disk, tree, in_place=True)


@contextlib.contextmanager
def running(directory: Path, state: MachineState, tree: Sandbox, connections: Connections) -> Iterator[VirtualMachine]:
    """A machine for the length of a block."""
    machine = VirtualMachine(directory, state, tree, connections)
    try:
        yield machine
    finally:
        machine.stop()


def power_off(machine: VirtualMachine) -> bool:
    """Ask a development image's agent for an orderly end. False when nobody answered; then the power is still on.

    Images have no login and no daemon that listens to the power button.
    """
    agent = machine.agent
    if not machine.running or agent.hello is None:
        return False
    with contextlib.suppress(EdgesealError):  # it may be gone before it answers
        agent.run(["systemctl", "--no-block", "poweroff"], timeout_s=30)
    return machine.wait_for_end(within_s=POWER_OFF_S)
