"""Notes, checkpoints, bundles, proofs and parts: one spelling each, and no changed byte is taken for the original."""

from __future__ import annotations

import contextlib
import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.core.canonical import canonical_json
from appliance.core.errors import DecodeError, VerificationError
from appliance.formats.audit_event import AuditEvent
from appliance.formats.audit_log import LogEntry, Sender, decode_entry, encode_entry
from appliance.formats.audit_part import AuditPart, decode_part, encode_part
from appliance.formats.checkpoint import Checkpoint, decode_checkpoint, encode_checkpoint
from appliance.formats.merkle import EMPTY_ROOT
from appliance.formats.signed_note import (
    COSIGNATURE,
    ECDSA,
    ED25519,
    Note,
    NoteSignature,
    VerifierKey,
    add_signatures,
    cosign,
    decode_note,
    decode_vkey,
    encode_note,
    encode_vkey,
    open_note,
    sign_note,
)
from appliance.formats.tlog_proof import Proof, decode_proof, encode_proof
from appliance.formats.tlog_tiles import Tile, decode_bundle, encode_bundle, parse_path

TEXT = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=30)
NAMES = st.from_regex(r"[a-z]{1,12}(\.[a-z0-9]{1,8}){0,2}(/[a-z0-9-]{1,9}){0,2}", fullmatch=True)
HASHES = st.binary(min_size=32, max_size=32)
LINES = st.builds(
    NoteSignature, name=NAMES, key_id=st.binary(min_size=4, max_size=4), signature=st.binary(min_size=1, max_size=80)
)
NOTES = st.builds(
    Note,
    text=st.lists(TEXT, min_size=1, max_size=5).map(lambda lines: "\n".join(lines) + "\n"),
    signatures=st.lists(LINES, min_size=1, max_size=5).map(tuple),
)
CHECKPOINTS = st.builds(
    Checkpoint,
    origin=NAMES,
    size=st.integers(1, 2**63 - 1),
    root=HASHES,
    extensions=st.lists(TEXT.filter(bool), max_size=2).map(tuple),
)
CHECKPOINT_NOTES = st.builds(
    lambda checkpoint, lines: encode_note(Note(encode_checkpoint(checkpoint), tuple(lines))),
    CHECKPOINTS,
    st.lists(LINES, min_size=1, max_size=3),
)
KEYS = st.one_of(
    st.builds(VerifierKey, name=NAMES, kind=st.sampled_from([ED25519, COSIGNATURE]), key=HASHES),
    st.builds(VerifierKey, name=NAMES, kind=st.just(ECDSA), key=st.binary(min_size=1, max_size=200)),
)


def sign_as(key: VerifierKey, message: bytes) -> bytes:
    """A signature that only this key and message have."""
    return hashlib.sha512(bytes([key.kind]) + key.key + message).digest()


def check(key: VerifierKey, signature: bytes, message: bytes) -> None:
    if signature != sign_as(key, message):
        raise VerificationError(f"the signature of {key.name} is wrong")


@given(NOTES)
def test_notes_read_back(note: Note) -> None:
    assert decode_note(encode_note(note)) == note


@given(CHECKPOINTS)
def test_checkpoints_read_back(checkpoint: Checkpoint) -> None:
    assert decode_checkpoint(encode_checkpoint(checkpoint)) == checkpoint


@given(KEYS)
def test_verifier_keys_read_back(key: VerifierKey) -> None:
    assert decode_vkey(encode_vkey(key)) == key


@given(CHECKPOINTS, st.integers(0, 2**63 - 1), HASHES, HASHES, LINES)
def test_a_cosigned_checkpoint_opens(
    checkpoint: Checkpoint, timestamp: int, one: bytes, other: bytes, stranger: NoteSignature
) -> None:
    log = VerifierKey("the/log", ED25519, one)
    witness = VerifierKey("the/witness", COSIGNATURE, other)
    text = encode_checkpoint(checkpoint)
    note = sign_note(text, [(log, lambda message: sign_as(log, message))])
    line = cosign(text, witness, lambda message: sign_as(witness, message), timestamp=timestamp)
    note = add_signatures(note, [line, stranger, line])
    opened = open_note(note, [log, witness], check)
    assert opened.text == text and opened.unknown == (stranger,)
    assert [(found.key, found.timestamp) for found in opened.verified] == [(log, None), (witness, timestamp)]


@given(CHECKPOINTS, HASHES, st.data())
def test_no_changed_note_opens_as_another_text(checkpoint: Checkpoint, key: bytes, data: st.DataObject) -> None:
    log = VerifierKey("the/log", ED25519, key)
    note = sign_note(encode_checkpoint(checkpoint), [(log, lambda message: sign_as(log, message))])
    at, bit = data.draw(st.integers(0, len(note) - 1)), data.draw(st.integers(0, 7))
    changed = bytearray(note)
    changed[at] ^= 1 << bit
    with pytest.raises((DecodeError, VerificationError)):
        open_note(bytes(changed), [log], check)


@given(st.binary(max_size=300) | TEXT.map(str.encode))
def test_no_bytes_do_more_than_be_refused(data: bytes) -> None:
    for decode in (decode_note, decode_proof, decode_part, lambda data: decode_entry(data, index=0)):
        with contextlib.suppress(DecodeError):
            decode(data)
    with contextlib.suppress(DecodeError):
        decode_bundle(data, 3)
    for decode_text in (decode_checkpoint, decode_vkey, parse_path):
        with contextlib.suppress(DecodeError):
            decode_text(data.decode(errors="replace"))


@given(st.lists(st.binary(max_size=400), min_size=1, max_size=256), st.data())
def test_bundles_read_back_and_only_whole(entries: list[bytes], data: st.DataObject) -> None:
    bundle = encode_bundle(entries)
    assert decode_bundle(bundle, len(entries)) == entries
    cut = data.draw(st.integers(0, len(bundle) - 1))
    with pytest.raises(DecodeError):
        decode_bundle(bundle[:cut], len(entries))
    with pytest.raises(DecodeError):
        decode_bundle(bundle + b"\0\0", len(entries))


@given(st.integers(-1, 63), st.integers(0, 10**20), st.integers(1, 256))
def test_paths_read_back(level: int, index: int, width: int) -> None:
    tile = Tile(level, index, width)
    assert parse_path(tile.path) == tile


@given(
    st.builds(
        Proof,
        index=st.integers(0, 2**63 - 1),
        hashes=st.lists(HASHES, max_size=63).map(tuple),
        note=CHECKPOINT_NOTES,
        extra=st.none() | st.binary(max_size=90),
    )
)
def test_proofs_read_back(proof: Proof) -> None:
    assert decode_proof(encode_proof(proof)) == proof


@given(CHECKPOINT_NOTES, st.lists(st.binary(min_size=1, max_size=99), max_size=5), st.data())
def test_parts_read_back(note: bytes, entries: list[bytes], data: st.DataObject) -> None:
    checkpoint = decode_checkpoint(decode_note(note).text)
    size = min(checkpoint.size, 2**53 - 1)
    checkpoint = Checkpoint(checkpoint.origin, size, checkpoint.root)
    note = encode_note(Note(encode_checkpoint(checkpoint), decode_note(note).signatures))
    entries = entries[:size]
    part = AuditPart(
        device="Line-3",
        origin=checkpoint.origin,
        start=data.draw(st.integers(0, size - len(entries))),
        entries=tuple(entries),
        size=size,
        checkpoint=note.decode(),
        previous=data.draw(st.integers(0, size)),
    )
    assert decode_part(encode_part(part)) == part
    assert encode_part(part) == canonical_json(msgspec.to_builtins(part))


@st.composite
def log_entries(draw: st.DrawFn) -> LogEntry:
    whole = st.integers(0, 2**53 - 1)
    return LogEntry(
        index=draw(whole),
        boot=draw(st.integers(1, 2**53 - 1)),
        boot_id=draw(st.binary(min_size=16, max_size=16)).hex(),
        monotonic_us=draw(whole),
        wall_us=draw(whole),
        time_quality=draw(st.sampled_from(["synchronised", "held", "unknown"])),
        sender=Sender(uid=draw(whole), pid=draw(whole), unit=draw(st.text(max_size=40))),
        category="control-system",
        event=AuditEvent(
            kind=draw(st.text(max_size=20)),
            result="success",
            fields=draw(
                st.dictionaries(
                    st.from_regex(r"[a-z][a-z0-9_]{0,31}", fullmatch=True), st.text(max_size=60) | whole | st.booleans()
                )
            ),
        ),
    )


@given(log_entries())
def test_entries_are_canonical_json_and_read_back(entry: LogEntry) -> None:
    data = encode_entry(entry)
    assert data == canonical_json(msgspec.to_builtins(entry))
    assert decode_entry(data, index=entry.index) == entry


@given(log_entries(), st.data())
def test_no_changed_entry_is_the_same_entry(entry: LogEntry, data: st.DataObject) -> None:
    line = bytearray(encode_entry(entry))
    line[data.draw(st.integers(0, len(line) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with contextlib.suppress(DecodeError):
        assert decode_entry(bytes(line), index=entry.index) != entry


def test_an_empty_tree_has_one_root() -> None:
    assert decode_checkpoint(encode_checkpoint(Checkpoint("a/log", 0, EMPTY_ROOT))).size == 0
