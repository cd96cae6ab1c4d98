"""The erofs reader refuses what it cannot follow; real images are read in tests/integration/review."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.core.errors import DecodeError, InputError
from builder.review.erofs import ErofsImage


def image(path: Path, directory: bytes, *, form: int = 0, mode: int = 0o40755, size: int | None = None) -> Path:
    """A superblock, one plain directory inode (nid 0) at block 1, its block at block 2."""
    head = bytearray(1024 + 128)
    struct.pack_into("<I", head, 1024, 0xE0F5E1E2)
    head[1024 + 12] = 12
    struct.pack_into("<HQ", head, 1024 + 14, 0, 1)
    struct.pack_into("<Q", head, 1024 + 24, 77)
    struct.pack_into("<II", head, 1024 + 40, 1, 0)
    inode = struct.pack("<HHHHIIIIHHI", form, 0, mode, 2, len(directory) if size is None else size, 0, 2, 1, 0, 0, 0)
    path.write_bytes(bytes(head).ljust(4096, b"\0") + inode.ljust(4096, b"\0") + directory.ljust(4096, b"\0"))
    return path


def entries(*names: bytes, nids: dict[bytes, int] | None = None) -> bytes:
    offset, table, text = 12 * len(names), b"", b""
    for name in names:
        table += struct.pack("<QHBB", (nids or {}).get(name, 0), offset + len(text), 2, 0)
        text += name
    return table + text


def test_an_empty_directory(tmp_path: Path) -> None:
    (root,) = ErofsImage(image(tmp_path / "i", entries(b".", b".."))).walk()
    assert (root.path, root.mode, root.mtime, root.xattrs) == ("/", 0o40755, 77, ())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (entries(b".", b"..", b"loop"), "i: a directory contains itself"),
        (entries(b"a/b"), "i: broken name in a directory"),
        (entries(b""), "i: broken name in a directory"),
        (b"\0" * 5, "i: cut directory block"),
        (b"\0" * 40, "i: broken directory block"),
        (struct.pack("<QHBB", 0, 5000, 2, 0), "i: broken directory block"),
        (entries(b"far", nids={b"far": 1 << 40}), "i: a structure lies outside the image"),
    ],
)
def test_broken_directories(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(DecodeError) as caught:
        list(ErofsImage(image(tmp_path / "i", data)).walk())
    assert str(caught.value) == message


def test_a_compressed_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match="compressed where it must be plain"):
        list(ErofsImage(image(tmp_path / "i", b"", form=3 << 1, size=9)).walk())


@pytest.mark.parametrize(
    ("data", "message"), [(b"", "empty file"), (b"x" * 5000, "not an erofs image"), (b"x", "lies outside the image")]
)
def test_other_files(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "i").write_bytes(data)
    with pytest.raises(DecodeError, match=message):
        ErofsImage(tmp_path / "i")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        ErofsImage(tmp_path / "none")


@given(st.binary(min_size=1, max_size=600), st.integers(0, 0xFFFF))
def test_any_directory_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes, form: int) -> None:
    path = image(tmp_path_factory.getbasetemp() / "any.erofs", data, form=form)
    with contextlib.suppress(DecodeError):
        list(ErofsImage(path).walk())
