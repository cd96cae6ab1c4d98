"""A proof that an entry is in a log, for offline use. Spec: c2sp.org/tlog-proof (@v1). Pure.

It holds everything but the entry and the keys: the entry's index, its inclusion proof, the log's checkpoint with
whatever cosignatures it has.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.core.errors import DecodeError, VerificationError
from appliance.formats.base64_strict import decode_base64, decode_hash, decode_number, encode_base64
from appliance.formats.checkpoint import Checkpoint, decode_checkpoint
from appliance.formats.merkle import leaf_hash, verify_inclusion
from appliance.formats.signed_note import MAX_NOTE_BYTES, Check, OpenedNote, VerifierKey, decode_note, open_note

HEADER = "c2sp.org/tlog-proof@v1"
MAX_HASHES = 63
MAX_EXTRA_BYTES = 64 << 10
MAX_PROOF_BYTES = MAX_NOTE_BYTES + 2 * MAX_EXTRA_BYTES
SUFFIX = ".tlog-proof"


@dataclass(frozen=True, slots=True)
class Proof:
    """index: of the entry. hashes: from the leaf's sibling up. note: the signed checkpoint. extra: unproven."""

    index: int
    hashes: tuple[bytes, ...]
    note: bytes
    extra: bytes | None = None


def encode_proof(proof: Proof) -> bytes:
    """Raises DecodeError when it would not read back."""
    extra = [] if proof.extra is None else [f"extra {encode_base64(proof.extra)}"]
    lines = [HEADER, *extra, f"index {proof.index}", *map(encode_base64, proof.hashes), "", ""]
    data = "\n".join(lines).encode() + proof.note
    if decode_proof(data) != proof:
        raise DecodeError("log proof: would not read back as it is")
    return data


def decode_proof(data: bytes) -> Proof:
    """Verifies nothing. Raises DecodeError."""
    if len(data) > MAX_PROOF_BYTES:
        raise DecodeError(f"log proof: {len(data)} bytes, at most {MAX_PROOF_BYTES} are allowed")
    head, gap, note = data.partition(b"\n\n")
    if not gap:
        raise DecodeError("log proof: no empty line before the checkpoint")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise DecodeError("log proof: not ASCII before the checkpoint") from error
    if lines.pop(0) != HEADER:
        raise DecodeError(f"log proof: does not begin with {HEADER}")
    extra = _extra(lines)
    if not lines or not lines[0].startswith("index "):
        raise DecodeError("log proof: no line with the index")
    index = decode_number(lines.pop(0).removeprefix("index "), "log proof: index")
    if len(lines) > MAX_HASHES:
        raise DecodeError(f"log proof: {len(lines)} hashes, at most {MAX_HASHES} are allowed")
    decode_checkpoint(decode_note(note).text)
    hashes = tuple(decode_hash(line, f"log proof: hash {number}") for number, line in enumerate(lines, 1))
    return Proof(index=index, hashes=hashes, note=note, extra=extra)


def verify_proof(
    proof: Proof, entry: bytes, keys: tuple[VerifierKey, ...], check: Check, *, origin: str
) -> tuple[Checkpoint, OpenedNote]:
    """The checkpoint that holds `entry`, and who signed it. Whether enough witnesses did is the caller's rule.

    Raises DecodeError or VerificationError.
    """
    opened = open_note(proof.note, keys, check)
    checkpoint = decode_checkpoint(opened.text)
    if checkpoint.origin != origin:
        raise VerificationError(f"log proof: of the log {checkpoint.origin}, not of {origin}")
    verify_inclusion(leaf_hash(entry), proof.index, checkpoint.size, proof.hashes, checkpoint.root)
    return checkpoint, opened


def _extra(lines: list[str]) -> bytes | None:
    if not lines or not lines[0].startswith("extra "):
        return None
    extra = decode_base64(lines.pop(0).removeprefix("extra "), "log proof: extra")
    if len(extra) > MAX_EXTRA_BYTES:
        raise DecodeError(f"log proof: {len(extra)} bytes of extra data, at most {MAX_EXTRA_BYTES} are allowed")
    return extra
