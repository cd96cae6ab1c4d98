"""Which slot runs and which may be written, from a /proc and a /sys of our own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.core.errors import EdgesealError
from appliance.formats.release import Content, Delta, Release, Root
from appliance.update.entries import Entry, Found, Running
from appliance.update.slots import Partition, SlotPartitions, System, check_stage, find_slots, running_root_hash

LABELS = ["esp", "root-a", "root-a-verity", "root-b", "root-b-verity", "data"]
HASH = "ab" * 32
A_FILE = Content(sha256="0" * 64, size=1)
RELEASE = Release(
    product="label-check",
    profile="virtual-x86_64",
    architecture="x86_64",
    version=8,
    security_epoch=0,
    built=0,
    development=True,
    root=Root(size=8192, hash_size=4096, root_hash=HASH, salt="", uuid="00000000-0000-0000-0000-000000000001"),
    delta=Delta(groups=A_FILE, leaves=A_FILE, frames=A_FILE),
    uki=A_FILE,
)
RUNNING = Running(7, "a", "cd" * 32)
INACTIVE = SlotPartitions("b", Partition(Path("/dev/vda4"), 8192), Partition(Path("/dev/vda5"), 4096))
CONFIRMED = [Found("edgeseal_7.efi", Entry(7), RUNNING.root_hash)]


class Machine:
    """Disks with partitions, and a verity device that is mounted at /."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        (directory / "block/254:0/slaves").mkdir(parents=True)
        (directory / "mountinfo").write_text(
            "22 1 0:2 / / rw - rootfs rootfs rw\n"
            "25 22 254:0 / / ro,relatime shared:1 - erofs /dev/mapper/root ro\n"
            "26 25 0:5 / /dev rw - devtmpfs devtmpfs rw\n"
        )
        (directory / "cmdline").write_text(f"ro roothash={HASH} quiet\n")

    def disk(self, name: str, labels: list[str]) -> None:
        for number, label in enumerate(labels, start=1):
            block = self._directory / name / f"{name}{number}"
            block.mkdir(parents=True)
            (block / "partition").write_text(f"{number}\n")
            (block / "size").write_text(f"{number * 16}\n")
            (block / "uevent").write_text(f"MAJOR=254\nDEVNAME={name}{number}\nPARTNAME={label}\n")

    def root_on(self, *blocks: str) -> None:
        for block in blocks:
            disk = block.rstrip("0123456789")
            (self._directory / "block/254:0/slaves" / block).symlink_to(self._directory / disk / block)

    @property
    def system(self) -> System:
        return System(
            mountinfo=self._directory / "mountinfo",
            command_line=self._directory / "cmdline",
            blocks=self._directory / "block",
            devices=Path("/dev"),
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_slots_of_a_device(machine: Machine) -> None:
    machine.disk("vda", LABELS)
    machine.root_on("vda2", "vda3")
    pair = find_slots(machine.system)
    assert pair.running == SlotPartitions("a", Partition(Path("/dev/vda2"), 16384), Partition(Path("/dev/vda3"), 24576))
    assert pair.inactive == SlotPartitions(
        "b", Partition(Path("/dev/vda4"), 32768), Partition(Path("/dev/vda5"), 40960)
    )


def test_the_same_labels_on_another_disk_are_not_looked_at(machine: Machine) -> None:
    machine.disk("vda", LABELS)
    machine.disk("sdb", LABELS)
    machine.root_on("vda4", "vda5")
    pair = find_slots(machine.system)
    assert (pair.running.name, pair.inactive.name) == ("b", "a")
    assert pair.inactive.data.device == Path("/dev/vda2")


@pytest.mark.parametrize(
    ("labels", "root", "said"),
    [
        (LABELS, [], "the root does not run from a slot, but from nothing"),
        (LABELS, ["vda2"], "the root does not run from a slot, but from root-a"),
        (LABELS, ["vda2", "vda5"], "the root does not run from a slot, but from root-a, root-b-verity"),
        (LABELS, ["vda2", "sdb3"], "slot a lies on 2 disks"),
        (LABELS[:3], ["vda2", "vda3"], "the disk has 0 partitions labelled root-b, not one"),
        ([*LABELS, "root-b-verity"], ["vda2", "vda3"], "the disk has 2 partitions labelled root-b-verity, not one"),
        ([*LABELS, "root-a"], ["vda2", "vda3"], "the disk has 2 partitions labelled root-a, not one"),
    ],
)
def test_a_disk_that_is_not_understood(machine: Machine, labels: list[str], root: list[str], said: str) -> None:
    machine.disk("vda", labels)
    machine.disk("sdb", LABELS)
    machine.root_on(*root)
    with pytest.raises(EdgesealError) as refusal:
        find_slots(machine.system)
    assert str(refusal.value) == said


def test_nothing_is_mounted(machine: Machine) -> None:
    machine.system.mountinfo.write_text("")
    with pytest.raises(EdgesealError, match=r"^nothing is mounted at /$"):
        find_slots(machine.system)


def test_the_root_hash_of_the_command_line(machine: Machine) -> None:
    assert running_root_hash(machine.system) == HASH


@pytest.mark.parametrize("line", ["", f"roothash={HASH} roothash={HASH}", "roothash=12"])
def test_a_command_line_without_one_root_hash(machine: Machine, line: str) -> None:
    machine.system.command_line.write_text(line)
    with pytest.raises(EdgesealError, match=r"^the kernel command line does not name one root hash$"):
        running_root_hash(machine.system)


def test_a_release_that_may_be_staged() -> None:
    check_stage(RELEASE, RUNNING, INACTIVE, CONFIRMED)


ROWS: list[tuple[dict[str, Any], dict[str, Any], list[Found], str]] = [
    (
        {"root_hash": RUNNING.root_hash},
        {},
        CONFIRMED,
        "version 8 has the root that runs: a second copy of it would be mistaken for the first",
    ),
    ({}, {"slot": "b"}, CONFIRMED, "slot b is the one that runs"),
    ({"size": 12288}, {}, CONFIRMED, "the root of version 8 needs 12288 bytes, slot b has 8192 for it"),
    ({"hash_size": 8192}, {}, CONFIRMED, "the hash tree of version 8 needs 8192 bytes, slot b has 4096 for it"),
    (
        {},
        {},
        [Found("edgeseal_7+2-1.efi", Entry(7, 2, 1), RUNNING.root_hash)],
        "version 7 runs on trial: the other slot is still needed",
    ),
    ({}, {}, [], "version 7 runs, and no boot entry of it is on the ESP"),
]


@pytest.mark.parametrize(("root", "running", "found", "said"), ROWS)
def test_a_release_that_may_not_be_staged(
    root: dict[str, Any], running: dict[str, Any], found: list[Found], said: str
) -> None:
    release = msgspec.structs.replace(RELEASE, root=msgspec.structs.replace(RELEASE.root, **root))
    state = Running(**{"version": 7, "slot": "a", "root_hash": RUNNING.root_hash, **running})
    with pytest.raises(EdgesealError) as refusal:
        check_stage(release, state, INACTIVE, found)
    assert str(refusal.value) == said
