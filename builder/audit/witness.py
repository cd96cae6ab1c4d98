"""A witness: it remembers the largest tree it has seen of each log, and cosigns only what continues it.

Spec: c2sp.org/tlog-witness, c2sp.org/tlog-cosignature. What it remembers is one durable file per log, replaced under a
lock that all processes on the directory share, before a cosignature is given away.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from appliance.core.durable import write_durable
from appliance.core.errors import DecodeError, VerificationError
from appliance.formats.base64_strict import decode_hash, decode_number, encode_base64
from appliance.formats.checkpoint import Checkpoint, decode_checkpoint
from appliance.formats.merkle import EMPTY_ROOT, verify_consistency
from appliance.formats.signed_note import NoteSignature, VerifierKey, decode_note, open_note
from builder.audit.crypto import WitnessKey, check_signature

MAX_REQUEST = 64 << 10
MAX_PROOF = 63
SIZE_TYPE, TEXT_TYPE = "text/x.tlog.size", "text/plain; charset=utf-8"


@dataclass(frozen=True)
class Answer:
    """Of HTTP."""

    status: int
    body: bytes
    content_type: str = TEXT_TYPE


class ConflictError(VerificationError):
    """The old size is not the one that the witness knows. known: that one."""

    def __init__(self, message: str, known: int) -> None:
        super().__init__(message)
        self.known = known


class Witness:
    """directory: what it remembers. logs: origin -> keys that may sign that log's checkpoints."""

    def __init__(self, key: WitnessKey, directory: Path, logs: Mapping[str, Sequence[VerifierKey]]) -> None:
        self.key = key
        self._directory = directory
        self._logs = logs
        self._lock = Lock()
        directory.mkdir(parents=True, exist_ok=True)

    def known(self, origin: str) -> Checkpoint | None:
        """The largest tree that it cosigned. Raises DecodeError when its own file is damaged."""
        try:
            data = self._file(origin).read_bytes()
        except FileNotFoundError:
            return None
        return decode_checkpoint(decode_note(data).text)

    def cosign(self, note: bytes, old: int, proof: Sequence[bytes], *, now: int) -> NoteSignature:
        """A cosignature over `note`, remembered before it is returned. now: Unix seconds.

        Raises VerificationError (ConflictError when `old` is not what it knows), DecodeError.
        """
        text, checkpoint = self._opened(note)
        with self._exclusive():
            known = self.known(checkpoint.origin)
            size, root = (known.size, known.root) if known else (0, EMPTY_ROOT)
            if old != size:
                raise ConflictError(f"size {size} was cosigned last, not {old}", size)
            if checkpoint.size == size and checkpoint.root != root and known is not None:
                raise ConflictError(f"two roots of size {size}", size)
            verify_consistency(size, root, checkpoint.size, checkpoint.root, proof)
            write_durable(self._file(checkpoint.origin), note)
        return self.key.cosign(text, timestamp=now)

    def answer(self, request: bytes, *, now: int) -> Answer:
        """POST add-checkpoint."""
        try:
            old, proof, note = decode_request(request)
            checkpoint = decode_checkpoint(decode_note(note).text)
        except DecodeError as error:
            return _refusal(400, error.message)
        if checkpoint.origin not in self._logs:
            return _refusal(404, f"the log {checkpoint.origin} is not known here")
        if old > checkpoint.size:
            return _refusal(400, "the old size is above the checkpoint's")
        try:
            self._opened(note)
        except VerificationError as error:
            return _refusal(403, error.message)
        try:
            line = self.cosign(note, old, proof, now=now)
        except ConflictError as error:
            return Answer(409, b"%d\n" % error.known, SIZE_TYPE)
        except VerificationError as error:
            return _refusal(422, error.message)
        return Answer(200, signature_line(line).encode())

    def _opened(self, note: bytes) -> tuple[str, Checkpoint]:
        origin = decode_checkpoint(decode_note(note).text).origin
        opened = open_note(note, self._logs.get(origin, ()), check_signature)
        return opened.text, decode_checkpoint(opened.text)

    def _file(self, origin: str) -> Path:
        return self._directory / f"{hashlib.sha256(origin.encode()).hexdigest()}.checkpoint"

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        with self._lock:
            descriptor = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
            finally:
                os.close(descriptor)


def signature_line(line: NoteSignature) -> str:
    """As in a note, newline included."""
    return f"— {line.name} {encode_base64(line.key_id + line.signature)}\n"


def encode_request(old: int, proof: Sequence[bytes], note: bytes) -> bytes:
    """The body of add-checkpoint."""
    lines = [f"old {old}", *map(encode_base64, proof), "", ""]
    return "\n".join(lines).encode() + note


def decode_request(data: bytes) -> tuple[int, tuple[bytes, ...], bytes]:
    """(old size, proof, note). Raises DecodeError."""
    if len(data) > MAX_REQUEST:
        raise DecodeError(f"add-checkpoint: {len(data)} bytes, at most {MAX_REQUEST} are allowed")
    head, gap, note = data.partition(b"\n\n")
    if not gap or not head.startswith(b"old ") or not head.isascii():
        raise DecodeError("add-checkpoint: not an old size, a proof, an empty line and a checkpoint")
    first, *lines = head.decode().split("\n")
    if len(lines) > MAX_PROOF:
        raise DecodeError(f"add-checkpoint: {len(lines)} lines of proof, at most {MAX_PROOF} are allowed")
    old = decode_number(first.removeprefix("old "), "add-checkpoint: old size")
    return old, tuple(decode_hash(line, f"add-checkpoint: hash {n}") for n, line in enumerate(lines, 1)), note


def _refusal(status: int, reason: str) -> Answer:
    return Answer(status, f"{reason}\n".encode())
