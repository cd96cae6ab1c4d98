"""Have a witness cosign a log's directory: any that speaks c2sp.org/tlog-witness."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from appliance.core.durable import write_durable
from appliance.core.errors import DecodeError, EdgesealError, VerificationError
from appliance.formats.base64_strict import decode_number
from appliance.formats.checkpoint import Checkpoint
from appliance.formats.merkle import consistency_proof
from appliance.formats.signed_note import NoteSignature, VerifierKey, add_signatures, decode_signatures, open_note
from appliance.formats.tlog_tiles import CHECKPOINT_NAME
from builder.audit.crypto import check_signature
from builder.audit.directory import LogDirectory
from builder.audit.witness import encode_request, signature_line

Post = Callable[[bytes], tuple[int, bytes]]
"""Sends the body of add-checkpoint; status and body of the answer. Raises EdgesealError when there is none."""


class ForkSeenError(VerificationError):
    """The witness knows another history, or a longer one."""


def submit(path: Path, witnesses: Sequence[VerifierKey], post: Post, *, old: int | None = None) -> list[NoteSignature]:
    """Get cosignatures over the directory's checkpoint, verify them, and add them to its signatures, durably.

    witnesses: keys of which at least one must answer. old: the size that the witness saw last; None asks it.
    Raises ForkSeenError when it refuses this history, EdgesealError when it refuses for another reason.
    """
    log = LogDirectory(path)
    note, checkpoint = log.note(), log.checkpoint()
    status, body = _ask(log, checkpoint, note, old or 0, post)
    if status == 409 and (known := _known(body)) != (old or 0):
        if known > checkpoint.size:
            raise ForkSeenError(f"the witness has seen {known} entries of this log, which now has {checkpoint.size}")
        status, body = _ask(log, checkpoint, note, known, post)
    if status in (409, 422):
        raise ForkSeenError(f"the witness knows another history of {checkpoint.origin}: {_words(status, body)}")
    if status != 200:
        raise EdgesealError(f"the witness refused the checkpoint: {_words(status, body)}")
    lines = _verified(body, note, witnesses)
    write_durable(path / CHECKPOINT_NAME, add_signatures(note, lines))
    return lines


def _ask(log: LogDirectory, checkpoint: Checkpoint, note: bytes, old: int, post: Post) -> tuple[int, bytes]:
    proof = consistency_proof(old, checkpoint.size, log.nodes(checkpoint.size)) if old <= checkpoint.size else ()
    return post(encode_request(old, proof, note))


def _known(body: bytes) -> int:
    try:
        return decode_number(body.decode().removesuffix("\n"), "the witness's size")
    except (DecodeError, UnicodeDecodeError) as error:
        raise EdgesealError("the witness answered 409 without the size that it knows") from error


def _verified(body: bytes, note: bytes, witnesses: Sequence[VerifierKey]) -> list[NoteSignature]:
    text = note.rpartition(b"\n\n")[0] + b"\n\n"
    try:
        lines = decode_signatures(body.decode())
    except (DecodeError, UnicodeDecodeError) as error:
        raise EdgesealError("the witness answered with something that is no signature") from error
    known = {(key.name, key.key_id) for key in witnesses}
    taken = [line for line in lines if (line.name, line.key_id) in known]
    if not taken:
        names = ", ".join(f"{line.name}+{line.key_id.hex()}" for line in lines)
        raise VerificationError(f"the answer is signed by {names}, which is no witness that you named")
    open_note(text + "".join(map(signature_line, taken)).encode(), witnesses, check_signature)
    return taken


def _words(status: int, body: bytes) -> str:
    return f"{status} {body[:200].decode(errors='replace').strip()}"
