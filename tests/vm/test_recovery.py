"""The owner opens a device's data without the device: with the recovery key that it escrowed on its first boot."""

from __future__ import annotations

import contextlib
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
