"""A few commands of TPM 2.0, as bytes (TPM 2.0 Library, parts 2 and 3): its non-volatile memory, and its PCRs.

No library: tpm2_pytss would bring a YAML reader, cffi and ten packages more for them (docs/adr/0017). Every command is
authorised by an empty password. Pure but for `transmit`, which takes a command and returns the TPM's answer, and for
`open_tpm`.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path

from appliance.core.errors import DecodeError, EdgesealError

MAX_ANSWER_BYTES = 4096
TPM_DEVICE = Path("/dev/tpmrm0")
OWNER = 0x4000_0001
BUSY_PAUSE_S = 0.5
BUSY_ATTEMPTS = 120  # a TPM that paces writes to its memory may want a while

NO_SESSION, SESSION = 0x8001, 0x8002
_DEFINE, _INCREMENT, _WRITE, _WRITE_LOCK, _READ, _READ_PUBLIC = 0x12A, 0x134, 0x137, 0x138, 0x14E, 0x169
_PCR_READ = 0x17E
SHA256 = 0x000B
PASSWORD = struct.pack(">IIHBH", 9, 0x4000_0009, 0, 0, 0)  # one session, the password one: no nonce, no password
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
            answer = self.ask("describe an index", NO_SESSION, _READ_PUBLIC, struct.pack(">I", handle))
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
        public = struct.pack(">IHIHH", index.handle, SHA256, index.attributes, 0, index.size)
        body = struct.pack(">I", OWNER) + PASSWORD + struct.pack(">HH", 0, len(public)) + public
        self.ask("define an index", SESSION, _DEFINE, body)

    def increment(self, handle: int) -> None:
        """Add 1 to a counter. The first time it becomes 1 more than any counter that this TPM had and lost."""
        self.ask("raise a counter", SESSION, _INCREMENT, by_itself(handle))

    def read(self, handle: int, size: int) -> bytes:
        """The first `size` bytes of an index that was written."""
        answer = self.ask("read an index", SESSION, _READ, by_itself(handle) + struct.pack(">HH", size, 0))
        if len(answer) < 6 + size or struct.unpack_from(">IH", answer) != (2 + size, size):
            raise DecodeError(f"TPM: not the {size} bytes that were asked for")
        return answer[6 : 6 + size]

    def write(self, handle: int, data: bytes) -> None:
        """Write an ordinary index from its beginning."""
        body = by_itself(handle) + struct.pack(">H", len(data)) + data + struct.pack(">H", 0)
        self.ask("write an index", SESSION, _WRITE, body)

    def lock(self, handle: int) -> None:
        """Never let an index with WRITE_DEFINE be written again, as long as it is defined."""
        self.ask("lock an index", SESSION, _WRITE_LOCK, by_itself(handle))

    def pcrs(self, count: int) -> list[bytes]:
        """The first `count` PCRs of the SHA-256 bank, 32 bytes each; at most 24. Raises DecodeError without one."""
        found: dict[int, bytes] = {}
        while len(found) < count:
            wanted = sum(1 << number for number in range(count) if number not in found)
            selection = struct.pack(">IHB", 1, SHA256, 3) + wanted.to_bytes(3, "little")
            got = _decode_pcrs(self.ask("read PCRs", NO_SESSION, _PCR_READ, selection))
            if not got or not set(got) <= {number for number in range(count) if wanted >> number & 1}:
                raise DecodeError("TPM: it has no SHA-256 bank of PCRs")
            found |= got
        return [found[number] for number in range(count)]

    def ask(self, what: str, tag: int, code: int, body: bytes) -> bytes:
        """What follows the answer's header. what: for the error. Raises TpmRefusalError, DecodeError."""
        command = _HEADER.pack(tag, _HEADER.size + len(body), code) + body
        for _ in range(BUSY_ATTEMPTS):
            answered, answer = _decode(self._transmit(command))
            if answered not in _BUSY:
                break
            self._pause(BUSY_PAUSE_S)
        if answered:
            raise TpmRefusalError(what, answered)
        return answer


def open_tpm(device: Path = TPM_DEVICE) -> Transmit | None:
    """How to ask this machine's TPM; None when it has none. Raises EdgesealError when it cannot be opened."""
    try:
        descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EdgesealError(f"cannot open the TPM {device}: {error.strerror}") from error

    def transmit(command: bytes) -> bytes:
        try:
            os.write(descriptor, command)  # the kernel takes a command whole or not at all
            return os.read(descriptor, MAX_ANSWER_BYTES)
        except OSError as error:
            raise EdgesealError(f"the TPM does not answer: {error.strerror}") from error

    return transmit


def by_itself(handle: int) -> bytes:
    """Authorisation of an index by its own, empty password."""
    return struct.pack(">II", handle, handle) + PASSWORD


def _decode_pcrs(answer: bytes) -> dict[int, bytes]:
    """number -> value, as the answer's own selection says."""
    try:
        _, banks, algorithm, width = struct.unpack_from(">IIHB", answer)
        if (banks, algorithm, width) != (1, SHA256, 3):
            return {}
        numbers = [number for number in range(24) if int.from_bytes(answer[11:14], "little") >> number & 1]
        (count,) = struct.unpack_from(">I", answer, 14)
    except struct.error as error:
        raise DecodeError("TPM: the PCRs are cut short") from error
    if count != len(numbers) or len(answer) != 18 + 34 * count:
        raise DecodeError("TPM: not as many PCRs as it says")
    return {number: answer[20 + 34 * place : 52 + 34 * place] for place, number in enumerate(numbers)}


def _decode(answer: bytes) -> tuple[int, bytes]:
    """(response code, what follows the header)."""
    if len(answer) < _HEADER.size:
        raise DecodeError(f"TPM: an answer of {len(answer)} bytes")
    _, size, code = _HEADER.unpack_from(answer)
    if size != len(answer):
        raise DecodeError(f"TPM: an answer of {len(answer)} bytes says that it has {size}")
    return code, answer[_HEADER.size :]
