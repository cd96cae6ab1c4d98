"""Frames on the way in. Spec: docs/specs/frame-channel.md (v1).

A message is its length (four bytes, big-endian), a header of 28 bytes and the pixels: RGB, eight bits each, row by row
without padding. The decoder never looks for a new start in a stream that went wrong: it raises, and the reader opens
the channel again.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from appliance.core.errors import DecodeError
from appliance.formats.framing import PREFIX_BYTES

MAGIC = b"ESFR"
VERSION = 1
FOURCC_RGB = b"RGB3"
MIN_SIDE = 16
MAX_SIDE = 8192
MAX_SEQUENCE = 2**64 - 1
_HEADER = struct.Struct(">4sHH4sIIQ")  # magic, version, reserved, fourcc, width, height, sequence
HEADER_BYTES = _HEADER.size


@dataclass(frozen=True)
class Frame:
    """One picture. width, height: pixels, MIN_SIDE to MAX_SIDE. pixels: width * height * 3 bytes, RGB.

    sequence: chosen by the source, 0 to 2**64 - 1; the device only repeats it.
    """

    sequence: int
    width: int
    height: int
    pixels: bytes


def encode_frame(frame: Frame) -> bytes:
    """The message for `frame`, with its length prefix. Raises DecodeError when it breaks a bound."""
    _check_shape(frame.width, frame.height)
    size = frame.width * frame.height * 3
    if len(frame.pixels) != size:
        raise DecodeError(f"frame: {len(frame.pixels)} bytes of pixels, {frame.width}x{frame.height} needs {size}")
    if not 0 <= frame.sequence <= MAX_SEQUENCE:
        raise DecodeError(f"frame: sequence {frame.sequence} is not an unsigned 64-bit number")
    header = _HEADER.pack(MAGIC, VERSION, 0, FOURCC_RGB, frame.width, frame.height, frame.sequence)
    return (HEADER_BYTES + size).to_bytes(PREFIX_BYTES, "big") + header + frame.pixels


class FrameDecoder:
    """Cuts a byte stream into frames.

    max_pixels: larger frames are refused. A header is judged as soon as it is there, before its pixels are collected.
    After a DecodeError every later call raises the same error.
    """

    def __init__(self, *, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._buffer = bytearray()
        self._broken: str | None = None

    def feed(self, data: bytes) -> None:
        """Add what arrived, in order."""
        self._buffer += data

    def take(self) -> Frame | None:
        """The next whole frame, or None when more bytes are needed. Raises DecodeError."""
        if self._broken is not None:
            raise DecodeError(self._broken)
        try:
            return self._take()
        except DecodeError as error:
            self._broken = error.message
            self._buffer.clear()
            raise

    def _take(self) -> Frame | None:
        start = PREFIX_BYTES + HEADER_BYTES
        if len(self._buffer) < start:
            return None
        size = int.from_bytes(self._buffer[:PREFIX_BYTES], "big")
        width, height, sequence = _decode_header(bytes(self._buffer[PREFIX_BYTES:start]))
        expected = HEADER_BYTES + width * height * 3
        if size != expected:
            raise DecodeError(f"frame: a length of {size} bytes, {width}x{height} needs {expected}")
        if width * height > self._max_pixels:
            raise DecodeError(f"frame: {width}x{height} is more than {self._max_pixels} pixels")
        end = PREFIX_BYTES + size
        if len(self._buffer) < end:
            return None
        pixels = bytes(memoryview(self._buffer)[start:end])
        del self._buffer[:end]
        return Frame(sequence=sequence, width=width, height=height, pixels=pixels)


def _decode_header(data: bytes) -> tuple[int, int, int]:
    magic, version, reserved, fourcc, width, height, sequence = _HEADER.unpack(data)
    if magic != MAGIC:
        raise DecodeError(f"frame: starts with {magic.hex()}, expected {MAGIC.hex()}")
    if version != VERSION:
        raise DecodeError(f"frame: version {version}, this reader knows {VERSION}")
    if reserved != 0:
        raise DecodeError(f"frame: reserved bytes are {reserved}, expected 0")
    if fourcc != FOURCC_RGB:
        raise DecodeError(f"frame: pixel format {fourcc.hex()}, expected {FOURCC_RGB.hex()} (RGB3)")
    _check_shape(width, height)
    return width, height, sequence


def _check_shape(width: int, height: int) -> None:
    for name, side in (("width", width), ("height", height)):
        if not MIN_SIDE <= side <= MAX_SIDE:
            raise DecodeError(f"frame: {name} {side}, {MIN_SIDE} to {MAX_SIDE} are allowed")
