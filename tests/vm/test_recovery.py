"""The owner opens a device's data without the device: with the recovery key that it escrowed on its first boot."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.core.errors import VerificationError
from builder.disk.recovery import open_volume
from builder.host.run import run
from builder.host.toolstree import tools_tree
from builder.signing.keyfiles import key_path, read_private_key
from builder.signing.keyinit import init_keys
from builder.signing.roles import Role
from builder.vm.snapshot import Snapshot
from builder.vm.state import make_overlay
from tests.support.disk import DiskEditor
from tests.support.machine import Machine

pytestmark = pytest.mark.xdist_group("vm-fresh")

GROUPS = 8  # of eight letters each: systemd's form of a recovery key


@contextlib.contextmanager
def _as_block_device(image: Path) -> Iterator[Path]:
    """The disk as it is when it was taken out of the device and plugged into the owner's machine."""
    attach = ["losetup", "--find", "--show", "--read-only", image]
    device = Path(run(attach, reason="attach a disk image").decode().strip())
    try:
        yield device
    finally:
        run(["losetup", "--detach", device], reason="detach a disk image")


def test_the_owner_opens_the_data_and_nobody_else_does(used_device: tuple[Machine, DiskEditor], tmp_path: Path) -> None:
    machine, disk = used_device
    owner = Path(machine.lab.keys.public.origin)
    private = read_private_key(key_path(owner, Role.RECOVERY), Role.RECOVERY, None)
    opened = open_volume(disk.path, private, tools_tree())
    assert (opened.keyslot, len(opened.key.split("-"))) == (1, GROUPS)
    with _as_block_device(disk.path) as device:
        assert open_volume(device, private, tools_tree()) == opened

    init_keys(tmp_path / "other", development=True, now=datetime.now(UTC))
    stranger = read_private_key(key_path(tmp_path / "other", Role.RECOVERY), Role.RECOVERY, None)
    with pytest.raises(VerificationError, match="another owner"):
        open_volume(disk.path, stranger, tools_tree())


def test_an_older_state_of_the_disk_is_told_of(
    used_device: tuple[Machine, DiskEditor], first_boot: Snapshot, tmp_path: Path
) -> None:
    machine, _ = used_device
    newest = machine.state
    older = make_overlay(
        first_boot.state.disk, tmp_path / "older.qcow2", machine.lab.tree, below=first_boot.state.backing
    )
    machine.state = dataclasses.replace(
        newest, disk=older, backing=(*first_boot.state.backing, first_boot.state.disk.path)
    )
    machine.boot()
    told = machine.told("log-rolled-back")
    assert int(str(told["known"])) < int(str(told["count"])), "the TPM knows of a state that this disk does not have"
    entries = machine.audit_log()
    assert [entry.event.kind for entry in entries][:2] == ["log-began", "epoch-began"], "a new log, it hides nothing"
    assert entries[0].event.fields["previous"], "the last checkpoint of the log before stands in it"
