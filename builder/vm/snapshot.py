"""A machine frozen in mid-flight, and any number of machines that go on from there.

The memory goes to a file by QEMU's migration; the disk of the frozen machine becomes the backing of an overlay, the
variable store and the TPM are copied.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from appliance.core.errors import EdgesealError
from builder.host.sandbox import Sandbox
from builder.vm.deadline import wait_until
from builder.vm.machine import Connections, VirtualMachine
from builder.vm.state import MachineState, copy_state

_MIGRATE_S = 300.0


@dataclass(frozen=True)
class Snapshot:
    """memory: the saved state. state: disk, variables and TPM as they were then; nothing may write to them any more."""

    memory: Path
    state: MachineState


def freeze(machine: VirtualMachine, memory: Path) -> Snapshot:
    """Stop the machine, save it and end it. memory: a new file in the machine's own directory or its state's."""
    machine.qmp.execute("stop")
    _migrate(machine, "migrate", memory)
    machine.stop()
    return Snapshot(memory, machine.state)


def thaw(snapshot: Snapshot, directory: Path, tree: Sandbox, connections: Connections) -> VirtualMachine:
    """A new machine that goes on where the snapshot was made. connections: devices as they were then.

    directory: as for VirtualMachine; the machine's state lies in it too.
    """
    state = copy_state(snapshot.state, directory / "state", tree)
    machine = VirtualMachine(directory, _seeing(state, snapshot.memory), tree, connections, incoming=True)
    try:
        # before the memory comes: so the guest never sees its channels closed
        machine.agent  # noqa: B018
        machine.frames  # noqa: B018
        _migrate(machine, "migrate-incoming", snapshot.memory)
        machine.qmp.execute("cont")
    except BaseException:
        machine.kill()
        raise
    return machine


def _seeing(state: MachineState, memory: Path) -> MachineState:
    """With the memory file among what the emulator may read."""
    return MachineState(**{**state.__dict__, "backing": (*state.backing, memory)})


def _migrate(machine: VirtualMachine, command: str, memory: Path) -> None:
    machine.qmp.execute(command, uri=f"file:{memory}")

    def ended() -> bool:
        answer = machine.qmp.execute("query-migrate")
        if answer.get("status") == "failed":
            raise EdgesealError(f"the emulator cannot {command}: {answer.get('error-desc', 'no reason given')}")
        return bool(answer.get("status") == "completed")

    wait_until(ended, what="the machine's state is saved or loaded", within_s=_MIGRATE_S, check=machine.require_alive)
