"""Development keys for tests: made once per process, in a directory that goes away with it."""

from __future__ import annotations

import functools
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from builder.signing.keyinit import init_keys
from builder.signing.keyset import KeySet, load_keys

MOMENT = datetime(2026, 3, 1, 12, 30, 15, tzinfo=UTC)


@functools.cache
def _base() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="edgeseal-test-keys-")


def keys_at(name: str = "dev") -> Path:
    """A directory of development keys; another name, other keys. `release` keys are not marked."""
    return _made(name)


def keyset(name: str = "dev") -> KeySet:
    """The loaded keys of `keys_at`."""
    return _loaded(name)


@functools.cache
def _made(name: str) -> Path:
    directory = Path(_base().name) / name
    init_keys(directory, development=name != "release", now=MOMENT)
    return directory


@functools.cache
def _loaded(name: str) -> KeySet:
    return load_keys(_made(name), environment={})
