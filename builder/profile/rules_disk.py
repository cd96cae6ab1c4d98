"""Rules about sizes: what is promised fits on the disk."""

from __future__ import annotations

from collections.abc import Iterator

from builder.profile.problem import Finding
from builder.profile.rules import Rule, finding
from builder.profile.types import MIB, Profile

PARTITION_TABLES_MIB = 2
"""The first and the last MiB of a disk: the two copies of the partition table, and alignment."""

# The running kernel, the one it falls back to, and the one being written. arm64's kernel image is not compressed.
_ESP_MINIMUM = {"x86_64": 80, "arm64": 160}
_BLOCK, _DIGEST = 4096, 32
_SPOOL_LOG_BYTES = 16 << 20
_FILESYSTEM_MIB = 32  # LUKS2 header, file system and what its journal keeps
_LEVELS = {"zstd": 22, "lz4hc": 12}


def hash_tree_bytes(data: int) -> int:
    """Bytes of the dm-verity superblock and hash tree over `data` bytes, a multiple of 4096."""
    total, blocks = _BLOCK, data // _BLOCK
    while blocks > 1:
        blocks = -(-blocks * _DIGEST // _BLOCK)
        total += blocks * _BLOCK
    return total


def data_mib(profile: Profile) -> int:
    """What is left for the data partition; negative when the disk is too small."""
    disk = profile.disk
    return disk.total - PARTITION_TABLES_MIB - disk.esp - 2 * (disk.root_slot + disk.verity_slot)


def partitions_fit_the_disk(profile: Profile) -> Iterator[Finding]:
    """The least data partition included."""
    disk = profile.disk
    needed = disk.total - data_mib(profile) + disk.data_minimum
    if needed > disk.total:
        yield finding(
            ("disk", "total"),
            f"{disk.total} MiB, but the partitions need {needed} MiB: {PARTITION_TABLES_MIB} for partition tables "
            f"+ esp {disk.esp} + 2 x root_slot {disk.root_slot} + 2 x verity_slot {disk.verity_slot} + data_minimum "
            f"{disk.data_minimum}",
            f"raise disk.total to {needed} or more, or shrink a partition",
        )


def esp_holds_three_kernels(profile: Profile) -> Iterator[Finding]:
    """Else an update could not be written beside the kernels that must stay."""
    least = _ESP_MINIMUM[profile.architecture]
    if profile.disk.esp < least:
        message = f"{profile.disk.esp} MiB, three {profile.architecture} kernels need {least}"
        yield finding(("disk", "esp"), message, f"write `esp: {least}` or more")


def hash_slot_holds_the_tree(profile: Profile) -> Iterator[Finding]:
    """The hash tree of a root that fills its slot."""
    needed = -(-hash_tree_bytes(profile.disk.root_slot * MIB) // MIB)
    if profile.disk.verity_slot < needed:
        message = f"{profile.disk.verity_slot} MiB, the hash tree of {profile.disk.root_slot} MiB needs {needed}"
        yield finding(("disk", "verity_slot"), message, f"write `verity_slot: {needed}` or more")


def budgets_fit_the_data_partition(profile: Profile) -> Iterator[Finding]:
    """Lanes and audit log are promises: a full disk must not be how a device learns of it.

    A damaged spool is kept once beside the new one, and its log file may grow while it is written.
    """
    left = data_mib(profile)
    if left < profile.disk.data_minimum:
        return  # said by partitions_fit_the_disk
    spools = 2 * profile.uplink.spool_bytes + _SPOOL_LOG_BYTES
    budget = -(-(spools + profile.audit.log_bytes) // MIB) + _FILESYSTEM_MIB
    if budget > left:
        yield finding(
            ("uplink", "data", "bytes"),
            f"a spool, one put aside and the audit log need {budget} MiB with the file system, {left} MiB are left",
            "lower uplink.data.bytes or audit.log_bytes, or raise disk.total",
        )


def seal_can_be_made(profile: Profile) -> Iterator[Finding]:
    """What mkfs.erofs accepts."""
    seal = profile.seal
    if seal.level > _LEVELS[seal.compressor]:
        message = f"{seal.level}, {seal.compressor} has {_LEVELS[seal.compressor]} at most"
        yield finding(("seal", "level"), message, f"write `level: {_LEVELS[seal.compressor]}`")
    if seal.extent_bytes & (seal.extent_bytes - 1):
        below = 1 << (seal.extent_bytes.bit_length() - 1)
        yield finding(
            ("seal", "extent_bytes"), f"{seal.extent_bytes} is not a power of two", f"write {below} or {2 * below}"
        )


RULES: tuple[Rule, ...] = (
    partitions_fit_the_disk,
    esp_holds_three_kernels,
    hash_slot_holds_the_tree,
    budgets_fit_the_data_partition,
    seal_can_be_made,
)
