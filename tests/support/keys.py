"""Development keys for tests: made once per process, in a directory that goes away with it."""

from __future__ import annotations

import functools
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from builder.signing.keyinit import init_keys
from builder.signing.keyset import KeySet, load_keys

MOMENT = datetime(2026, 3, 1, 12, 30, 15, tzinfo=UTC)


@functools.cache
def _base() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="edgeseal-test-keys-")


def keys_at(name: str = "dev") -> Path:
    """A directory of development keys; another name, other keys. `release` keys are not marked.

    Only in "dev" each role has a key of its own; elsewhere roles of the same key size share one.
    """
    return _made(name)


def keyset(name: str = "dev") -> KeySet:
    """The loaded keys of `keys_at`."""
    return _loaded(name)


@functools.cache
def used_key(public_exponent: int, key_size: int) -> rsa.RSAPrivateKey:
    """In place of `rsa.generate_private_key`, where a key may be an old one: of a size it is always the same."""
    return _generate(public_exponent, key_size)


_generate = rsa.generate_private_key


@functools.cache
def _made(name: str) -> Path:
    directory = Path(_base().name) / name
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rsa, "generate_private_key", _generate if name == "dev" else used_key)
        init_keys(directory, development=name != "release", now=MOMENT)
    return directory


@functools.cache
def _loaded(name: str) -> KeySet:
    return load_keys(_made(name), environment={})
