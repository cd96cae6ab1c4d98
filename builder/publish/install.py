"""New files of a repository appear at once or not at all, while clients read: `timestamp.json` is the switch.

What is new is built in .work/, made durable, and renamed to .work/commit: from then on it will be installed, now or by
whoever opens the repository next. A file that is there is never changed, timestamp.json excepted.

    .work/commit/new/        content/, targets/, metadata/: installed first; nothing names them yet
    .work/commit/before/     a root that clients must have before the new timestamp
    .work/commit/timestamp.json
    .work/commit/after/      a root that clients may have only with it
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.core.durable import fsync_directory
from appliance.core.errors import EdgesealError, Place, VerificationError
from builder.host.scratch import scratch_directory

_PARTS = ("new", "before", "after")


@contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Nobody else changes the repository `path`; what an interruption left is installed first.

    shared: others may read too. Raises EdgesealError when somebody is at it, OSError when it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if not shared or (path / ".work/commit").is_dir():
            _lock(descriptor, fcntl.LOCK_EX, path)
            _finish(path)
        if shared:
            _lock(descriptor, fcntl.LOCK_SH, path)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, kind: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise EdgesealError("another edgeseal is at work on this repository", place=Place(str(path))) from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A disk that is full, or cannot be read or written, is a message. Raises EdgesealError."""
    try:
        yield
    except OSError as error:
        raise EdgesealError(
            f"cannot change the repository: {(error.strerror or str(error)).lower()}; it is as before",
            place=Place(str(error.filename or path)),
        ) from error


@contextmanager
def new_files(path: Path) -> Iterator[Path]:
    """An empty directory with new/, before/ and after/; all of it is installed when the block ends without an error.

    The caller holds `locked`; `path` is there. Files are written with `write_new`; nothing is visible before.
    """
    with scratch_directory(path / ".work", "change-") as fresh:
        for part in _PARTS:
            (fresh / part).mkdir()
        yield fresh
        _refuse_overwriting(fresh, path)
        for directory in sorted(item for item in (fresh / "new").rglob("*") if item.is_dir()):
            make_directory(path / directory.relative_to(fresh / "new"))
        make_directory(path / "metadata")
        for directory in (fresh, *sorted(item for item in fresh.rglob("*") if item.is_dir())):
            fsync_directory(directory)
        fresh.rename(path / ".work/commit")
        fsync_directory(path / ".work")
    _finish(path)


def _finish(path: Path) -> None:
    """Install what was decided; nothing to do when nothing was."""
    commit = path / ".work/commit"
    if not commit.is_dir():
        return
    _move_all(commit / "new", path)
    _move_all(commit / "before", path / "metadata")
    if (commit / "timestamp.json").exists():
        (commit / "timestamp.json").replace(path / "metadata/timestamp.json")
        fsync_directory(path / "metadata")
    _move_all(commit / "after", path / "metadata")
    shutil.rmtree(commit)


def write_new(path: Path, data: bytes) -> None:
    """A new file, durable, mode 0644, with the directories above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fchmod(stream.fileno(), 0o644)
        os.fsync(stream.fileno())


def copy_new(source: Path, path: Path) -> None:
    """The same for a big file: a second name for it where the filesystem can, else a copy."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, path)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):
            raise
        shutil.copyfile(source, path)
    with path.open("rb") as stream:
        os.fchmod(stream.fileno(), 0o644)
        os.fsync(stream.fileno())


def make_directory(path: Path) -> None:
    """With those above it, durable."""
    if not path.is_dir():
        make_directory(path.parent)
        path.mkdir(exist_ok=True)
        fsync_directory(path.parent)


def _move_all(source: Path, target: Path) -> None:
    touched = set()
    for path in sorted(item for item in source.rglob("*") if not item.is_dir()):
        place = target / path.relative_to(source)
        path.rename(place)  # after an interruption it may be there: the same bytes, since nothing was there before
        touched.add(place.parent)
    for directory in sorted(touched):
        fsync_directory(directory)


def _refuse_overwriting(fresh: Path, path: Path) -> None:
    for part, base in (("new", path), ("before", path / "metadata"), ("after", path / "metadata")):
        for item in sorted((fresh / part).rglob("*")):
            place = base / item.relative_to(fresh / part)
            if not item.is_dir() and place.exists():
                raise VerificationError("it is there already, and is never replaced", place=Place(str(place)))
