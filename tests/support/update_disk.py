"""A device's disk in small: the real partition table, file systems and hash trees, with kernel images of a few pages.

systemd-repart, mkfs.vfat, mkfs.erofs and veritysetup of the tools tree make it, with the builder's own definitions.
"""

from __future__ import annotations

import hashlib
import random
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import msgspec

from appliance.formats.release import Content
from appliance.update.entries import Running
from appliance.update.ranges import ByteRange
from builder.disk.compose import LOADER_SETTINGS
from builder.disk.layout import definitions
from builder.host.sandbox import Sandbox
from builder.image.seal import VerityImage
from builder.profile.load import load_profile
from builder.review.verity import check_tree, compute_tree
from tests.support.bootmodel import KnownImage
from tests.support.pe import tiny_pe

SALT = "5a" * 32
_LOADER = random.Random(0).randbytes(3000)
LOADER_DIGEST = hashlib.sha256(_LOADER).hexdigest()


@dataclass(frozen=True)
class TinyRelease:
    """One version: a root, its hash tree, and a kernel image that names them."""

    version: int
    root_hash: str
    data: bytes
    hashes: bytes
    uki: bytes
    known: KnownImage
    image: VerityImage

    @property
    def content(self) -> Content:
        """How a release manifest names the kernel image."""
        return Content(sha256=self.known.uki, size=len(self.uki))

    def running(self, slot: str) -> Running:
        """What the device says of itself when this runs."""
        return Running(self.version, slot, self.root_hash)  # type: ignore[arg-type]


class Served:
    """A ContentSource that has the kernel images."""

    def __init__(self, *releases: TinyRelease) -> None:
        self._files = {release.known.uki: release.uki for release in releases}

    def read(self, content: Content, ranges: Sequence[ByteRange]) -> Iterator[bytes]:
        """See ContentSource."""
        data = self._files[content.sha256]
        return (data[item.offset : item.offset + item.length] for item in ranges)


def make_release(version: int, directory: Path, tools: Sandbox, *, root_bytes: int, uki_bytes: int) -> TinyRelease:
    """The bytes depend on the arguments alone."""
    place = directory / f"v{version}"
    tree = place / "tree"
    tree.mkdir(parents=True)
    (tree / "content").write_bytes(random.Random(version).randbytes(root_bytes))
    data, hashes = place / "root.erofs", place / "root.verity"
    uuids = [UUID(int=version << 8 | number) for number in (1, 2)]
    tools.run(
        ["mkfs.erofs", "--quiet", f"-U{uuids[0]}", f"-T{tools.epoch}", "--all-root", data, tree],
        reason="make a small root",
        writable=[place],
    )
    words = ["veritysetup", "format", data, hashes, f"--salt={SALT}", f"--uuid={uuids[1]}", "--hash=sha256"]
    said = tools.run(words, reason="make its hash tree", writable=[place]).decode()
    found = re.search(r"^Root hash:\s+([0-9a-f]{64})$", said, re.MULTILINE)
    assert found is not None, said
    tree_again = compute_tree(data, salt=bytes.fromhex(SALT), uuid=str(uuids[1]))
    check_tree(hashes, tree_again)
    assert tree_again.root_hash == found[1]
    image = VerityImage(data, hashes, found[1], SALT, data.stat().st_size, hashes.stat().st_size, *uuids)
    uki = make_uki(version, found[1], *uuids, size=uki_bytes)
    known = KnownImage(
        version=version,
        uki=hashlib.sha256(uki).hexdigest(),
        data_uuid=uuids[0].bytes,
        hash_uuid=uuids[1].bytes,
        data_size=image.data_size,
        hash_size=image.hash_size,
        data=hashlib.sha256(data.read_bytes()).hexdigest(),
        hashes=hashlib.sha256(hashes.read_bytes()).hexdigest(),
    )
    return TinyRelease(version, found[1], data.read_bytes(), hashes.read_bytes(), uki, known, image)


def make_uki(version: int, root_hash: str, data_uuid: UUID, hash_uuid: UUID, *, size: int) -> bytes:
    """A kernel image without a kernel: the sections that are read, and filling. size: about, in bytes."""
    words = (
        f"roothash={root_hash} systemd.verity_root_data=UUID={data_uuid} systemd.verity_root_hash=UUID={hash_uuid} ro"
    )
    return tiny_pe(
        {
            ".osrel": f'ID=debian\nIMAGE_ID=edgeseal\nIMAGE_VERSION="{version}"\n'.encode(),
            ".cmdline": words.encode(),
            ".linux": random.Random(-version).randbytes(size),
        }
    )


def make_disk(first: TinyRelease, directory: Path, tools: Sandbox) -> bytes:
    """A device that runs `first`, confirmed, from slot a. 34 MiB of ESP, so that it has the FAT of a real one."""
    profile = load_profile("virtual-x86_64")
    small = msgspec.structs.replace(profile.disk, esp=34, root_slot=1, verity_slot=1)
    profile = msgspec.structs.replace(profile, disk=small)
    esp, disk = directory / "esp", directory / "disk.raw"
    shutil.rmtree(esp, ignore_errors=True)
    for name, data in (
        ("EFI/BOOT/BOOTX64.EFI", _LOADER),
        (f"EFI/Linux/edgeseal_{first.version}.efi", first.uki),
        ("loader/loader.conf", LOADER_SETTINGS),
    ):
        (esp / name).parent.mkdir(parents=True, exist_ok=True)
        (esp / name).write_bytes(data)
    place = directory / "definitions"
    place.mkdir()
    for file, text in definitions(profile, first.image, esp_source=esp).items():
        (place / file).write_text(text)
    words = ["systemd-repart", "--empty=create", "--size=40M", "--offline=yes", "--sector-size=512", "--no-pager"]
    words += [f"--seed={UUID(int=1)}", f"--definitions={place}", "--dry-run=no", str(disk)]
    tools.run(words, reason="write the disk image", writable=[directory])
    return disk.read_bytes()
