"""What a log says about keys and about the log before it: it proves nothing by itself, but must not be wrong."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from appliance.core.errors import EdgesealError
from appliance.formats.checkpoint import decode_checkpoint
from appliance.formats.signed_note import VerifierKey, decode_note, decode_vkey, open_note
from builder.audit.crypto import check_signature
from builder.audit.finding import Finding

VKEY_NAME = "vkey"


def check_vkey_file(directory: Path, known: Collection[VerifierKey], names: Collection[str]) -> list[Finding]:
    """Keys of these names in the file beside the log must be among those that are known."""
    path = directory / VKEY_NAME
    if not path.is_file():
        return []
    try:
        there = [decode_vkey(line) for line in path.read_bytes().decode().removesuffix("\n").split("\n")]
    except (EdgesealError, UnicodeDecodeError) as error:
        return [Finding(VKEY_NAME, error.message if isinstance(error, EdgesealError) else "not text")]
    return [
        Finding(VKEY_NAME, f"names the key {key.name}+{key.key_id.hex()}, which is not this log's")
        for key in there
        if key.name in names and key not in known
    ]


def check_previous(text: str, keys: Sequence[VerifierKey], *, file: str) -> tuple[list[Finding], list[str]]:
    """The last checkpoint of the log before this one. Verified where its key is among `keys`."""
    if not text:
        return [], []
    try:
        checkpoint = decode_checkpoint(decode_note(text.encode()).text)
        own = [key for key in keys if key.name == checkpoint.origin]
        if own:
            open_note(text.encode(), own, check_signature)
    except EdgesealError as error:
        return [Finding(file, f"the checkpoint of the log before this one: {error.message}", 0)], []
    worth = "its signature holds" if own else "its key was not given"
    return [], [f"continues the log {checkpoint.origin} of {checkpoint.size} entries; {worth}"]
