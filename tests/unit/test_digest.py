"""Holes are hashed as the zeros that they are."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from builder.archive.digest import file_sha256

MIB = 1 << 20


@pytest.mark.parametrize(
    ("size", "written"),
    [
        (0, {}),
        (1, {0: b"x"}),
        (MIB, {}),
        (5 * MIB + 7, {0: b"first", 3 * MIB + 1: b"middle"}),
        (5 * MIB, {5 * MIB - 4: b"last"}),
        (3 * MIB, {MIB: bytes(MIB)}),
        (2 * MIB + 1, {0: os.urandom(2 * MIB + 1)}),
    ],
)
def test_a_sparse_file(tmp_path: Path, size: int, written: dict[int, bytes]) -> None:
    path = tmp_path / "file"
    with path.open("wb") as stream:
        for at, data in written.items():
            stream.seek(at)
            stream.write(data)
        stream.truncate(size)
    assert file_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
