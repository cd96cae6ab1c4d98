"""A small PE32+ image: headers and sections one after the other, as a linker lays them out."""

from __future__ import annotations

import struct
from collections.abc import Mapping

_ALIGNMENT = 512


def tiny_pe(sections: Mapping[str, bytes], *, tail: bytes = b"", memory: Mapping[str, int] | None = None) -> bytes:
    """tail: bytes after the last section. memory: VirtualSize by name where it is not the content's length."""
    headers = 0x40 + 24 + 240 + 40 * len(sections)
    offset = _aligned(headers)
    table, body, address = b"", b"", 0x1000
    for name, content in sections.items():
        size, stored = (memory or {}).get(name, len(content)), _aligned(len(content))
        table += struct.pack("<8sIIII12xI", name.encode(), size, address, stored, offset + len(body), 0x40000040)
        body += content.ljust(stored, b"\0")
        address += (max(size, stored) + 0xFFF) & ~0xFFF
    optional = bytearray(240)
    struct.pack_into("<H", optional, 0, 0x20B)
    struct.pack_into("<II", optional, 32, 0x1000, _ALIGNMENT)
    struct.pack_into("<II", optional, 56, address, offset)
    struct.pack_into("<H", optional, 68, 10)
    struct.pack_into("<I", optional, 108, 16)
    dos = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x40)
    coff = b"PE\0\0" + struct.pack("<HHIIIHH", 0x8664, len(sections), 0, 0, 0, len(optional), 0x206)
    return (dos + coff + bytes(optional) + table).ljust(offset, b"\0") + body + tail


def _aligned(size: int) -> int:
    return (size + _ALIGNMENT - 1) & ~(_ALIGNMENT - 1)
