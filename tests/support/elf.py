"""Small ELF files, written by hand from the specification: libraries that they need, and systemd's dlopen notes."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

X86_64, HEXAGON = 62, 164
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_STRTAB, _DYNAMIC, _NOTE = 3, 6, 7
_DT_NEEDED = 1
_DLOPEN_NOTE = 0x407C0C0A


def make_elf(needed: Sequence[str] = (), features: Sequence[Mapping[str, Any]] = (), *, machine: int = X86_64) -> bytes:
    """A shared object. needed: its DT_NEEDED names; features: the objects of its `.note.dlopen`."""
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in needed)
    offsets = [strings.index(b"\0" + name.encode() + b"\0") + 1 for name in needed]
    dynamic = b"".join(struct.pack("<QQ", _DT_NEEDED, offset) for offset in offsets) + bytes(16)
    text = json.dumps(list(features)).encode() + b"\0"
    note = struct.pack("<III4s", 4, len(text), _DLOPEN_NOTE, b"FDO\0") + text + bytes(-len(text) % 4)
    names = b"\0.dynstr\0.dynamic\0.note.dlopen\0.shstrtab\0"
    return _file(
        machine,
        names,
        (b".dynstr", _STRTAB, strings, 0, 0),
        (b".dynamic", _DYNAMIC, dynamic, 1, 16),
        (b".note.dlopen", _NOTE, note, 0, 0),
        (b".shstrtab", _STRTAB, names, 0, 0),
    )


def _file(machine: int, names: bytes, *sections: tuple[bytes, int, bytes, int, int]) -> bytes:
    body, headers = b"", [bytes(_SECTION.size)]
    for name, kind, data, link, entry in sections:
        at = _HEADER.size + len(body)
        headers.append(_SECTION.pack(names.index(name + b"\0"), kind, 0, 0, at, len(data), link, 0, 8, entry))
        body += data + bytes(-len(data) % 8)
    identity = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    count = len(headers)
    start = _HEADER.size + len(body)
    header = _HEADER.pack(identity, 3, machine, 1, 0, 0, start, 0, 64, 0, 0, _SECTION.size, count, count - 1)
    return header + body + b"".join(headers)
