"""Length-prefixed messages in a byte stream: four bytes, big-endian, then the body. Pure: no file, no socket."""

from __future__ import annotations

from appliance.core.errors import DecodeError

PREFIX_BYTES = 4


class LengthPrefixed:
    """Collects bytes and gives back whole bodies.

    what: how messages are called in errors. limit: largest body in bytes; an empty body is refused as well.
    After a DecodeError the stream has lost its place: every later call raises the same error.
    """

    def __init__(self, what: str, limit: int) -> None:
        self._what = what
        self._limit = limit
        self._buffer = bytearray()
        self._broken: str | None = None

    def feed(self, data: bytes) -> None:
        """Add what arrived, in order."""
        self._buffer += data

    def take(self) -> bytes | None:
        """The next whole body, or None when more bytes are needed. Raises DecodeError on an impossible length."""
        if self._broken is not None:
            raise DecodeError(self._broken)
        if len(self._buffer) < PREFIX_BYTES:
            return None
        size = int.from_bytes(self._buffer[:PREFIX_BYTES], "big")
        if not 1 <= size <= self._limit:
            self._broken = f"{self._what}: a length of {size} bytes, 1 to {self._limit} are allowed"
            raise DecodeError(self._broken)
        end = PREFIX_BYTES + size
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[PREFIX_BYTES:end])
        del self._buffer[:end]
        return body

    def pending(self) -> int:
        """Bytes of an unfinished message."""
        return len(self._buffer)
