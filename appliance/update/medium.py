"""A removable medium as a repository and as a source of content. Spec: docs/specs/bundle.md.

Nothing on it is trusted, its file system included: only regular files of fixed names below one directory are opened, no
link is followed, nothing is read beyond what was asked, and what was read is verified by the same code as online.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from appliance.core.errors import DecodeError
from appliance.formats.bundle import (
    BUNDLE_DIRECTORY,
    BUNDLE_LABEL,
    MAX_BUNDLE_BYTES,
    Bundle,
    RepositoryName,
    decode_bundle,
    path_parts,
)
from appliance.formats.release import Content
from appliance.update.ranges import ByteRange
from appliance.update.transport import NotThereError, TooMuchDataError, TransportError

_CHUNK = 1 << 18
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC  # a pipe must not hold us up
_DAMAGED = "the medium is damaged, or was pulled out: write the bundle to another one"


class TreeRepository:
    """A repository in a directory: a FileSource for its metadata and targets, a ContentSource for its content.

    base: a directory that is trusted to be there, links on the way to it are followed. below: from there to the
    repository, where none is. called: begins every message, as in `medium: vendor`.
    """

    def __init__(self, base: Path, *, below: Sequence[str] = (), called: str) -> None:
        self._base = base
        self._below = tuple(below)
        self._called = called

    def get(self, path: str, *, at_most: int) -> bytes:
        """The whole file. Raises TransportError; NotThereError and TooMuchDataError as FileSource says."""
        name = f"{self._called}/{path}"
        with _opened(self._base, (*self._below, *_parts(path, name)), name) as (descriptor, size):
            if size > at_most:
                raise TooMuchDataError(f"{name}: {size} bytes, at most {at_most} are allowed")
            return _read(descriptor, ByteRange(0, size), name)

    def read(self, content: Content, ranges: Sequence[ByteRange]) -> Iterator[bytes]:
        """The bytes of each range, in the order asked, each exactly as long as asked; unchecked otherwise.

        Raises TransportError.
        """
        name = f"{self._called}/{content.path}"
        with _opened(self._base, (*self._below, *_parts(content.path, name)), name) as (descriptor, size):
            if size != content.size:
                raise TransportError(f"{name}: {size} bytes instead of {content.size}", hint=_DAMAGED)
            for wanted in ranges:
                yield _read(descriptor, wanted, name)


class MediumRepository(TreeRepository):
    """The repository `name` of the bundle on the medium that is mounted at `mount`."""

    def __init__(self, mount: Path, name: RepositoryName) -> None:
        super().__init__(mount, below=(BUNDLE_DIRECTORY, name), called=f"medium: {name}")


def read_label(mount: Path) -> Bundle:
    """What the medium says of itself: a hint for people and for logs.

    Raises NotThereError when it carries no bundle, TransportError, DecodeError.
    """
    name = f"medium: {BUNDLE_LABEL}"
    with _opened(mount, (BUNDLE_DIRECTORY, BUNDLE_LABEL), name) as (descriptor, size):
        if size > MAX_BUNDLE_BYTES:
            raise TooMuchDataError(f"{name}: {size} bytes, at most {MAX_BUNDLE_BYTES} are allowed")
        return decode_bundle(_read(descriptor, ByteRange(0, size), name))


def _parts(path: str, name: str) -> tuple[str, ...]:
    try:
        return path_parts(path)
    except DecodeError as error:
        raise NotThereError(f"{name}: no file of a repository has such a name") from error


@contextmanager
def _opened(base: Path, parts: Sequence[str], name: str) -> Iterator[tuple[int, int]]:
    """(descriptor, size) of a regular file. name: for messages."""
    try:
        descriptor = _open(base, parts)
    except OSError as error:
        raise _fault(name, error) from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise TransportError(f"{name}: not a regular file")
        yield descriptor, found.st_size
    finally:
        os.close(descriptor)


def _open(base: Path, parts: Sequence[str]) -> int:
    """Part by part, each without following a link."""
    at = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            below = os.open(part, _DIRECTORY, dir_fd=at)
            os.close(at)
            at = below
        return os.open(parts[-1], _FILE, dir_fd=at)
    finally:
        os.close(at)


def _read(descriptor: int, wanted: ByteRange, name: str) -> bytes:
    """Exactly the range. It is in memory anyway before it can be checked; who asks bounds it."""
    found = bytearray()
    while len(found) < wanted.length:
        try:
            chunk = os.pread(descriptor, min(_CHUNK, wanted.length - len(found)), wanted.offset + len(found))
        except OSError as error:
            raise _fault(name, error) from error
        if not chunk:
            end = wanted.offset + len(found)
            raise TransportError(f"{name}: it ends at {end}, {wanted.length - len(found)} bytes too early")
        found += chunk
    return bytes(found)


def _fault(name: str, error: OSError) -> TransportError:
    if error.errno == errno.ENOENT:
        return NotThereError(f"{name}: not there")
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return TransportError(f"{name}: a link, or a file in the place of a directory")
    if error.errno in (errno.ENXIO, errno.ENODEV):
        return TransportError(f"{name}: not a regular file")
    return TransportError(f"{name}: {(error.strerror or str(error)).lower()}", hint=_DAMAGED)
