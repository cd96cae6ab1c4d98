"""The parts of a PE32+ image that signing and measuring need. Reference: Microsoft PE format; strict on purpose.

An image whose sections overlap, leave a gap or run past the end is refused: verifiers disagree about such files.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from appliance.core.errors import DecodeError

_CHECKSUM = 64  # offsets in the optional header
_DIRECTORIES = 112
_CERTIFICATE_ENTRY = _DIRECTORIES + 4 * 8


@dataclass(frozen=True)
class Section:
    """name without padding. address, size: in memory. offset, stored: in the file."""

    name: str
    address: int
    size: int
    offset: int
    stored: int


@dataclass(frozen=True)
class PeImage:
    """Offsets into `data`.

    checksum: of the 4-byte checksum. directory: of the 8-byte certificate table entry. table, table_size: what that
    entry says; 0, 0 without a signature.
    """

    data: bytes
    checksum: int
    directory: int
    table: int
    table_size: int
    sections: tuple[Section, ...]

    def content(self, section: Section) -> bytes:
        """The section as it is in memory: `size` bytes, zero-filled beyond what the file stores."""
        stored = self.data[section.offset : section.offset + min(section.size, section.stored)]
        return stored.ljust(section.size, b"\0")


def parse_pe(data: bytes) -> PeImage:
    """Raises DecodeError unless `data` is a PE32+ image whose parts lie one after the other."""
    try:
        return _parse(data)
    except struct.error as error:
        raise DecodeError("PE image: it ends inside its headers") from error


def pe_sections(data: bytes) -> dict[str, bytes]:
    """Contents as in memory, by name. Of two sections with one name the first counts, as for systemd-stub.

    Raises DecodeError as parse_pe does.
    """
    image = parse_pe(data)
    return {section.name: image.content(section) for section in reversed(image.sections)}


def with_checksum(data: bytearray, offset: int) -> bytes:
    """`data` with the PE checksum at `offset`: the folded sum of all 16-bit words, plus the length."""
    struct.pack_into("<I", data, offset, 0)
    words = np.frombuffer(bytes(data) + b"\0" * (len(data) % 2), dtype="<u2")
    total = int(words.sum(dtype=np.uint64))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    struct.pack_into("<I", data, offset, total + len(data))
    return bytes(data)


def _parse(data: bytes) -> PeImage:
    if data[:2] != b"MZ":
        raise DecodeError("PE image: no MZ header")
    (header,) = struct.unpack_from("<I", data, 0x3C)
    if data[header : header + 4] != b"PE\0\0":
        raise DecodeError("PE image: no PE header")
    count, optional_size = struct.unpack_from("<2xH12xH", data, header + 4)
    optional = header + 24
    (magic,) = struct.unpack_from("<H", data, optional)
    if magic != 0x20B:
        raise DecodeError(f"PE image: optional header {magic:#06x} instead of PE32+")
    (header_size,) = struct.unpack_from("<I", data, optional + 60)
    (directories,) = struct.unpack_from("<I", data, optional + 108)
    if directories < 5 or optional_size < _CERTIFICATE_ENTRY + 8:
        raise DecodeError("PE image: no place for a certificate table")
    table, table_size = struct.unpack_from("<II", data, optional + _CERTIFICATE_ENTRY)
    sections = tuple(_section(data, optional + optional_size + 40 * index) for index in range(count))
    if optional + optional_size + 40 * count > header_size:
        raise DecodeError("PE image: the section table is longer than the headers")
    end = _check_sections(sections, header_size, len(data))
    if table_size and (table < end or table % 8 or table + table_size != len(data)):
        raise DecodeError("PE image: the certificate table is not at its end")
    return PeImage(data, optional + _CHECKSUM, optional + _CERTIFICATE_ENTRY, table, table_size, sections)


def _section(data: bytes, offset: int) -> Section:
    name, size, address, stored, position = struct.unpack_from("<8sIIII", data, offset)
    return Section(name.rstrip(b"\0").decode("latin-1"), address, size, position, stored)


def _check_sections(sections: tuple[Section, ...], header_size: int, length: int) -> int:
    """Where the last one ends. Raises DecodeError when they do not follow the headers and each other."""
    spans = [(0, header_size)]
    spans += sorted((section.offset, section.offset + section.stored) for section in sections if section.stored)
    for (_, end), (start, _) in pairwise(spans):
        if start != end:
            raise DecodeError(f"PE image: a section starts at {start:#x} instead of {end:#x}")
    if spans[-1][1] > length:
        raise DecodeError("PE image: a section ends after the file")
    return spans[-1][1]
