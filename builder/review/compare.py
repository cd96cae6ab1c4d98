"""Say where two builds differ: the file, the byte, both values, and what stands there.

Goes into what a file is made of: paths in root.erofs, partitions in disk.raw, sections in uki.efi (and members of its
initrd), keys in JSON, the statement inside the provenance.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from appliance.core.errors import EdgesealError
from builder.host.sandbox import Sandbox
from builder.review.blocks import first_difference
from builder.review.difference import AROUND, Explained, compare_section, first_other_key, hex_around
from builder.review.gpt import read_partitions
from builder.review.manifest import MANIFEST_NAME, PROVENANCE_NAME, SBOM_NAME
from builder.review.opened import OpenedRoot, open_root
from builder.signing.pe import pe_sections

# Causes before effects: a different root makes everything behind it different.
ORDER = ("root.erofs", "root.verity", "uki.efi", "disk.raw", SBOM_NAME, MANIFEST_NAME, PROVENANCE_NAME)
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Difference:
    """One file that differs. offset: its first other byte; where: what stands there, as deep as it could be told.

    old, new: the two values at `where`: hex with the byte in brackets, or text.
    """

    file: str
    offset: int
    where: str
    old: str
    new: str


def compare_builds(old: Path, new: Path, tools: Sandbox) -> tuple[Difference, ...]:
    """Every artefact that differs between two output directories, causes first. Empty when all bytes are equal."""
    return tuple(item for name in ORDER if (item := _compare_file(name, old / name, new / name, tools)))


def _compare_file(name: str, old: Path, new: Path, tools: Sandbox) -> Difference | None:
    if not old.exists() or not new.exists():
        if old.exists() == new.exists():
            return None
        return Difference(name, 0, "the file", _presence(old), _presence(new))
    offset = first_other_byte(old, new)
    if offset is None:
        return None
    try:
        where, before, after = _EXPLAIN[name](old, new, offset, tools)
    except (EdgesealError, ValueError, KeyError):  # too broken to look inside: the byte will do
        where, before, after = _explain_bytes(old, new, offset, tools)
    return Difference(name, offset, where, before, after)


def first_other_byte(old: Path, new: Path) -> int | None:
    """The offset of the first byte that differs, a shorter file ending there included; None for equal files."""
    at = 0
    with old.open("rb") as one, new.open("rb") as other:
        while True:
            first, second = one.read(_CHUNK), other.read(_CHUNK)
            index = first_difference(first, second)
            if index is not None:
                return at + index
            if not first:
                return None
            at += len(first)


def _explain_bytes(old: Path, new: Path, offset: int, _tools: Sandbox) -> Explained:
    return f"byte {offset}", _hex_of_file(old, offset), _hex_of_file(new, offset)


def _explain_disk(old: Path, new: Path, offset: int, tools: Sandbox) -> Explained:
    for item in read_partitions(new):
        if item.offset <= offset < item.offset + item.size:
            _where, before, after = _explain_bytes(old, new, offset, tools)
            return f"partition {item.label}, its byte {offset - item.offset}", before, after
    return f"outside of the partitions, byte {offset}", _hex_of_file(old, offset), _hex_of_file(new, offset)


def _explain_root(old: Path, new: Path, offset: int, tools: Sandbox) -> Explained:
    with open_root(old, tools) as one, open_root(new, tools) as other:
        found = compare_roots(one, other)
    if found is not None:
        return found
    return (
        f"byte {offset}; the trees are equal, the encoding is not",
        _hex_of_file(old, offset),
        _hex_of_file(new, offset),
    )


def compare_roots(old: OpenedRoot, new: OpenedRoot) -> Explained | None:
    """The first path that differs: where, old value, new value."""
    one = {line.split(" ", 1)[0]: line for line in old.listing()}
    other = {line.split(" ", 1)[0]: line for line in new.listing()}
    for path in sorted({*one, *other}):
        if path not in one or path not in other:
            return path, one.get(path, "(absent)"), other.get(path, "(absent)")
        if one[path] != other[path]:
            return _compare_path(path, one[path], other[path], old, new)
    return None


def _compare_path(path: str, one: str, other: str, old: OpenedRoot, new: OpenedRoot) -> Explained:
    words, others = one.split(), other.split()
    if "\\x" in path or words[1:4] != others[1:4] or words[1] != "file" or words[4] == others[4]:
        return path, one, other
    first, second = old.read(path), new.read(path)
    at = first_difference(first, second) or 0
    return f"{path} byte {at}", hex_around(first, at), hex_around(second, at)


def _explain_uki(old: Path, new: Path, offset: int, tools: Sandbox) -> Explained:
    one, other = pe_sections(old.read_bytes()), pe_sections(new.read_bytes())
    for name in sorted({*one, *other}, key=lambda name: name == ".pcrsig"):  # it follows from the others
        if one.get(name) != other.get(name):
            return compare_section(name, one.get(name), other.get(name))
    where, before, after = _explain_bytes(old, new, offset, tools)
    return f"headers or signature, {where}", before, after


def _explain_json(old: Path, new: Path, offset: int, tools: Sandbox) -> Explained:
    found = first_other_key(json.loads(old.read_bytes()), json.loads(new.read_bytes()))
    if found is None:
        return _explain_bytes(old, new, offset, tools)
    return found


def _explain_provenance(old: Path, new: Path, offset: int, tools: Sandbox) -> Explained:
    one, other = (json.loads(base64.b64decode(json.loads(path.read_bytes())["payload"])) for path in (old, new))
    found = first_other_key(one, other)
    if found is None:
        return _explain_json(old, new, offset, tools)
    return f"payload, {found[0]}", found[1], found[2]


def _hex_of_file(path: Path, offset: int) -> str:
    start = max(0, offset - AROUND)
    with path.open("rb") as stream:
        stream.seek(start)
        return hex_around(stream.read(2 * AROUND + 1), offset - start)


def _presence(path: Path) -> str:
    return "(present)" if path.exists() else "(absent)"


_EXPLAIN: dict[str, Callable[[Path, Path, int, Sandbox], Explained]] = {
    "root.erofs": _explain_root,
    "root.verity": _explain_bytes,
    "uki.efi": _explain_uki,
    "disk.raw": _explain_disk,
    SBOM_NAME: _explain_json,
    MANIFEST_NAME: _explain_json,
    PROVENANCE_NAME: _explain_provenance,
}
