"""What each compressor costs and gives: on the initrd, and on the root."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import zstandard

from benchmarks.place import Place
from builder.host.toolstree import tools_tree

INITRD_LEVELS = (3, 9, 12, 15, 19)
ROOT_OPTIONS = (
    ("lz4hc", 12, 65536),
    ("zstd", 3, 65536),
    ("zstd", 9, 65536),
    ("zstd", 3, 262144),
    ("zstd", 9, 262144),
    ("zstd", 15, 262144),
    ("zstd", 9, 1048576),
)


@dataclass(frozen=True)
class Compressed:
    """One choice: its name, bytes, seconds to make."""

    choice: str
    size: int
    seconds: float


def compress_initrd(place: Place) -> list[Compressed]:
    """The initrd of the build in `place`, at each level."""
    packed = next((place.cache / "steps/initrd").glob("*/result")).read_bytes()
    archive = zstandard.ZstdDecompressor().decompressobj().decompress(packed)
    found = [Compressed("none", len(archive), 0.0)]
    for level in INITRD_LEVELS:
        begun = time.perf_counter()
        data = zstandard.ZstdCompressor(level=level, threads=2, write_checksum=True).compress(archive)
        found.append(Compressed(f"zstd {level}", len(data), time.perf_counter() - begun))
    return found


def compress_root(place: Place) -> list[Compressed]:
    """The root of the build in `place`, with each option of mkfs.erofs."""
    source = next((place.cache / "steps/root").glob("*/root"))
    tools = tools_tree()
    found = []
    for name, level, extent in ROOT_OPTIONS:
        with TemporaryDirectory(dir=place.root) as directory:
            image = Path(directory, "root.erofs")
            words = [f"-z{name},level={level}", f"-C{extent}", f"--max-extent-bytes={extent}", "-Enoinline_data"]
            begun = time.perf_counter()
            tools.run(
                ["mkfs.erofs", *words, "-x-1", "--all-root", "--quiet", image, source],
                reason="make a root image",
                writable=[Path(directory)],
                binds={source: None},
            )
            seconds = time.perf_counter() - begun
            found.append(Compressed(f"{name} {level}, extents of {extent >> 10} KiB", image.stat().st_size, seconds))
    return found
