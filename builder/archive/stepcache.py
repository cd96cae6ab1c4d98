"""Results of steps, kept by the hash of what went in: inputs and the code that made them.

An entry appears by rename, whole or not at all. `EDGESEAL_CACHE` may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

from builder.host.paths import cache_directory
from builder.host.scratch import scratch_directory

_PRUNED = ("base", "root", "seal", "initrd")
"""Kinds of which a new result is made whenever a source file changes."""
_KEPT = 12
_USED_S = 3600


def code_digest(modules: Iterable[ModuleType]) -> str:
    """sha256 over the source of the modules that a step's result depends on."""
    digest = hashlib.sha256()
    for module in sorted(modules, key=lambda module: module.__name__):
        digest.update(inspect.getsource(module).encode())
    return digest.hexdigest()


def key_of(*parts: str | bytes) -> str:
    """One hash over parts, each with its length, so that no two lists of parts collide."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


def cached_directory(kind: str, key: str, make: Callable[[Path], None]) -> Path:
    """The directory of `kind` for `key`; `make` fills an empty one when it is not there yet."""
    base = cache_directory() / "steps" / kind
    target = base / key
    if target.is_dir():
        os.utime(target)
        return target
    with scratch_directory(base, ".making-") as temporary:
        make(temporary)
        try:
            temporary.rename(target)
        except OSError:
            if not target.is_dir():  # otherwise another build finished the same step first
                raise
    if kind in _PRUNED:
        _prune(base, now=target.stat().st_mtime)
    return target


def _prune(base: Path, *, now: float) -> None:
    """Delete all but the newest results of a kind, and none that was used in the hour before `now`."""
    results = [path for path in base.iterdir() if not path.name.startswith(".")]
    results.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in results[_KEPT:]:
        if now - path.stat().st_mtime > _USED_S:
            shutil.rmtree(path, ignore_errors=True)


def cached_file(kind: str, key: str, make: Callable[[Path], None]) -> Path:
    """The same for one file."""
    return cached_directory(kind, key, lambda directory: make(directory / "result")) / "result"
