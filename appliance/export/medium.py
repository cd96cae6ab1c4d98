"""The medium that the log is copied to: whole files only, durable, and the old one stays until the new one is there.

It is vfat, which has no journal. The mount's `dirsync` writes a renamed file's new entry, blocks included, before the
old one goes and before what it replaces is given free. So a cut within a rename leaves two names of one content at
worst. Deleting one of them later would take it from the other: what a cut has left under a temporary name is never
deleted, and its name not used again.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from appliance.core.errors import EdgesealError
from appliance.export.tree import DIRECTORY, Tree

_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_LEFT = 1000
"""Cut exports that a medium survives; after that somebody should look at it."""


class Medium(Tree):
    """written: bytes of the files that were not there already."""

    written = 0

    def __init__(self, base: Path, top: str) -> None:
        """top: the one directory in which anything is written."""
        super().__init__(base, "medium")
        self._top = top
        self._new = ""  # the temporary name, in `top`
        self._changed: dict[str, None] = {}

    def begin(self) -> None:
        """Make the directory and find a temporary name. Raises EdgesealError."""
        self._make(self._top)
        taken = set(self.names(self._top))
        free = [name for number in range(_MAX_LEFT) if (name := f".new-{number}") not in taken]
        if not free:
            raise EdgesealError(f"medium: {self._top}: {_MAX_LEFT} exports were cut off", hint="format it")
        self._new = free[0]

    def put(self, path: str, data: bytes) -> None:
        """Make this the content of a file below `top`; one that has it already stays as it is. Raises EdgesealError."""
        if self._has(path, data):
            return
        parent = path.rpartition("/")[0]
        self._make(parent)
        with self._told(path):
            self._write_synced(data)
            old, new = self._open(self._top, DIRECTORY), self._open(parent, DIRECTORY)
            try:
                os.rename(self._new, path.rpartition("/")[2], src_dir_fd=old, dst_dir_fd=new)
            finally:
                os.close(old)
                os.close(new)
        self._changed[parent] = None
        self.written += len(data)

    def sync(self) -> None:
        """All names so far are durable. Raises EdgesealError."""
        for path in sorted(self._changed, reverse=True):  # what is in a directory before the directory
            with self._told(path):
                descriptor = self._open(path, DIRECTORY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        self._changed.clear()

    def _has(self, path: str, data: bytes) -> bool:
        """Raises EdgesealError when something else than a file is there."""
        with self._told(path):
            try:
                descriptor = self._open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                return False
            found = os.fstat(descriptor)
            os.close(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise self._fault(path, "not a regular file")
        return found.st_size == len(data) and self.read(path, len(data)) == data

    def _write_synced(self, data: bytes) -> None:
        """Under the temporary name. Raises OSError; then the name is free again."""
        top = self._open(self._top, DIRECTORY)
        try:
            descriptor = os.open(self._new, _WRITE, 0o600, dir_fd=top)
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
                os.fsync(descriptor)
            except OSError:
                with contextlib.suppress(OSError):
                    os.unlink(self._new, dir_fd=top)
                raise
            finally:
                os.close(descriptor)
        finally:
            os.close(top)

    def _make(self, path: str) -> None:
        """The directory and those above it."""
        at = "."
        for part in path.split("/"):
            with self._told(f"{at}/{part}".removeprefix("./")):
                descriptor = self._open(at, DIRECTORY)
                try:
                    os.mkdir(part, 0o700, dir_fd=descriptor)
                    self._changed[at] = None
                except FileExistsError:
                    pass
                finally:
                    os.close(descriptor)
            at = part if at == "." else f"{at}/{part}"
