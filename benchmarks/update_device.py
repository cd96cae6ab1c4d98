"""The device's side of an update, in a process of its own, so that its memory can be measured.

Usage: python -m benchmarks.update_device DIRECTORY   with release.json, content/, run.data, run.hashes, in.data and
in.hashes in it. Prints JSON.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from appliance.formats.release import Content, decode_release
from appliance.update.area import open_slot
from appliance.update.ranges import ByteRange
from appliance.update.staging import stage


class Directory:
    """Content files."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, content: Content, ranges: Sequence[ByteRange]) -> Iterator[bytes]:
        """As `ContentSource.read`."""
        with (self._path / content.path).open("rb") as stream:
            for item in ranges:
                stream.seek(item.offset)
                yield stream.read(item.length)


def main(where: Path) -> None:
    """Stage what is there."""
    release = decode_release((where / "release.json").read_bytes())
    begun = time.perf_counter()
    with (
        open_slot(where / "run.data", where / "run.hashes", writable=False) as running,
        open_slot(where / "in.data", where / "in.hashes", writable=True) as inactive,
    ):
        staged = stage(release, inactive, running, Directory(where), progress=lambda _: None, should_stop=lambda: False)
    seconds = time.perf_counter() - begun
    # Not getrusage: its peak includes that of the process that this one was forked from.
    match = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert match is not None
    counts = {name: getattr(staged, name) for name in ("kept", "copied", "fetched", "ranges")}
    print(json.dumps({"bytes": staged.bytes_fetched, "peak": int(match[1]) << 10, "seconds": seconds, **counts}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
