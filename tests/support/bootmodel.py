"""A fast model of the boot path: partition table, ESP, systemd-boot's choice, kernel image, slot. No code of ours.

It takes the firmware's view of a disk that a power cut left, and says what would boot. What a signature proves to
firmware is decided by digest here: the known images are the ones that were signed. A slot is right when its bytes are
the known root's; that those lead to the root hash was found out once, when the image became known.

The choice is systemd-boot's (src/boot/boot.c of systemd 257): files *.efi of EFI/Linux that are PE images with an
.osrel section; sorted by: no tries left last, sort key, version downwards, name downwards. An image that firmware
refuses ends the loader: if it has tries, the next power cycle comes around with one less; if not, that is the end.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cmp_to_key

from appliance.core.errors import DecodeError
from builder.signing.pe import pe_sections
from tests.support.fat import SECTOR, FatError, FatVolume, Node
from tests.support.layered_disk import LayeredDisk

ENTRIES = "EFI/Linux"
Disk = bytearray | LayeredDisk
_COUNTER = re.compile(r"\+(\d+)(?:-(\d+))?\.efi$", re.IGNORECASE)
_SLOT_LABELS = ("root-a", "root-a-verity", "root-b", "root-b-verity")
_EROFS_MAGIC = 0xE0F5E1E2


@dataclass(frozen=True)
class KnownImage:
    """A release that was signed. data, hashes: SHA-256 of what its slot holds, over the first *_size bytes."""

    version: int
    uki: str
    data_uuid: bytes
    hash_uuid: bytes
    data_size: int
    hash_size: int
    data: str
    hashes: str


@dataclass(frozen=True)
class Outcome:
    """version: what runs in the end; None when nothing does. stumbled: starts that failed before.

    entries: in the loader's order. why: of an outcome without a version, or of the last stumble.
    """

    version: int | None
    stumbled: int
    entries: tuple[str, ...]
    why: str = ""


@dataclass(frozen=True)
class LoaderEntry:
    """A file that systemd-boot lists. left: None without a counter."""

    name: str
    left: int | None
    done: int
    sort_key: str
    version: str
    digest: str


class BootModel:
    """known: every image that is signed. loader: SHA-256 of EFI/BOOT/BOOTX64.EFI."""

    def __init__(self, known: Iterable[KnownImage], *, loader: str) -> None:
        self._known = {image.uki: image for image in known}
        self._loader = loader
        self._tables: dict[bytes, dict[str, tuple[int, int]]] = {}
        self._os_releases: dict[str, tuple[str, str] | None] = {}

    def boot(self, disk: Disk) -> Outcome:
        """Switch it on, again and again while tries are left."""
        try:
            partitions = self.partitions(disk)
            volume = FatVolume(disk, partitions["esp"][0])
            if _digest(volume.disk, volume.extents(volume.find("EFI/BOOT/BOOTX64.EFI"))) != self._loader:
                return Outcome(None, 0, (), "firmware refuses the boot loader")
            entries = self._entries(volume)
        except FatError as error:
            return Outcome(None, 0, (), f"the ESP cannot be read: {error}")
        return self._start(disk, partitions, entries)

    def partitions(self, disk: Disk) -> dict[str, tuple[int, int]]:
        """label -> (offset, size), from the primary table, as the kernel reads it without `gpt`."""
        head = bytes(disk[SECTOR : 34 * SECTOR])
        if head not in self._tables:
            self._tables[head] = _read_table(head)
        return self._tables[head]

    def _entries(self, volume: FatVolume) -> list[LoaderEntry]:
        found = (self._entry(volume, node) for node in volume.list(volume.find(ENTRIES)))
        return sorted((entry for entry in found if entry is not None), key=cmp_to_key(compare_entries))

    def _entry(self, volume: FatVolume, node: Node) -> LoaderEntry | None:
        name = node.name.lower()
        if node.is_directory or not name.endswith(".efi") or name.startswith("auto-"):
            return None
        try:
            extents = volume.extents(node)
            if not extents or bytes(volume.disk[extents[0][0] : extents[0][0] + 2]) != b"MZ":
                return None  # no need to look at the rest
            digest = _digest(volume.disk, extents)
            if digest not in self._os_releases:
                self._os_releases[digest] = _os_release(volume.read(node))
        except FatError:
            return None
        release = self._os_releases[digest]
        if release is None:
            return None
        match = _COUNTER.search(name)
        left, done = (int(match[1]), int(match[2] or 0)) if match else (None, 0)
        return LoaderEntry(name, left, done, *release, digest)

    def _start(self, disk: Disk, partitions: dict[str, tuple[int, int]], entries: Sequence[LoaderEntry]) -> Outcome:
        names, stumbled, why = tuple(entry.name for entry in entries), 0, "there is no boot entry"
        for entry in entries:
            image = self._known.get(entry.digest)
            fault = "firmware refuses it" if image is None else _slot_fault(disk, partitions, image)
            if image is not None and fault is None:
                return Outcome(image.version, stumbled, names, why if stumbled else "")
            why = f"{entry.name}: {fault}"
            if entry.left is None or entry.left == 0:
                return Outcome(None, stumbled, names, why)
            stumbled += entry.left
        return Outcome(None, stumbled, names, why)


def compare_entries(a: LoaderEntry, b: LoaderEntry) -> int:
    """boot_entry_compare()."""
    return (
        _compare(a.left == 0, b.left == 0)
        or _compare(a.sort_key, b.sort_key)
        or -compare_versions(a.version, b.version)
        or -compare_versions(a.name, b.name)
        or (0 if a.left is None or b.left is None else -_compare(a.left, b.left) or _compare(a.done, b.done))
    )


def compare_versions(a: str, b: str) -> int:
    """strverscmp_improved()."""
    while True:
        a, b = _IGNORED.sub("", a), _IGNORED.sub("", b)
        for mark in "~-^.":
            if mark == "-" and not (a and b):
                return _compare(a, b)
            if a[:1] == mark or b[:1] == mark:
                if a[:1] != b[:1]:
                    return _compare(a[:1] != mark, b[:1] != mark)
                a, b = a[1:], b[1:]
        digits = a[:1].isdigit() or b[:1].isdigit()
        left, right = (_RUN[digits].match(text)[0] for text in (a, b))  # type: ignore[index]
        a, b = a[len(left) :], b[len(right) :]
        order = _compare(int(left or -1), int(right or -1)) if digits else _compare(left, right)
        if order:
            return order


_IGNORED = re.compile(r"^[^A-Za-z0-9~^.-]+")
_RUN = {True: re.compile(r"[0-9]*"), False: re.compile(r"[A-Za-z]*")}


def _compare(a: object, b: object) -> int:
    return int(a > b) - int(a < b)  # type: ignore[operator]


def _os_release(data: bytes) -> tuple[str, str] | None:
    """(sort key, version) of an image that the loader lists."""
    try:
        sections = pe_sections(data)
    except DecodeError:
        return None
    if ".osrel" not in sections:
        return None
    fields = dict(
        line.split("=", 1) for line in sections[".osrel"].rstrip(b"\0").decode("latin-1").splitlines() if "=" in line
    )
    fields = {name: value.strip('"') for name, value in fields.items()}
    return (
        fields.get("IMAGE_ID") or fields.get("ID", ""),
        fields.get("IMAGE_VERSION") or fields.get("VERSION_ID", ""),
    )


def _slot_fault(disk: Disk, partitions: dict[str, tuple[int, int]], image: KnownImage) -> str | None:
    """Both partitions are found by the UUID in their superblocks; two with the same one are one too many."""
    places = [partitions[label][0] for label in _SLOT_LABELS]
    data = [at for at in places if _erofs_uuid(disk, at) == image.data_uuid]
    hashes = [at for at in places if _verity_uuid(disk, at) == image.hash_uuid]
    if len(data) != 1 or len(hashes) != 1:
        return f"{len(data)} partitions hold its root, {len(hashes)} its hash tree"
    if _digest(disk, [(data[0], image.data_size)]) != image.data:
        return "a block of its root is not the one that the root hash names"
    if _digest(disk, [(hashes[0], image.hash_size)]) != image.hashes:
        return "its hash tree does not lead to the root hash"
    return None


def _digest(disk: Disk, extents: Sequence[tuple[int, int]]) -> str:
    """extents: (offset, size) of each piece."""
    if isinstance(disk, LayeredDisk):
        return disk.digest(extents)
    digest = hashlib.sha256()
    with memoryview(disk) as view:
        for at, size in extents:
            digest.update(view[at : at + size])
    return digest.hexdigest()


def _erofs_uuid(disk: Disk, at: int) -> bytes:
    block = bytes(disk[at + 1024 : at + 1024 + 64])
    return block[48:] if struct.unpack_from("<I", block) == (_EROFS_MAGIC,) else b""


def _verity_uuid(disk: Disk, at: int) -> bytes:
    return bytes(disk[at + 16 : at + 32]) if bytes(disk[at : at + 8]) == b"verity\0\0" else b""


def _read_table(head: bytes) -> dict[str, tuple[int, int]]:
    """head: sectors 1 to 33. Raises FatError: a disk without a table boots as little as one without a FAT."""
    length, crc = struct.unpack_from("<II", head, 12)
    entries_at, count, size, entries_crc = struct.unpack_from("<QIII", head, 72)
    if head[:8] != b"EFI PART" or zlib.crc32(head[:16] + bytes(4) + head[20:length]) != crc:
        raise FatError("the partition table is damaged")
    table = head[(entries_at - 1) * SECTOR :][: count * size]
    if zlib.crc32(table) != entries_crc:
        raise FatError("the partition table is damaged")
    found = {}
    for at in range(0, len(table), size):
        kind, first, last = table[at : at + 16], *struct.unpack_from("<QQ", table, at + 32)
        if kind != bytes(16):
            label = table[at + 56 : at + 128].decode("utf-16-le").split("\0", 1)[0]
            found[label] = (first * SECTOR, (last - first + 1) * SECTOR)
    return found
