"""What a machine owns between two starts: its disk, its variable store, its TPM, its site's credentials."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from builder.host.sandbox import Sandbox
from builder.profile.types import Architecture
from builder.signing.keyset import KeySet, PublicKeys
from builder.vm.config import DiskFile, Firmware
from builder.vm.firmware import CODE, make_firmware
from builder.vm.site import write_credentials
from builder.vm.swtpm import manufacture_tpm

_NAMESPACE = uuid.UUID("b1a3c7de-2f3a-5b86-9d52-5f0f7d7f6a10")


@dataclass(frozen=True)
class Wanted:
    """What kind of machine to make. keys: enrolled in the firmware with Secure Boot on; None: Secure Boot off.

    name: machines of one name have one firmware UUID, so one machine id.
    """

    architecture: Architecture
    keys: KeySet | PublicKeys | None
    tpm: bool
    credentials: Mapping[str, bytes] = field(default_factory=dict)
    name: str = "edgeseal-virtual-machine"


@dataclass(frozen=True)
class MachineState:
    """directory: holds all of it but a disk that is used in place. tpm: swtpm's state directory, or None.

    backing: read-only disk images below `disk`.
    """

    architecture: Architecture
    directory: Path
    disk: DiskFile
    firmware: Firmware
    uuid: str
    tpm: Path | None
    credentials: tuple[Path, ...] = ()
    backing: tuple[Path, ...] = ()


def make_state(directory: Path, wanted: Wanted, disk: Path, tree: Sandbox, *, in_place: bool = False) -> MachineState:
    """Fill the empty or missing `directory`.

    disk: a raw image; it stays as it is and what the machine writes goes into an overlay, unless `in_place`.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    firmware = make_firmware(wanted.architecture, directory / "variables.fd", tree, keys=wanted.keys)
    tpm = directory / "tpm" if wanted.tpm else None
    if tpm is not None:
        manufacture_tpm(tpm, tree)
    return MachineState(
        architecture=wanted.architecture,
        directory=directory,
        disk=DiskFile(disk, "raw") if in_place else make_overlay(DiskFile(disk, "raw"), directory / "disk.qcow2", tree),
        firmware=firmware,
        uuid=_uuid(wanted),
        tpm=tpm,
        credentials=write_credentials(dict(wanted.credentials), directory / "credentials"),
        backing=() if in_place else (disk.resolve(),),
    )


def open_state(directory: Path, wanted: Wanted, disk: Path) -> MachineState:
    """State that make_state(…, in_place=True) left in `directory`, with the credentials of `wanted`."""
    shutil.rmtree(directory / "credentials", ignore_errors=True)
    return MachineState(
        architecture=wanted.architecture,
        directory=directory,
        disk=DiskFile(disk, "raw"),
        firmware=Firmware(CODE[wanted.architecture], directory / "variables.fd"),
        uuid=_uuid(wanted),
        tpm=directory / "tpm" if wanted.tpm else None,
        credentials=write_credentials(dict(wanted.credentials), directory / "credentials"),
    )


def copy_state(state: MachineState, directory: Path, tree: Sandbox) -> MachineState:
    """The same machine once more, its disk as an overlay on the old one's, which must not change any more."""
    directory.mkdir(mode=0o700, parents=True)
    variables = directory / "variables.fd"
    shutil.copyfile(state.firmware.variables, variables)
    if state.tpm is not None:
        shutil.copytree(state.tpm, directory / "tpm")
    return MachineState(
        architecture=state.architecture,
        directory=directory,
        disk=make_overlay(state.disk, directory / "disk.qcow2", tree, below=state.backing),
        firmware=Firmware(state.firmware.code, variables),
        uuid=state.uuid,
        tpm=directory / "tpm" if state.tpm is not None else None,
        credentials=state.credentials,
        backing=(*state.backing, state.disk.path),
    )


def make_overlay(base: DiskFile, target: Path, tree: Sandbox, *, below: tuple[Path, ...] = ()) -> DiskFile:
    """A disk that holds only what differs from `base`. below: the images that `base` itself is an overlay of."""
    path = base.path.resolve()
    tree.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-b", path, "-F", base.format, target],
        reason="make an overlay of the disk",
        writable=[target.parent],
        binds=dict.fromkeys((*below, path)),
    )
    return DiskFile(target, "qcow2")


def _uuid(wanted: Wanted) -> str:
    return str(uuid.uuid5(_NAMESPACE, wanted.name))
