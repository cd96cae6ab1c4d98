"""A stopped machine's disk, edited from outside: what an attacker with a screwdriver, or an update, would do."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from builder.host.run import run
from builder.host.sandbox import Sandbox
from builder.review.manifest import Manifest

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Slice:
    """Where a partition lies, in bytes. number: from 1."""

    number: int
    offset: int
    size: int


class DiskEditor:
    """A raw disk image that no machine is using."""

    def __init__(self, path: Path, tree: Sandbox) -> None:
        self.path = path
        self._tree = tree

    def partition(self, label: str) -> Slice:
        """The partition with that GPT label."""
        table = json.loads(self._run(["sfdisk", "--json", self.path], "read the partition table"))["partitiontable"]
        for item in table["partitions"]:
            if item.get("name") == label:
                number = int(item["node"].removeprefix(str(self.path)))
                return Slice(number, item["start"] * table["sectorsize"], item["size"] * table["sectorsize"])
        raise AssertionError(f"no partition {label} on {self.path.name}")

    def flip_bit(self, label: str, offset: int, bit: int = 0) -> None:
        """Invert one bit. offset: bytes from the start of the partition."""
        place = self.partition(label).offset + offset
        with self.path.open("r+b") as disk:
            disk.seek(place)
            old = disk.read(1)[0]
            disk.seek(place)
            disk.write(bytes([old ^ 1 << bit]))

    def stage(self, build: Path, manifest: Manifest, *, tries: int) -> None:
        """Put a version into slot b and its kernel on trial, as the update service will."""
        for label, file in (("root-b", "root.erofs"), ("root-b-verity", "root.verity")):
            self._write(build / file, self.partition(label).offset)
        self.put_on_esp((build / "uki.efi").read_bytes(), f"EFI/Linux/edgeseal_{manifest.version}+{tries}-0.efi")

    def put_on_esp(self, data: bytes, name: str) -> None:
        """Write a file of the EFI system partition. name: its path there."""
        place = self.path.with_suffix(".esp")
        place.write_bytes(data)
        self._run(["mcopy", "-o", "-i", self._esp(), place, f"::/{name}"], "write to the ESP")
        place.unlink()

    def read_from_esp(self, name: str) -> bytes:
        """Read a file of the EFI system partition."""
        place = self.path.with_suffix(".esp")
        self._run(["mcopy", "-n", "-i", self._esp(), f"::/{name}", place], "read from the ESP")
        data = place.read_bytes()
        place.unlink()
        return data

    def esp_names(self, directory: str) -> list[str]:
        """Names of the files in a directory of the EFI system partition."""
        said = self._run(["mdir", "-b", "-i", self._esp(), f"::/{directory}"], "list the ESP").decode()
        return sorted(line.rsplit("/", 1)[1] for line in said.split() if not line.endswith("/"))

    def remove_from_esp(self, name: str) -> None:
        """Remove a file of the EFI system partition."""
        self._run(["mdel", "-i", self._esp(), f"::/{name}"], "remove from the ESP")

    def _esp(self) -> str:
        return f"{self.path}@@{self.partition('esp').offset}"

    def _write(self, source: Path, offset: int) -> None:
        with source.open("rb") as data, self.path.open("r+b") as disk:
            disk.seek(offset)
            shutil.copyfileobj(data, disk, _CHUNK)

    def _run(self, words: list[str | Path], reason: str) -> bytes:
        return self._tree.run(words, reason=reason, writable=[self.path.parent], environment={"MTOOLS_SKIP_CHECK": "1"})


def copy_sparse(source: Path, target: Path) -> Path:
    """A copy of a disk image that takes no more room than the original."""
    run(["cp", "--sparse=always", "--reflink=auto", source, target], reason="copy a disk image")
    return target
