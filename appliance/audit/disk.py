"""The only way from the log's store to the file system: few operations, so that a test can cut the power at each."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from appliance.core.durable import fsync_directory

FILE_MODE, DIRECTORY_MODE = 0o600, 0o700
BLOCK = 4096


def charge(size: int) -> int:
    """What a file of `size` bytes takes on the disk: whole blocks."""
    return -(-size // BLOCK) * BLOCK


class Disk:
    """Every method raises OSError. Nothing is durable before its file and its directory are synced."""

    def __init__(self) -> None:
        self._open: dict[Path, int] = {}

    def read(self, path: Path) -> bytes | None:
        """None when there is no such file."""
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None

    def sizes(self, directory: Path) -> dict[str, int]:
        """Bytes of each file in it, by name; empty when there is no such directory."""
        try:
            with os.scandir(directory) as found:
                return {item.name: item.stat().st_size for item in found if item.is_file(follow_symlinks=False)}
        except FileNotFoundError:
            return {}

    def is_directory(self, path: Path) -> bool:
        """There is one."""
        return path.is_dir()

    def size(self, path: Path) -> int | None:
        """None when there is no such file."""
        try:
            return path.stat().st_size
        except FileNotFoundError:
            return None

    def write_synced(self, path: Path, data: bytes) -> None:
        """A new file of this content, durable; its name is durable with the directory.

        Never the old file anew: after a power cut it may be the one that stands under another name as well.
        """
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        try:
            _write_all(descriptor, data, 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def write_at(self, path: Path, offset: int, data: bytes) -> None:
        """Change part of a file that is there; sync_data makes it durable. The file stays open."""
        if path not in self._open:
            self._open[path] = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        _write_all(self._open[path], data, offset)

    def sync_data(self, path: Path) -> None:
        """What write_at wrote is durable."""
        os.fdatasync(self._open[path])

    def rename(self, old: Path, new: Path) -> None:
        """Both in one file system; what was at `new` is gone."""
        self._close(new)
        old.rename(new)

    def remove(self, path: Path) -> None:
        """Gone already is fine."""
        path.unlink(missing_ok=True)

    def make_directory(self, path: Path) -> None:
        """There already is fine."""
        path.mkdir(mode=DIRECTORY_MODE, exist_ok=True)

    def remove_directory(self, path: Path) -> None:
        """Gone already, or not empty, is fine."""
        with contextlib.suppress(OSError):
            path.rmdir()

    def sync_directory(self, path: Path) -> None:
        """Names in it are durable."""
        fsync_directory(path)

    def close(self) -> None:
        """Close what write_at opened."""
        for path in list(self._open):
            self._close(path)

    def _close(self, path: Path) -> None:
        if path in self._open:
            os.close(self._open.pop(path))


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
