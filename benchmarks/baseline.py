"""What the same machine does in the same minute with work that never changes: times mean something as ratios to it."""

from __future__ import annotations

import hashlib
import lzma
import time

_MIB = 1 << 20


def hashing() -> float:
    """Seconds to hash 1 GiB with SHA-256 on one core."""
    block, digest = bytes(_MIB), hashlib.sha256()
    begun = time.perf_counter()
    for _ in range(1024):
        digest.update(block)
    return time.perf_counter() - begun


def unpacking() -> float:
    """Seconds to decompress 32 MiB of xz on one core, which is what unpacking packages mostly is."""
    state, parts = b"edgeseal", []
    for _ in range(_MIB // 32):
        state = hashlib.sha256(state).digest()
        parts.append(state * 2 + bytes(960))
    packed = lzma.compress(b"".join(parts), preset=1)
    begun = time.perf_counter()
    lzma.decompress(packed)
    return time.perf_counter() - begun
