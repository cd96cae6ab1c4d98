"""What a unified kernel image says of the root that it boots. Pure; reads the headers and one section.

Format: Microsoft PE (PE32+); section .cmdline of the UAPI group's Unified Kernel Image specification. Firmware judges
the signature; this finds out which slot an image belongs to, and that it was not published with another root.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from appliance.core.errors import DecodeError

HEAD_BYTES = 4096
"""The headers lie in these first bytes of a file."""
MAX_COMMAND_LINE = 64 << 10

_ROOT_HASH = re.compile(r"roothash=([0-9a-f]{64})")
_DATA_UUID = re.compile(r"systemd\.verity_root_data=UUID=([0-9a-f-]{36})")
_HASH_UUID = re.compile(r"systemd\.verity_root_hash=UUID=([0-9a-f-]{36})")


@dataclass(frozen=True)
class Extent:
    """Bytes of a file."""

    offset: int
    length: int


@dataclass(frozen=True)
class RootNames:
    """root_hash: 64 hex digits. data_uuid, hash_uuid: in the superblocks of the root's two partitions."""

    root_hash: str
    data_uuid: str
    hash_uuid: str


def find_command_line(head: bytes, *, file_size: int) -> Extent:
    """Where the first .cmdline section stands. head: the first HEAD_BYTES of a file of file_size bytes, or all of it.

    Raises DecodeError when there is none, or when it does not lie inside the file.
    """
    try:
        return _find(head, b".cmdline", file_size)
    except struct.error as error:
        raise DecodeError("kernel image: the headers are cut off") from error


def decode_root_names(command_line: bytes) -> RootNames:
    """Raises DecodeError unless each of the three names is there exactly once."""
    try:
        words = command_line.rstrip(b"\0").decode("ascii").split()
    except UnicodeDecodeError as error:
        raise DecodeError("kernel image: the command line is not ASCII") from error
    return RootNames(
        _only(words, _ROOT_HASH, "roothash"),
        _only(words, _DATA_UUID, "systemd.verity_root_data"),
        _only(words, _HASH_UUID, "systemd.verity_root_hash"),
    )


def _find(head: bytes, wanted: bytes, file_size: int) -> Extent:
    if head[:2] != b"MZ":
        raise DecodeError("kernel image: no MZ header")
    (header,) = struct.unpack_from("<I", head, 0x3C)
    if head[header : header + 4] != b"PE\0\0":
        raise DecodeError("kernel image: no PE header")
    count, optional_size = struct.unpack_from("<2xH12xH", head, header + 4)
    table = header + 24 + optional_size
    for index in range(count):
        name, size, _address, stored, offset = struct.unpack_from("<8sIIII", head, table + 40 * index)
        if name.rstrip(b"\0") == wanted:
            length = min(size, stored)
            if offset + length > file_size:
                raise DecodeError("kernel image: the command line ends after the file")
            if length > MAX_COMMAND_LINE:
                raise DecodeError(f"kernel image: a command line of {length} bytes, at most {MAX_COMMAND_LINE}")
            return Extent(offset, length)
    raise DecodeError("kernel image: no .cmdline section")


def _only(words: list[str], pattern: re.Pattern[str], name: str) -> str:
    given = [word for word in words if word.startswith(f"{name}=")]
    if len(given) != 1:
        raise DecodeError(f"kernel image: {name} is named {len(given)} times in the command line, not once")
    match = pattern.fullmatch(given[0])
    if match is None:
        raise DecodeError(f"kernel image: {given[0]!r} is not of the form that this device uses")
    return match[1]
