"""Which slot runs, which one may be written, and whether it may be now. Found in /proc and /sys; nothing is opened."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from appliance.core.errors import EdgesealError
from appliance.formats.release import Release
from appliance.formats.update_state import SlotName
from appliance.update.entries import Found, Running, removable

SECTOR = 512
"""Unit of /sys/class/block/*/size, whatever the disk's own is."""

_SLOTS: tuple[SlotName, ...] = get_args(SlotName)
_ROOT_HASH = re.compile(r"roothash=([0-9a-f]{64})")


@dataclass(frozen=True)
class Partition:
    """device: its node. size: bytes."""

    device: Path
    size: int


@dataclass(frozen=True)
class SlotPartitions:
    """The two partitions of a slot."""

    name: SlotName
    data: Partition
    hashes: Partition


@dataclass(frozen=True)
class SlotPair:
    """The slot that runs and the one that an update may write; both on one disk."""

    running: SlotPartitions
    inactive: SlotPartitions


@dataclass(frozen=True)
class System:
    """Where the kernel tells about itself; a test has its own."""

    mountinfo: Path = Path("/proc/self/mountinfo")
    command_line: Path = Path("/proc/cmdline")
    blocks: Path = Path("/sys/dev/block")
    devices: Path = Path("/dev")


def find_slots(system: System) -> SlotPair:
    """Raises EdgesealError unless the root is a verity device over one slot, whose disk has each label exactly once."""
    under = _under_root(system)
    labels = sorted(_label(block) for block in under)
    running = next((slot for slot in _SLOTS if labels == sorted(_labels_of(slot))), None)
    if running is None:
        raise EdgesealError(f"the root does not run from a slot, but from {', '.join(labels) or 'nothing'}")
    disks = {block.parent for block in under}
    if len(disks) != 1:
        raise EdgesealError(f"slot {running} lies on {len(disks)} disks")
    partitions = _partitions(disks.pop(), system.devices)
    other = next(slot for slot in _SLOTS if slot != running)
    return SlotPair(_slot(running, partitions), _slot(other, partitions))


def running_root_hash(system: System) -> str:
    """As the signed command line names it. Raises EdgesealError when it is not there exactly once."""
    words = [word for word in system.command_line.read_text().split() if word.startswith("roothash=")]
    match = _ROOT_HASH.fullmatch(words[0]) if len(words) == 1 else None
    if match is None:
        raise EdgesealError("the kernel command line does not name one root hash")
    return match[1]


def check_stage(release: Release, running: Running, inactive: SlotPartitions, found: Iterable[Found]) -> None:
    """Whether the inactive slot may be written with `release` now. Raises EdgesealError that says why not."""
    if release.root.root_hash == running.root_hash:
        raise EdgesealError(
            f"version {release.version} has the root that runs: a second copy of it would be mistaken for the first"
        )
    if inactive.name == running.slot:
        raise EdgesealError(f"slot {inactive.name} is the one that runs")
    for what, need, partition in (
        ("root", release.root.size, inactive.data),
        ("hash tree", release.root.hash_size, inactive.hashes),
    ):
        if need > partition.size:
            raise EdgesealError(
                f"the {what} of version {release.version} needs {need} bytes, "
                f"slot {inactive.name} has {partition.size} for it"
            )
    removable(found, running)


def _under_root(system: System) -> list[Path]:
    """The partitions under the device that is mounted at /, as directories of sysfs."""
    number = _mounted_at_root(system.mountinfo.read_text())
    slaves = system.blocks / number / "slaves"
    return sorted(path.resolve() for path in slaves.iterdir()) if slaves.is_dir() else []


def _mounted_at_root(mountinfo: str) -> str:
    """major:minor. The last line counts: a later mount covers an earlier one."""
    numbers = [fields[2] for fields in map(str.split, mountinfo.splitlines()) if len(fields) > 4 and fields[4] == "/"]
    if not numbers:
        raise EdgesealError("nothing is mounted at /")
    return numbers[-1]


def _partitions(disk: Path, devices: Path) -> dict[str, list[Partition]]:
    """By label. disk: its directory of sysfs, which holds one directory for each partition."""
    found: dict[str, list[Partition]] = {}
    for block in sorted(path.parent for path in disk.glob("*/partition")):
        size = int((block / "size").read_text()) * SECTOR
        found.setdefault(_label(block), []).append(Partition(devices / block.name, size))
    return found


def _slot(name: SlotName, partitions: dict[str, list[Partition]]) -> SlotPartitions:
    parts = []
    for label in _labels_of(name):
        found = partitions.get(label, [])
        if len(found) != 1:
            raise EdgesealError(f"the disk has {len(found)} partitions labelled {label}, not one")
        parts.append(found[0])
    return SlotPartitions(name, *parts)


def _labels_of(slot: SlotName) -> tuple[str, str]:
    return f"root-{slot}", f"root-{slot}-verity"


def _label(block: Path) -> str:
    for line in (block / "uevent").read_text().splitlines():
        if line.startswith("PARTNAME="):
            return line.removeprefix("PARTNAME=")
    return ""
