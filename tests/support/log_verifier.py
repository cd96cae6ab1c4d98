"""A second reading of the tlog-tiles layout, for tests: whoever copies the public directory, now, can verify it."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping

from appliance.formats.checkpoint import Checkpoint, decode_checkpoint
from appliance.formats.signed_note import Note, NoteSignature, decode_note, encode_note


def fake_sign(text: str) -> bytes:
    """A note whose signature is a digest of its text: quick, and wrong for any other text."""
    return encode_note(Note(text, (NoteSignature("test", b"test", hashlib.sha512(text.encode()).digest()),)))


def verify_static(files: Mapping[str, bytes], *, minimum: int = 0) -> Checkpoint | None:
    """Read every file that the checkpoint calls for, by the specification's words; None when there is no checkpoint.

    Raises AssertionError on anything that is missing, torn or wrong.
    """
    if "checkpoint" not in files:
        return None
    note = decode_note(files["checkpoint"])
    assert note.signatures[0].signature == hashlib.sha512(note.text.encode()).digest()
    checkpoint = decode_checkpoint(note.text)
    tiles = _entry_hashes(files, checkpoint.size, minimum)
    level = 0
    while checkpoint.size >> (8 * level):
        tiles = _level(files, checkpoint.size >> (8 * level), level, tiles, minimum >> (8 * level))
        level += 1
    assert _root(files, checkpoint.size) == checkpoint.root
    return checkpoint


def _entry_hashes(files: Mapping[str, bytes], size: int, minimum: int) -> dict[int, bytes]:
    found = {}
    for number in range(minimum // 256, -(-size // 256)):
        width = min(256, size - 256 * number)
        found[number] = _leaves(files[_path("entries", number, width)], width)
    return found


@functools.cache
def _leaves(data: bytes, width: int) -> bytes:
    """The tile of level 0 over a bundle."""
    at, found = 0, []
    for _ in range(width):
        length = data[at] * 256 + data[at + 1]
        entry = data[at + 2 : at + 2 + length]
        assert len(entry) == length
        found.append(hashlib.sha256(b"\0" + entry).digest())
        at += 2 + length
    assert at == len(data)
    return b"".join(found)


def _level(
    files: Mapping[str, bytes], count: int, level: int, expected: Mapping[int, bytes], minimum: int
) -> dict[int, bytes]:
    """Hold the tiles of a level against what is known (zeroes: nothing). Returns the same for the level above."""
    above: dict[int, bytes] = {}
    for number in range(minimum // 256, -(-count // 256)):
        width = min(256, count - 256 * number)
        data = files[_path(str(level), number, width)]
        assert len(data) == 32 * width
        if data != expected.get(number):
            known = expected.get(number, b"").ljust(len(data), b"\0")
            for at in range(0, len(data), 32):
                assert known[at : at + 32] in (data[at : at + 32], bytes(32)), f"level {level} tile {number} at {at}"
        if width == 256:
            row = above.get(number // 256, b"").ljust(number % 256 * 32, b"\0")
            above[number // 256] = row + _tile_root(data)
    return above


@functools.cache
def _tile_root(data: bytes) -> bytes:
    return _fold([data[at : at + 32] for at in range(0, len(data), 32)])


def _root(files: Mapping[str, bytes], size: int) -> bytes:
    """Out of the partial tiles alone."""
    value, level = None, 0
    while size >> (8 * level):
        count = size >> (8 * level)
        width = count % 256
        data = files[_path(str(level), count // 256, width)] if width else b""
        hashes = [data[at : at + 32] for at in range(0, len(data), 32)]
        hashes += [value] if value is not None else []
        value, level = (_fold(hashes) if hashes else None), level + 1
    return value or hashlib.sha256(b"").digest()


def _fold(hashes: list[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1 over roots, by its recursion."""
    if len(hashes) == 1:
        return hashes[0]
    k = 1
    while 2 * k < len(hashes):
        k *= 2
    return hashlib.sha256(b"\1" + _fold(hashes[:k]) + _fold(hashes[k:])).digest()


@functools.cache
def _path(level: str, number: int, width: int) -> str:
    digits = f"{number:03}"
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    name = "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
    return f"tile/{level}/{name}" + (f".p/{width}" if width < 256 else "")
