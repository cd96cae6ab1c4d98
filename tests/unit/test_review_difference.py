"""A difference is named as deep as it can be told, with both values."""

from __future__ import annotations

from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from builder.review.blocks import first_difference
from builder.review.difference import compare_section, first_other_key, hex_around


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_first_difference_is_the_first(one: bytes, other: bytes) -> None:
    found = first_difference(one, other)
    if found is None:
        assert one == other
    else:
        assert one[:found] == other[:found]
        assert one[found : found + 1] != other[found : found + 1]


@given(st.binary(min_size=1, max_size=3000), st.data())
def test_first_difference_finds_one_flipped_byte(data: bytes, draw: st.DataObject) -> None:
    at = draw.draw(st.integers(0, len(data) - 1))
    other = data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :]
    assert first_difference(data, other) == at


@pytest.mark.parametrize(
    ("data", "at", "shown"),
    [
        (b"abc", 1, "61 [62] 63"),
        (b"a", 0, "[61]"),
        (b"abc", 3, "61 62 63 [end]"),
        (b"", 0, "[end]"),
        (bytes(range(30)), 15, "07 08 09 0a 0b 0c 0d 0e [0f] 10 11 12 13 14 15 16 17"),
    ],
)
def test_hex_around(data: bytes, at: int, shown: str) -> None:
    assert hex_around(data, at) == shown


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        ({"a": 1}, {"a": 1}, None),
        ({"a": 1}, {"a": 2}, ("$.a", "1", "2")),
        ({"a": 1}, {}, ("$.a", "1", "(absent)")),
        ({}, {"a": "x"}, ("$.a", "(absent)", '"x"')),
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, ("$.a[1].b", "2", "3")),
        ([1], [1, 2], ("$", "1 items", "2 items")),
        (1, True, ("$", "1", "true")),
        ({"a": 1}, [1], ("$", '{"a": 1}', "[1]")),
    ],
)
def test_first_other_key(one: Any, other: Any, found: tuple[str, str, str] | None) -> None:
    assert first_other_key(one, other) == found


def cpio(members: dict[str, bytes], mode: int = 0o100644) -> bytes:
    out = b""
    for number, (name, data) in enumerate({**members, "TRAILER!!!": b""}.items()):
        fields = [number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
        out += b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
        out += bytes(-len(out) % 4) + data
        out += bytes(-len(out) % 4)
    return zstandard.ZstdCompressor().compress(out)


@pytest.mark.parametrize(
    ("name", "one", "other", "found"),
    [
        (".osrel", b"abc", b"abd", ("section .osrel byte 2", "61 62 [63]", "61 62 [64]")),
        (".dtb", None, b"x", ("section .dtb", "(absent)", "1 bytes")),
        (".initrd", b"not an archive", b"not an Archive", ("section .initrd byte 7", "6e 6f 74 20 61 6e 20 [61]")),
        (".initrd", cpio({"init": b"one"}), cpio({"init": b"onE"}), ("section .initrd, init byte 2", "6f 6e [65]")),
        (".initrd", cpio({"a": b""}), cpio({"b": b""}), ("section .initrd, a", "(present)", "(absent)")),
        (".initrd", cpio({"a": b"x"}), cpio({"a": b"x"}, 0o100755), ("section .initrd, a, its header", "070701")),
    ],
)
def test_sections(name: str, one: bytes | None, other: bytes | None, found: tuple[str, ...]) -> None:
    result = compare_section(name, one, other)
    assert result[0] == found[0]
    assert all(part.startswith(expected) for part, expected in zip(result[1:], found[1:], strict=False))
