"""The output directory of a build: the old one or the new one, never a mixture."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.core.durable import fsync_directory
from appliance.core.errors import InputError, Place
from builder.host.scratch import scratch_directory

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # renameat2(2)


@contextmanager
def output_directory(target: Path) -> Iterator[Path]:
    """An empty directory beside `target` that takes its place when the block ends without an error.

    Raises InputError when something stands at `target` that is not a build of ours.
    """
    target = target.absolute()  # tools in the sandbox have another working directory
    if target.exists() and not (target / "manifest.json").is_file() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(
            "this is not a build of edgeseal, and it is not empty",
            place=Place(str(target)),
            hint="choose another directory with --out",
        )
    with scratch_directory(target.parent, f".{target.name}.building-") as fresh:
        yield fresh
        _exchange(fresh, target)
        fsync_directory(target.parent)


def _exchange(fresh: Path, target: Path) -> None:
    if not target.exists():
        fresh.rename(target)
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, os.fsencode(fresh), _AT_FDCWD, os.fsencode(target), _RENAME_EXCHANGE) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(target))
