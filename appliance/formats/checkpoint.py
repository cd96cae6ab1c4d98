"""Checkpoints of transparency logs: the text that a log signs. Spec: c2sp.org/tlog-checkpoint. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from appliance.core.errors import DecodeError
from appliance.formats.base64_strict import decode_hash, decode_number, encode_base64
from appliance.formats.merkle import EMPTY_ROOT

MAX_ORIGIN = 255
"""Characters. The specification has no bound; tlog-cosignature's later form has this one."""
MAX_EXTENSIONS = 16
MAX_EXTENSION = 1024

_BAD = re.compile("[\x00-\x1f]")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head. origin: which log. size: entries. root: RFC 6962 hash over them. extensions: opaque lines."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()


def encode_checkpoint(checkpoint: Checkpoint) -> str:
    """The note's text. Raises DecodeError when it would not read back."""
    head = (checkpoint.origin, str(checkpoint.size), encode_base64(checkpoint.root))
    text = "".join(f"{line}\n" for line in (*head, *checkpoint.extensions))
    if decode_checkpoint(text) != checkpoint:
        raise DecodeError("checkpoint: would not read back as it is")
    return text


def decode_checkpoint(text: str) -> Checkpoint:
    """Raises DecodeError."""
    if not text.endswith("\n"):
        raise DecodeError("checkpoint: the last line has no newline")
    lines = text[:-1].split("\n")
    if len(lines) < 3:
        raise DecodeError(f"checkpoint: {len(lines)} lines, at least 3 are needed")
    origin, size, root, *extensions = lines
    if not origin or len(origin) > MAX_ORIGIN or _BAD.search(origin):
        raise DecodeError(f"checkpoint: an origin has 1 to {MAX_ORIGIN} characters and no control character")
    if len(extensions) > MAX_EXTENSIONS:
        raise DecodeError(f"checkpoint: {len(extensions)} extension lines, at most {MAX_EXTENSIONS} are allowed")
    for line in extensions:
        if not line or len(line) > MAX_EXTENSION or _BAD.search(line):
            raise DecodeError(f"checkpoint: an extension line has 1 to {MAX_EXTENSION} characters, none of control")
    checkpoint = Checkpoint(
        origin=origin,
        size=decode_number(size, "checkpoint: size"),
        root=decode_hash(root, "checkpoint: root"),
        extensions=tuple(extensions),
    )
    if checkpoint.size == 0 and checkpoint.root != EMPTY_ROOT:
        raise DecodeError("checkpoint: the root of an empty tree is the SHA-256 of nothing")
    return checkpoint
