"""Five commands of TPM 2.0 on indexes of its non-volatile memory, as bytes (TPM 2.0 Library, parts 2 and 3).

No library: tpm2_pytss would bring a YAML reader, cffi and ten packages more for them (docs/adr/0017). Every command is
authorised by an empty password. Pure but for `transmit`, which takes a command and returns the TPM's answer.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntFlag

from appliance.core.errors import DecodeError, EdgesealError

MAX_ANSWER_BYTES = 4096
OWNER = 0x4000_0001
BUSY_PAUSE_S = 0.5
BUSY_ATTEMPTS = 120  # a TPM that paces writes to its memory may want a while

_NO_SESSION, _SESSION = 0x8001, 0x8002
_DEFINE, _INCREMENT, _WRITE, _WRITE_LOCK, _READ, _READ_PUBLIC = 0x12A, 0x134, 0x137, 0x138, 0x14E, 0x169
_SHA256 = 0x000B
_PASSWORD = struct.pack(">IIHBH", 9, 0x4000_0009, 0, 0, 0)  # one session, the password one: no nonce, no password
_HEADER = struct.Struct(">HII")
_UNDEFINED = frozenset({0x18B, 0x28B})  # TPM_RC_HANDLE, of the first or the second handle
_BUSY = frozenset({0x908, 0x90A, 0x920, 0x922, 0x923})  # YIELDED, TESTING, NV_RATE, RETRY, NV_UNAVAILABLE
_WORDS = {
    0x100: "it was not started",
    0x101: "it has failed its self-test",
    0x148: "the index is locked",
    0x149: "the index does not let us",
    0x14B: "its memory is full",
    0x14C: "the index was defined meanwhile",
    0x921: "it is locked out",
    0x9A2: "its owner has a password",
    **dict.fromkeys(_BUSY, "it stays busy"),
}

Transmit = Callable[[bytes], bytes]
Pause = Callable[[float], None]


class Attribute(IntFlag):
    """TPMA_NV, what we use of it. COUNTER is its type field."""

    AUTH_WRITE = 1 << 2
    COUNTER = 1 << 4
    WRITE_LOCKED = 1 << 11
    WRITE_DEFINE = 1 << 13
    OWNER_READ = 1 << 17
    AUTH_READ = 1 << 18
    NO_LOCKOUT = 1 << 25
    WRITTEN = 1 << 29


@dataclass(frozen=True)
class Index:
    """An index of the memory. size: bytes."""

    handle: int
    attributes: int
    size: int


class TpmRefusalError(EdgesealError):
    """The TPM answered with an error. code: TPM_RC."""

    def __init__(self, what: str, code: int) -> None:
        super().__init__(f"the TPM cannot {what}: {_WORDS.get(code, 'error')} (0x{code:03x})")
        self.code = code


class Tpm:
    """Asks a TPM. pause: sleeps between attempts while it is busy."""

    def __init__(self, transmit: Transmit, *, pause: Pause) -> None:
        self._transmit = transmit
        self._pause = pause

    def index(self, handle: int) -> Index | None:
        """What is defined under `handle`; None when nothing is."""
        try:
            answer = self._ask("describe an index", _NO_SESSION, _READ_PUBLIC, struct.pack(">I", handle))
        except TpmRefusalError as error:
            if error.code in _UNDEFINED:
                return None
            raise
        try:
            size, found, _, attributes, policy = struct.unpack_from(">HIHIH", answer)
            (data_size,) = struct.unpack_from(">H", answer, 14 + policy)
        except struct.error as error:
            raise DecodeError("TPM: the description of an index is cut short") from error
        if (found, size) != (handle, 14 + policy):
            raise DecodeError("TPM: the description of an index is another one's")
        return Index(found, attributes, data_size)

    def define(self, index: Index) -> None:
        """Define an index with an empty password, by the owner's right."""
        public = struct.pack(">IHIHH", index.handle, _SHA256, index.attributes, 0, index.size)
        body = struct.pack(">I", OWNER) + _PASSWORD + struct.pack(">HH", 0, len(public)) + public
        self._ask("define an index", _SESSION, _DEFINE, body)

    def increment(self, handle: int) -> None:
        """Add 1 to a counter. The first time it becomes 1 more than any counter that this TPM had and lost."""
        self._ask("raise a counter", _SESSION, _INCREMENT, _by_itself(handle))

    def read(self, handle: int, size: int) -> bytes:
        """The first `size` bytes of an index that was written."""
        answer = self._ask("read an index", _SESSION, _READ, _by_itself(handle) + struct.pack(">HH", size, 0))
        if len(answer) < 6 + size or struct.unpack_from(">IH", answer) != (2 + size, size):
            raise DecodeError(f"TPM: not the {size} bytes that were asked for")
        return answer[6 : 6 + size]

    def write(self, handle: int, data: bytes) -> None:
        """Write an ordinary index from its beginning."""
        body = _by_itself(handle) + struct.pack(">H", len(data)) + data + struct.pack(">H", 0)
        self._ask("write an index", _SESSION, _WRITE, body)

    def lock(self, handle: int) -> None:
        """Never let an index with WRITE_DEFINE be written again, as long as it is defined."""
        self._ask("lock an index", _SESSION, _WRITE_LOCK, _by_itself(handle))

    def _ask(self, what: str, tag: int, code: int, body: bytes) -> bytes:
        command = _HEADER.pack(tag, _HEADER.size + len(body), code) + body
        for _ in range(BUSY_ATTEMPTS):
            answered, answer = _decode(self._transmit(command))
            if answered not in _BUSY:
                break
            self._pause(BUSY_PAUSE_S)
        if answered:
            raise TpmRefusalError(what, answered)
        return answer


def _by_itself(handle: int) -> bytes:
    """Authorisation of an index by its own, empty password."""
    return struct.pack(">II", handle, handle) + _PASSWORD


def _decode(answer: bytes) -> tuple[int, bytes]:
    """(response code, what follows the header)."""
    if len(answer) < _HEADER.size:
        raise DecodeError(f"TPM: an answer of {len(answer)} bytes")
    _, size, code = _HEADER.unpack_from(answer)
    if size != len(answer):
        raise DecodeError(f"TPM: an answer of {len(answer)} bytes says that it has {size}")
    return code, answer[_HEADER.size :]
