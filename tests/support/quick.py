"""What makes unit and property tests quick, and what they are therefore no proof of. Integration tests do without it.

Fixtures of a module each, so that they end before a test of another kind begins in the same process.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator

import pytest

from builder.signing import keyfiles


@pytest.fixture(scope="module", autouse=True)
def no_power_fails() -> Iterator[None]:
    """Nobody waits for a disk. What must be durable when is seen by who counts the calls, or cuts the power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", _look_only)
        patch.setattr(os, "fdatasync", _look_only)
        yield


@pytest.fixture(scope="module", autouse=True)
def keys_are_checked_once() -> Iterator[None]:
    """OpenSSL proves the primes of an RSA key whenever it is loaded: 40 to 110 ms, each time for the same bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keyfiles, "load_pem_private_key", _load_once)
        yield


def _look_only(descriptor: int) -> None:
    """An error for what is no open file, as from the real one."""
    os.fstat(descriptor)


_load_once = functools.cache(keyfiles.load_pem_private_key)
