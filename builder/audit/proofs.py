"""Proofs about one entry or two checkpoints, made from a directory's tiles and checked without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from appliance.core.errors import InputError, Place, VerificationError
from appliance.formats.checkpoint import Checkpoint, decode_checkpoint
from appliance.formats.merkle import inclusion_proof, leaf_hash, root_hash, verify_inclusion
from appliance.formats.signed_note import OpenedNote, VerifierKey, decode_note
from appliance.formats.tlog_proof import Proof, verify_proof
from appliance.formats.tlog_tiles import TILE_WIDTH
from builder.audit.crypto import check_signature
from builder.audit.directory import LogDirectory
from builder.audit.policy import Policy


def prove_entry(path: Path, index: int) -> Proof:
    """Inclusion of an entry under the directory's checkpoint; the entry itself is the proof's extra data.

    Verified against the checkpoint's root before it is given away. Raises InputError, DecodeError, VerificationError.
    """
    log = LogDirectory(path)
    note, checkpoint = log.note(), log.checkpoint()
    if not 0 <= index < checkpoint.size:
        raise InputError(f"there is no entry {index}: the log has {checkpoint.size}", place=Place(str(path)))
    number, place = divmod(index, TILE_WIDTH)
    entry = log.entries(number, min(TILE_WIDTH, checkpoint.size - number * TILE_WIDTH))[place]
    hashes = inclusion_proof(index, checkpoint.size, log.nodes(checkpoint.size))
    verify_inclusion(leaf_hash(entry), index, checkpoint.size, hashes, checkpoint.root)
    return Proof(index=index, hashes=hashes, note=note, extra=entry)


def check_proof(
    proof: Proof, entry: bytes | None, keys: Sequence[VerifierKey], policy: Policy
) -> tuple[bytes, Checkpoint, OpenedNote]:
    """The entry that the proof proves, its checkpoint, and who signed it. entry: None takes it from the extra data.

    Raises InputError when there is no entry, VerificationError.
    """
    data = proof.extra if entry is None else entry
    if data is None:
        raise InputError("the proof does not hold its entry", hint="give it with --entry FILE")
    known = (*keys, *policy.witnesses.values())
    origins = sorted({key.name for key in keys})
    said = decode_checkpoint(decode_note(proof.note).text).origin
    if said not in origins:
        raise VerificationError(f"log proof: of the log {said}, not of {' or '.join(origins)}")
    checkpoint, opened = verify_proof(proof, data, known, check_signature, origin=said)
    signers = [verified.key for verified in opened.verified]
    if not any(key in signers for key in keys):
        raise VerificationError("log proof: the log's key did not sign its checkpoint")
    if not policy.is_met(signers):
        raise VerificationError(f"log proof: not enough witnesses: needed {policy.missing(signers)}")
    return data, checkpoint, opened


@dataclass(frozen=True)
class Difference:
    """kind: same, grown, smaller (the new one is a beginning of the old one), forked, another-log, unknown.

    fork: index of the first entry that is not the same in both; None where it cannot be told.
    """

    kind: str
    origins: tuple[str, str]
    sizes: tuple[int, int]
    fork: int | None = None
    detail: str = ""

    @property
    def ok(self) -> bool:
        """The new one is the old one, or continues it."""
        return self.kind in ("same", "grown")


def compare(old: Path, new: Path) -> Difference:
    """Two copies of a log, or checkpoints of it: directories, or files with a signed checkpoint. Unverified.

    Raises InputError, DecodeError.
    """
    one, other = _checkpoint(old), _checkpoint(new)
    origins, sizes = (one.origin, other.origin), (one.size, other.size)
    if one.origin != other.origin:
        return Difference("another-log", origins, sizes, detail="the origins are not the same")
    if one.size == other.size:
        kind = "same" if one.root == other.root else "forked"
    else:
        larger, small = (new, one) if one.size < other.size else (old, other)
        if not larger.is_dir():
            detail = "two sizes, and the larger one has no tiles to prove it with: give its directory"
            return Difference("unknown", origins, sizes, detail=detail)
        large = other if larger == new else one
        log = LogDirectory(larger)
        if root_hash(large.size, log.nodes(large.size)) != large.root:
            detail = f"the tiles of {larger} are not those of its checkpoint: verify it"
            return Difference("unknown", origins, sizes, detail=detail)
        same = root_hash(small.size, log.nodes(large.size)) == small.root
        kind = ("grown" if larger == new else "smaller") if same else "forked"
    fork = _first_difference(old, new, min(sizes)) if kind == "forked" else None
    return Difference(kind, origins, sizes, fork)


def _checkpoint(path: Path) -> Checkpoint:
    if path.is_dir():
        return LogDirectory(path).checkpoint()
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"cannot read the checkpoint: {reason}", place=Place(str(path))) from error
    return decode_checkpoint(decode_note(data).text)


def _first_difference(old: Path, new: Path, size: int) -> int | None:
    """By leaf tiles; None when one has none."""
    if not (old.is_dir() and new.is_dir()):
        return None
    one, other = LogDirectory(old), LogDirectory(new)
    for number in range(-(-size // TILE_WIDTH)):
        width = min(TILE_WIDTH, size - number * TILE_WIDTH)
        pairs = zip_longest(_leaves(one, number, width), _leaves(other, number, width))
        for place, (left, right) in enumerate(pairs):
            if left != right:
                return number * TILE_WIDTH + place
    return None


def _leaves(log: LogDirectory, number: int, width: int) -> list[bytes]:
    size = log.checkpoint().size
    return log.tile(0, number, max(width, min(TILE_WIDTH, size - number * TILE_WIDTH)))[:width]
