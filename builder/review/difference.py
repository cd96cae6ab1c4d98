"""Tell two values apart: bytes in hex, JSON by key, archives by member. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import zstandard

from builder.review.blocks import first_difference

AROUND = 8
"""Bytes shown before and behind the one that differs."""

Explained = tuple[str, str, str]
"""Where, the old value, the new value."""


def hex_around(data: bytes, at: int) -> str:
    """`00 11 [22] 33`: the byte at `at` with its neighbours; `[end]` behind the last."""
    before = " ".join(f"{byte:02x}" for byte in data[max(0, at - AROUND) : at])
    middle = f"[{data[at]:02x}]" if at < len(data) else "[end]"
    after = " ".join(f"{byte:02x}" for byte in data[at + 1 : at + 1 + AROUND])
    return " ".join(part for part in (before, middle, after) if part)


def first_other_key(one: Any, other: Any, path: str = "$") -> Explained | None:
    """The first place, as a JSON path, at which two values differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}):
            if key not in one or key not in other:
                return f"{path}.{key}", _shown(one, key), _shown(other, key)
            if found := first_other_key(one[key], other[key], f"{path}.{key}"):
                return found
        return None
    if isinstance(one, list) and isinstance(other, list):
        for index, (first, second) in enumerate(zip(one, other, strict=False)):
            if found := first_other_key(first, second, f"{path}[{index}]"):
                return found
        if len(one) != len(other):
            return path, f"{len(one)} items", f"{len(other)} items"
        return None
    return None if one == other and type(one) is type(other) else (path, json.dumps(one), json.dumps(other))


def _shown(value: dict[str, Any], key: str) -> str:
    return json.dumps(value[key])[:200] if key in value else "(absent)"


def compare_section(name: str, one: bytes | None, other: bytes | None) -> Explained:
    """Two sections of unified kernel images that are not equal; into the archive where it is an initrd."""
    if one is None or other is None:
        return f"section {name}", _size(one), _size(other)
    if name == ".initrd" and (found := _compare_initrds(one, other)):
        return found
    at = first_difference(one, other) or 0
    return f"section {name} byte {at}", hex_around(one, at), hex_around(other, at)


def _compare_initrds(one: bytes, other: bytes) -> Explained | None:
    """Into the cpio archives of two zstd initrds; None when they are something else or equal inside."""
    try:
        first, second = (dict(_cpio_members(_decompressed(data))) for data in (one, other))
    except (ValueError, zstandard.ZstdError):
        return None
    for path in sorted({*first, *second}):
        if path not in first or path not in second:
            return f"section .initrd, {path}", _presence(path in first), _presence(path in second)
        if first[path] != second[path]:
            (head, data), (head2, data2) = first[path], second[path]
            at = first_difference(data, data2)
            if at is None:
                return f"section .initrd, {path}, its header", head.decode("ascii"), head2.decode("ascii")
            return f"section .initrd, {path} byte {at}", hex_around(data, at), hex_around(data2, at)
    return None


def _decompressed(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(data)


def _cpio_members(data: bytes) -> Iterator[tuple[str, tuple[bytes, bytes]]]:
    """(path, (header, contents)) of a newc archive. Raises ValueError."""
    at = 0
    while data[at : at + 6] in (b"070701", b"070702"):
        head = data[at : at + 110]
        size, name_size = int(head[54:62], 16), int(head[94:102], 16)
        name = data[at + 110 : at + 110 + name_size - 1].decode("utf-8", "surrogateescape")
        start = (at + 110 + name_size + 3) & ~3
        if name == "TRAILER!!!":
            return
        yield name, (head, data[start : start + size])
        at = (start + size + 3) & ~3
    raise ValueError("not a newc archive")


def _presence(there: bool) -> str:
    return "(present)" if there else "(absent)"


def _size(data: bytes | None) -> str:
    return "(absent)" if data is None else f"{len(data)} bytes"
