"""A running machine: QEMU and its TPM as children, its console, its channels, its power switch."""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from builder.host.child import Child
from builder.host.sandbox import Sandbox
from builder.vm.agent import Agent
from builder.vm.arguments import qemu_arguments
from builder.vm.channel import check_socket_path
from builder.vm.config import MEDIUM_PLACE, MEDIUM_SERIAL, GuestService, HostForward, QemuConfig
from builder.vm.console import Console
from builder.vm.frames import FrameFeeder
from builder.vm.qmp import Qmp
from builder.vm.state import MachineState
from builder.vm.swtpm import start_tpm

START_S = 60.0
BLOCK_LOG = "writes.log"


@dataclass(frozen=True)
class Connections:
    """What a machine is connected to outside. Meanings as in QemuConfig. log_writes: to BLOCK_LOG in its directory."""

    broker_port: int | None = None
    services: tuple[GuestService, ...] = ()
    medium: Path | None = None
    medium_writable: bool = False
    plugged: bool = True
    log_writes: bool = False
    clock: str = "utc"
    host_forwards: tuple[HostForward, ...] = ()
    share: Path | None = None
    capture: bool = False
    memory_mib: int = 1024
    cpus: int = 2
    accelerator: Literal["tcg", "kvm"] = "tcg"


class VirtualMachine:
    """One start of a machine. directory: short-lived, with a short path; gets sockets and logs."""

    def __init__(
        self,
        directory: Path,
        state: MachineState,
        tree: Sandbox,
        connections: Connections = Connections(),
        *,
        incoming: bool = False,
    ) -> None:
        """Start it. incoming: it waits, stopped, for the memory of a snapshot. Raises EdgesealError."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory = directory
        self.state = state
        self.config = _config(directory, state, connections, incoming=incoming)
        check_socket_path(self.config.frames_socket)
        if self.config.block_log is not None:
            self.config.block_log.touch()  # the emulator opens it, but does not make it
        self._tpm = (
            start_tpm(state.tpm, self.config.tpm_socket, directory / "swtpm.log", tree)
            if state.tpm is not None and self.config.tpm_socket is not None
            else None
        )
        self._agent: Agent | None = None
        self._frames: FrameFeeder | None = None
        try:
            self._qemu = Child(
                _command(self.config, state, tree), reason="run the emulator", log=directory / "qemu.log"
            )
            self.console = Console(self.config.console, check=self.require_alive)
            self.qmp = Qmp(self.config.qmp_socket, within_s=START_S, check=self.require_alive)
        except BaseException:
            self.kill()
            raise

    @property
    def agent(self) -> Agent:
        """The test agent's channel, connected on first use; the guest may not have said hello yet."""
        if self._agent is None:
            self._agent = Agent(self.config.agent_socket, within_s=START_S, check=self.require_alive)
        return self._agent

    @property
    def frames(self) -> FrameFeeder:
        """The frame channel, connected on first use."""
        if self._frames is None:
            self._frames = FrameFeeder(self.config.frames_socket, within_s=START_S, check=self.require_alive)
        return self._frames

    @property
    def running(self) -> bool:
        """Whether the emulator has not ended."""
        return self._qemu.exit_status is None

    @property
    def exit_status(self) -> int | None:
        """The emulator's, once it has ended."""
        return self._qemu.exit_status

    def require_alive(self) -> None:
        """Raises EdgesealError when the emulator or its TPM has ended."""
        self._qemu.require_alive()
        if self._tpm is not None:
            self._tpm.require_alive()

    def wait_for_end(self, *, within_s: float) -> bool:
        """True when the emulator ended by itself, as after a shutdown in the guest."""
        return self._qemu.wait(within_s)

    def plug_in(self) -> None:
        """Put the medium into its place, which was left empty at the start."""
        file = {"driver": "file", "filename": str(self.config.medium)}
        fixed = not self.config.medium_writable
        self.qmp.execute("blockdev-add", **{"node-name": "medium", "driver": "raw", "read-only": fixed, "file": file})
        device = {"driver": "virtio-blk-pci", "id": "medium", "drive": "medium", "serial": MEDIUM_SERIAL}
        self.qmp.execute("device_add", bus=MEDIUM_PLACE, **device)

    def press_power_button(self) -> None:
        """Ask the guest's operating system to shut down."""
        self.qmp.execute("system_powerdown")

    def kill(self) -> None:
        """Cut the power. Nothing is flushed."""
        if hasattr(self, "_qemu"):
            self._qemu.kill()
        if self._tpm is not None:
            self._tpm.kill()
        for channel in (self._agent, self._frames, getattr(self, "qmp", None)):
            if channel is not None:
                channel.close()

    def stop(self) -> None:
        """End the emulator; it writes its own caches out. The guest is not asked."""
        if self.running:
            with contextlib.suppress(Exception):  # it may go before it answers
                self.qmp.execute("quit")
            self._qemu.wait(START_S)
        if self._tpm is not None:  # it ends when the emulator hangs up
            self._tpm.wait(START_S)
        self.kill()

    def __enter__(self) -> VirtualMachine:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _config(directory: Path, state: MachineState, connections: Connections, *, incoming: bool) -> QemuConfig:
    chosen = {field.name: getattr(connections, field.name) for field in dataclasses.fields(Connections)}
    capture, log_writes = chosen.pop("capture"), chosen.pop("log_writes")
    return QemuConfig(
        architecture=state.architecture,
        directory=directory,
        disk=state.disk,
        firmware=state.firmware,
        uuid=state.uuid,
        tpm_socket=directory / "tpm.sock" if state.tpm is not None else None,
        credentials=state.credentials,
        pcap=directory / "network.pcap" if capture else None,
        block_log=directory / BLOCK_LOG if log_writes else None,
        incoming=incoming,
        **chosen,
    )


def _command(config: QemuConfig, state: MachineState, tree: Sandbox) -> list[str]:
    """QEMU in the sandbox: it sees its own files, and of the network the loopback."""
    changed = [config.medium] if config.medium is not None and config.medium_writable else []
    shown = (config.share, config.medium if not changed else None)
    visible = {*state.backing, *state.credentials, *(path for path in shown if path is not None)}
    binds: dict[Path, str | None] = dict.fromkeys(sorted(visible))
    return tree.command(
        qemu_arguments(config),
        writable=sorted({config.directory, state.directory, state.disk.path.resolve(), *changed}),
        binds=binds,
        network=True,
        devices=["/dev/kvm"] if config.accelerator == "kvm" else [],
    )
