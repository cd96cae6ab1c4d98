"""How many bytes each method of updating has to fetch from one image to the next.

The tools are the machine's: casync, zchunk, zstd. One that is not installed gives None, and the table says "missing".
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import zstandard

_BLOCK = 4096
_SQUASHFS_BLOCK = 65536
_INDEX_ENTRY = 32


@dataclass(frozen=True)
class Method:
    """fetched: bytes for (old, new); None when `tool` is missing."""

    name: str
    tool: str | None
    fetched: Callable[[Path, Path], int]

    def measure(self, old: Path, new: Path) -> int | None:
        """Bytes, or None when the tool is not installed."""
        if self.tool is not None and shutil.which(self.tool) is None:
            return None
        return self.fetched(old, new)


def full(_old: Path, new: Path) -> int:
    """The whole image, as small as zstd makes it."""
    return _packed(new)


@cache
def _packed(new: Path) -> int:
    with TemporaryDirectory() as directory:
        target = Path(directory, "new.zst")
        _run("zstd", "-19", "-T2", "-q", new, "-o", target)
        return target.stat().st_size


def patch(old: Path, new: Path) -> int:
    """A difference to one known version."""
    with TemporaryDirectory() as directory:
        target = Path(directory, "new.zst")
        _run("zstd", "-19", "-T2", "-q", "--long=31", f"--patch-from={old}", new, "-o", target)
        return target.stat().st_size


def casync(old: Path, new: Path) -> int:
    """The new index, and the chunks in it that the old image does not have. Chunks of 64 KiB on average."""
    with TemporaryDirectory() as directory:
        stores = []
        for name, image in (("old", old), ("new", new)):
            store = Path(directory, name)
            _run("casync", "make", f"--store={store}", f"{store}.caibx", image)
            stores.append({path.name: path.stat().st_size for path in store.rglob("*.cacnk")})
        missing = sum(size for name, size in stores[1].items() if name not in stores[0])
        return missing + Path(directory, "new.caibx").stat().st_size


def zchunk(old: Path, new: Path) -> int:
    """As its own zck_delta_size says, header included."""
    with TemporaryDirectory() as directory:
        files = []
        for name, image in (("old", old), ("new", new)):
            files.append(Path(directory, f"{name}.zck"))
            _run("zck", "-o", files[-1], image)
        said = _run("zck_delta_size", *files)
        match = re.search(r"^Would download (\d+) of \d+ bytes", said, re.MULTILINE)
        if match is None:
            raise RuntimeError(f"zck_delta_size said: {said}")
        return int(match[1])


def rauc(old: Path, new: Path) -> int:
    """The block-hash-index of RAUC's manual, computed: `rauc install` would need D-Bus, nbd and slots.

    The whole index (32 bytes for each 4 KiB), and each squashfs block of 64 KiB (`mksquashfs -b 64k -comp zstd`) that
    has a 4 KiB block in it which the old image lacks. A lower bound: no squashfs metadata, no verity of the bundle.
    """
    have = {hashlib.sha256(block).digest() for block in _parts(old, _BLOCK)}
    needed = [
        part
        for part in _parts(new, _SQUASHFS_BLOCK)
        if any(hashlib.sha256(part[at : at + _BLOCK]).digest() not in have for at in range(0, len(part), _BLOCK))
    ]
    with ThreadPoolExecutor(2) as workers:
        frames = sum(workers.map(_squashed, needed))
    return frames + _INDEX_ENTRY * (new.stat().st_size // _BLOCK)


METHODS = (
    Method("full image, zstd -19", "zstd", full),
    Method("zstd -19 --patch-from (one known source)", "zstd", patch),
    Method("casync", "casync", casync),
    Method("zchunk", "zck", zchunk),
    Method("RAUC block-hash-index, -b 64k, computed lower bound", None, rauc),
)


def _squashed(part: bytes) -> int:
    return min(len(part), len(zstandard.ZstdCompressor(level=15).compress(part)))


def _parts(image: Path, size: int) -> Iterator[bytes]:
    with image.open("rb") as stream:
        yield from iter(lambda: stream.read(size), b"")


def _run(*words: str | Path) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout
