"""Things that are made once per test run, whichever worker asks first. The others wait for it."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path


def once(base: Path, name: str, make: Callable[[Path], None]) -> Path:
    """The directory base/name, filled by `make` (which gets it empty) exactly once over all processes."""
    base.mkdir(parents=True, exist_ok=True)
    target, done = base / name, base / f"{name}.done"
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir()
            make(target)
            done.touch()
    return target
