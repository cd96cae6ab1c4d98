"""What a virtual machine is made of. Plain values; arguments.py turns them into QEMU's argument list."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from builder.profile.types import Architecture

BROKER_ADDRESS = "10.0.2.100"
BROKER_PORT = 8883
"""Where the guest finds the broker: an address that only the emulator's network stack knows."""

AGENT_PORT_NAME = "edgeseal.agent.0"
FRAMES_PORT_NAME = "edgeseal.frames.0"
SHARE_SERIAL = "share"
MEDIUM_SERIAL = "medium"
MEDIUM_PLACE = "place"


@dataclass(frozen=True)
class DiskFile:
    """format: `raw` or `qcow2`."""

    path: Path
    format: Literal["raw", "qcow2"]


@dataclass(frozen=True)
class Firmware:
    """code: read-only firmware, a path inside the tree. variables: this machine's own variable store."""

    code: str
    variables: Path


@dataclass(frozen=True)
class HostForward:
    """A connection to host_port on the host's loopback reaches guest_port in the guest."""

    host_port: int
    guest_port: int


@dataclass(frozen=True)
class GuestService:
    """A connection of the guest to address:port reaches host_port on the host's loopback."""

    address: str
    port: int
    host_port: int


@dataclass(frozen=True)
class QemuConfig:
    """One machine.

    directory: holds its sockets, logs and state; its path is short, for socket addresses have 107 bytes.
    uuid: the firmware's; the device's machine id. memory_mib, cpus: sizes.
    tpm_socket: the control socket of a running swtpm, or None for a machine without a TPM.
    broker_port: port on the host's loopback that the guest reaches as BROKER_ADDRESS:BROKER_PORT; None: no network
    beyond the emulator. credentials: files, each one SMBIOS type 11 string. share: directory shown as a read-only disk.
    services: what else the guest reaches. medium: raw image of a removable medium. medium_writable: by the guest.
    plugged: without it there is an empty place for the medium, and VirtualMachine.plug_in fills it. block_log: file
    that gets every write to the disk, in dm-log-writes' format. console, pcap: files written.
    clock: what the real-time clock begins with, `utc` or YYYY-MM-DDTHH:MM:SS. incoming: start stopped, waiting for a
    saved state.
    """

    architecture: Architecture
    directory: Path
    disk: DiskFile
    firmware: Firmware
    uuid: str
    memory_mib: int = 1024
    cpus: int = 2
    accelerator: Literal["tcg", "kvm"] = "tcg"
    tpm_socket: Path | None = None
    broker_port: int | None = None
    services: tuple[GuestService, ...] = ()
    host_forwards: tuple[HostForward, ...] = ()
    medium: Path | None = None
    medium_writable: bool = False
    plugged: bool = True
    block_log: Path | None = None
    clock: str = "utc"
    credentials: tuple[Path, ...] = ()
    share: Path | None = None
    pcap: Path | None = None
    incoming: bool = False

    @property
    def qmp_socket(self) -> Path:
        """QEMU's control socket."""
        return self.directory / "qmp.sock"

    @property
    def agent_socket(self) -> Path:
        """Host end of the test agent's channel."""
        return self.directory / "agent.sock"

    @property
    def frames_socket(self) -> Path:
        """Host end of the channel that frames go in by."""
        return self.directory / "frames.sock"

    @property
    def console(self) -> Path:
        """What the serial console said."""
        return self.directory / "console.log"
