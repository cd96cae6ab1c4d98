"""Temporary files and directories that a killed process does not leave behind for ever.

Each is locked (flock) by the process that made it, for as long as it lives. Whoever makes the next one in the same
place deletes those that nobody holds.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def scratch_directory(base: Path, prefix: str) -> Iterator[Path]:
    """An empty directory PREFIX… in `base`, mode 0755, deleted at the end of the block unless it was renamed away.

    `base` is made when it is missing. prefix: what else begins so in `base`, and is not held, is deleted.
    """
    with _held(base, prefix, lambda: Path(tempfile.mkdtemp(prefix=prefix, dir=base))) as path:
        path.chmod(0o755)
        yield path


@contextmanager
def scratch_file(base: Path, prefix: str) -> Iterator[Path]:
    """The same for an empty file, mode 0644."""
    with _held(base, prefix, lambda: _make_file(base, prefix)) as path:
        path.chmod(0o644)
        yield path


def _make_file(base: Path, prefix: str) -> Path:
    descriptor, name = tempfile.mkstemp(prefix=prefix, dir=base)
    os.close(descriptor)
    return Path(name)


@contextmanager
def _held(base: Path, prefix: str, make: Callable[[], Path]) -> Iterator[Path]:
    base.mkdir(parents=True, exist_ok=True)
    with _locked(base):  # nobody sweeps between making and locking
        for leftover in base.glob(f"{prefix}*"):
            _delete_if_free(leftover)
        path = make()
        owner = os.open(path, os.O_RDONLY)
        fcntl.flock(owner, fcntl.LOCK_EX)
    try:
        yield path
    finally:
        _delete(path)
        os.close(owner)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _delete_if_free(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return  # gone by now, or not ours
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    else:
        _delete(path)
    finally:
        os.close(descriptor)


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
