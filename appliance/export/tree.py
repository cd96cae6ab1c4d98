"""Files below a directory of which nothing is trusted: part by part, no link is followed, nothing unbounded is read."""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.core.errors import EdgesealError

MAX_NAMES = 1 << 18
"""Files of a log: one of 30 million entries has fewer, and they fit in the memory that the unit has."""
MAX_DEPTH = 10
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC  # a pipe must not hold us up
_CHUNK = 1 << 20


class Tree:
    """A directory. called: begins every message. Paths are relative, with `/` between parts."""

    def __init__(self, base: Path, called: str) -> None:
        self._base = base
        self._called = called

    def read(self, path: str, at_most: int) -> bytes | None:
        """A whole regular file; None when there is none. Raises EdgesealError."""
        with self._told(path):
            try:
                descriptor = self._open(path, _FILE)
            except FileNotFoundError:
                return None
            with os.fdopen(descriptor, "rb", buffering=0) as stream:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise self._fault(path, "not a regular file")
                data = bytearray()
                while len(data) <= at_most and (chunk := stream.read(min(_CHUNK, at_most + 1 - len(data)))):
                    data += chunk
        if len(data) > at_most:
            raise self._fault(path, f"more than {at_most} bytes")
        return bytes(data)

    def names(self, path: str = ".") -> list[str]:
        """What is in a directory, sorted; empty when there is none. Raises EdgesealError."""
        return [name for name, _ in self._entries(path)]

    def files(self, path: str) -> list[str]:
        """What is below a directory and is none itself, sorted; paths from the base. Raises EdgesealError."""
        found: list[str] = []
        waiting = [path]
        while waiting:
            at = waiting.pop()
            for name, is_directory in self._entries(at):
                (waiting if is_directory else found).append(f"{at}/{name}")
            if len(found) > MAX_NAMES or at.count("/") - path.count("/") > MAX_DEPTH:
                raise self._fault(path, "too many files, or too deep")
        return sorted(found)

    def _entries(self, path: str) -> list[tuple[str, bool]]:
        """(name, whether it is a directory), sorted."""
        with self._told(path):
            try:
                descriptor = self._open(path, DIRECTORY)
            except FileNotFoundError:
                return []
            try:
                with os.scandir(descriptor) as found:
                    some = itertools.islice(found, MAX_NAMES + 1)
                    entries = [(item.name, item.is_dir(follow_symlinks=False)) for item in some]
            finally:
                os.close(descriptor)
        if len(entries) > MAX_NAMES:
            raise self._fault(path, f"more than {MAX_NAMES} names")
        return sorted(entries)

    def _open(self, path: str, flags: int) -> int:
        """Raises OSError."""
        *parents, last = path.split("/")
        at = os.open(self._base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in parents:
                below = os.open(part, DIRECTORY, dir_fd=at)
                os.close(at)
                at = below
            return os.open(last, flags, dir_fd=at)
        finally:
            os.close(at)

    @contextmanager
    def _told(self, path: str) -> Iterator[None]:
        """An OSError becomes an EdgesealError that names the file."""
        try:
            yield
        except OSError as error:
            raise self._fault(path, _reason(error)) from error

    def _fault(self, path: str, reason: str) -> EdgesealError:
        return EdgesealError(f"{self._called}: {path}: {reason}")


def _reason(error: OSError) -> str:
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return "a link, or a file in the place of a directory"
    if error.errno in (errno.ENXIO, errno.EISDIR):
        return "not a regular file"
    return (error.strerror or str(error)).lower()
