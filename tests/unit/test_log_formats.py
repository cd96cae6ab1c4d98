"""Notes, keys, checkpoints, tiles, proofs, entries, parts: known values, and every refusal with its exact message."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from appliance.core.canonical import canonical_json
from appliance.core.clock import Moment
from appliance.core.errors import DecodeError, VerificationError
from appliance.formats.audit_event import AuditEvent
from appliance.formats.audit_log import Sender, decode_entry, encode_entry, make_entry
from appliance.formats.audit_part import cost_of, decode_part, encode_part, room_for
from appliance.formats.base64_strict import decode_base64
from appliance.formats.checkpoint import Checkpoint, decode_checkpoint, encode_checkpoint
from appliance.formats.merkle import leaf_hashes
from appliance.formats.signed_note import (
    COSIGNATURE,
    ECDSA,
    MAX_NOTE_BYTES,
    Note,
    NoteSignature,
    VerifierKey,
    cosigned_message,
    decode_note,
    decode_vkey,
    encode_note,
    encode_vkey,
    open_note,
)
from appliance.formats.tlog_proof import Proof, decode_proof, encode_proof, verify_proof
from appliance.formats.tlog_tiles import (
    BUNDLE,
    Tile,
    decode_bundle,
    decode_tile,
    edge_tiles,
    encode_bundle,
    number_path,
    parse_path,
    tree_files,
    verify_bundle,
)

NEUMANN = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
NEUMANN_NOTE = (
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
"""The key and the note that the documentation of golang.org/x/mod/sumdb/note shows."""

HEAD = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
SOFA = (
    HEAD + "\n— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9n"
    "To+zyWE+xeMcTOAYQ8=\n— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3"
    "b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
)
"""The cosigned checkpoint that c2sp.org/tlog-cosignature shows."""
LINE = "— a/key AAAAAQI=\n"


def check_ed25519(key: VerifierKey, signature: bytes, message: bytes) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(key.key).verify(signature, message)
    except InvalidSignature as error:
        raise VerificationError("wrong") from error


def test_the_note_of_go_opens() -> None:
    key = decode_vkey(NEUMANN)
    assert encode_vkey(key) == NEUMANN
    assert open_note(NEUMANN_NOTE.encode(), [key], check_ed25519).verified[0].key == key
    with pytest.raises(VerificationError, match="wrong"):
        open_note(NEUMANN_NOTE.replace("answer", "Answer").encode(), [key], check_ed25519)
    with pytest.raises(VerificationError, match="no known key signed it"):
        open_note(NEUMANN_NOTE.encode(), [VerifierKey("another", 1, key.key)], check_ed25519)


def test_the_checkpoint_of_the_specification() -> None:
    note = decode_note(SOFA.encode())
    assert encode_note(note) == SOFA.encode() and note.text == HEAD
    checkpoint = decode_checkpoint(note.text)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert encode_checkpoint(checkpoint) == HEAD
    assert int.from_bytes(note.signatures[1].signature[:8], "big") == 1679315147
    assert cosigned_message(HEAD, 1679315147) == b"cosignature/v1\ntime 1679315147\n" + HEAD.encode()


def test_an_ecdsa_key_is_named_by_its_digest_alone() -> None:
    der = b"any DER"
    key = VerifierKey("a/tpm", ECDSA, der)
    assert key.key_id == hashlib.sha256(der).digest()[:4] == VerifierKey("b", ECDSA, der).key_id
    assert decode_vkey(encode_vkey(key)) == key
    assert VerifierKey("b", COSIGNATURE, bytes(32)).key_id != VerifierKey("b", 1, bytes(32)).key_id


def test_sixteen_signatures_of_post_quantum_size_are_read() -> None:
    lines = tuple(NoteSignature(f"w/{number}", b"1234", bytes(5000)) for number in range(16))
    assert decode_note(encode_note(Note(HEAD, lines))).signatures == lines


def vkey(data: bytes, name: str = "a/log", key_id: str = "00000000") -> str:
    return f"{name}+{key_id}+{base64.b64encode(data).decode()}"


def encoded_part(**changes: Any) -> bytes:
    note = f"a/log\n3\n{base64.b64encode(bytes(32)).decode()}\n\n{LINE}"
    values = {"device": "d", "origin": "a/log", "start": 1, "entries": ["AAA="], "size": 3, "checkpoint": note}
    return canonical_json({"consistency": [], "previous": 1, "schema": 1, **values, **changes})


NOTE_LIMIT = f"note: {MAX_NOTE_BYTES + 1} bytes, at most {MAX_NOTE_BYTES} are allowed"
ZERO_HASH = base64.b64encode(bytes(32)).decode()
PROOF = f"c2sp.org/tlog-proof@v1\nindex 0\n\n{HEAD}\n{LINE}"

Row = tuple[Callable[[Any], object], Any, str]
REFUSED: list[Row] = [
    (decode_note, b"\xff\n\n", "note: not UTF-8"),
    (decode_note, bytes(MAX_NOTE_BYTES + 1), NOTE_LIMIT),
    (decode_note, b"a\tb\n\n" + LINE.encode(), "note: a control character"),
    (decode_note, b"a\r\n\n" + LINE.encode(), "note: a control character"),
    (decode_note, b"text\n", "note: no empty line between text and signatures"),
    (decode_note, b"text\n\n", "note: no signature"),
    (decode_note, b"text\n\n" + LINE.encode()[:-1], "note: the last line has no newline"),
    (decode_note, b"text\n\n- a/key AAAAAQI=\n", "note: signature 1: does not begin with a dash and a space"),
    (decode_note, "text\n\n— a/key\n".encode(), "note: signature 1: not a name and a signature"),
    (decode_note, f"text\n\n{LINE}— a+b AAAAAQI=\n".encode(), "note: signature 2: `a+b` is no key name"),
    (decode_note, "text\n\n— a\u00a0b AAAAAQI=\n".encode(), "note: signature 1: `a\u00a0b` is no key name"),
    (decode_note, "text\n\n— a/key AAAAAA==\n".encode(), "note: signature 1: 4 bytes, more than 4 are needed"),
    (decode_note, "text\n\n— a/key AAAA*AI=\n".encode(), "note: signature 1: not base64"),
    (decode_note, "text\n\n— a/key AAAAAQJ=\n".encode(), "note: signature 1: not base64 in its one form"),
    (decode_note, f"text\n\n{LINE * 65}".encode(), "note: 65 signatures, at most 64 are allowed"),
    (
        encode_note,
        Note("no newline", (NoteSignature("a", b"1234", b"1"),)),
        "note: no empty line between text and signatures",
    ),
    (decode_vkey, "a/log", "verifier key: not NAME+ID+KEY"),
    (decode_vkey, "a/log+00000000", "verifier key: not NAME+ID+KEY"),
    (decode_vkey, vkey(b"\x07" + bytes(32)), "verifier key: a signature type that is not known here"),
    (decode_vkey, vkey(b"\x01" + bytes(31)), "verifier key: a key of 31 bytes"),
    (decode_vkey, vkey(b"\x02"), "verifier key: a key of 0 bytes"),
    (decode_vkey, vkey(b"\x01" + bytes(32), "a b"), "verifier key: `a b` is no key name"),
    (decode_vkey, NEUMANN.replace("c74f", "c74e"), "verifier key: the id is c74e20a3, the key's is c74f20a3"),
    (decode_vkey, NEUMANN.replace("c74f", "C74F"), "verifier key: the id is C74F20a3, the key's is c74f20a3"),
    (decode_checkpoint, HEAD[:-1], "checkpoint: the last line has no newline"),
    (decode_checkpoint, "a\n1\n", "checkpoint: 2 lines, at least 3 are needed"),
    (
        decode_checkpoint,
        HEAD.replace("2085", "02085"),
        "checkpoint: size: `020852163` is not a decimal number without leading zeroes",
    ),
    (
        decode_checkpoint,
        HEAD.replace("2085", "+2085"),
        "checkpoint: size: `+20852163` is not a decimal number without leading zeroes",
    ),
    (
        decode_checkpoint,
        HEAD.replace("20852163", "9223372036854775808"),
        "checkpoint: size: 9223372036854775808 is 2^63 or more",
    ),
    (decode_checkpoint, "a\n1\nAAAA\n", "checkpoint: root: 3 bytes, a SHA-256 has 32"),
    (decode_checkpoint, f"a\n0\n{ZERO_HASH}\n", "checkpoint: the root of an empty tree is the SHA-256 of nothing"),
    (decode_checkpoint, "\n" + HEAD, "checkpoint: an origin has 1 to 255 characters and no control character"),
    (decode_checkpoint, HEAD + "\n", "checkpoint: an extension line has 1 to 1024 characters, none of control"),
    (decode_checkpoint, HEAD + "x\n" * 17, "checkpoint: 17 extension lines, at most 16 are allowed"),
    (
        encode_checkpoint,
        Checkpoint("a\nb", 1, bytes(32)),
        "checkpoint: size: `b` is not a decimal number without leading zeroes",
    ),
    (parse_path, "tile/0/1", "`tile/0/1` is not the path of a tile"),
    (parse_path, "tile/0/x000/001", "`tile/0/x000/001` is not the path of a tile"),
    (parse_path, "tile/00/001", "`tile/00/001` is not the path of a tile"),
    (parse_path, "tile/64/001", "`tile/64/001` is not the path of a tile"),
    (parse_path, "tile/0/001.p/256", "`tile/0/001.p/256` is not the path of a tile"),
    (parse_path, "tile/0/001.p/01", "`tile/0/001.p/01` is not the path of a tile"),
    (parse_path, "tile/0/../001", "`tile/0/../001` is not the path of a tile"),
    (encode_bundle, [], "entry bundle: 0 entries, 1 to 256 are allowed"),
    (encode_bundle, [b""] * 257, "entry bundle: 257 entries, 1 to 256 are allowed"),
    (encode_bundle, [bytes(65536)], "entry bundle: an entry of 65536 bytes, at most 65535 are allowed"),
    (lambda data: decode_bundle(data, 1), b"\0", "entry bundle: ends within entry 0"),
    (lambda data: decode_bundle(data, 1), b"\0\2a", "entry bundle: ends within entry 0"),
    (lambda data: decode_bundle(data, 2), b"\0\1a", "entry bundle: 1 entries, not 2"),
    (lambda data: decode_bundle(data, 1), b"\0\1a\0\0", "entry bundle: more entries, not 1"),
    (lambda data: decode_tile(data, 2), bytes(65), "tile: 65 bytes, 2 hashes have 64"),
    (decode_proof, b"x", "log proof: no empty line before the checkpoint"),
    (decode_proof, PROOF.replace("@v1", "@v2").encode(), "log proof: does not begin with c2sp.org/tlog-proof@v1"),
    (decode_proof, PROOF.replace("index", "Index").encode(), "log proof: no line with the index"),
    (
        decode_proof,
        PROOF.replace("index 0", "index 00").encode(),
        "log proof: index: `00` is not a decimal number without leading zeroes",
    ),
    (decode_proof, PROOF.replace("index 0", "index 0\nAAAA").encode(), "log proof: hash 1: 3 bytes, a SHA-256 has 32"),
    (decode_proof, PROOF.replace("index", "extra A\nindex").encode(), "log proof: extra: not base64"),
    (
        decode_proof,
        PROOF.replace("index 0", "index 0" + f"\n{ZERO_HASH}" * 64).encode(),
        "log proof: 64 hashes, at most 63 are allowed",
    ),
    (decode_proof, PROOF.replace(f"\n{LINE}", "").encode(), "note: no empty line between text and signatures"),
    (decode_part, bytes(49153), "audit part: 49153 bytes, at most 49152 are allowed"),
    (decode_part, encoded_part(previous=4), "audit part: previous is above size"),
    (decode_part, encoded_part(start=3), "audit part: entries beyond size"),
    (decode_part, encoded_part(previous=3, consistency=[ZERO_HASH]), "audit part: a proof where none is needed"),
    (decode_part, encoded_part(size=4), "audit part: the checkpoint is not the one of origin and size"),
    (decode_part, encoded_part(origin="b"), "audit part: the checkpoint is not the one of origin and size"),
    (decode_part, encoded_part().replace(b",", b", ", 1), "audit part: not in canonical form"),
    (lambda text: decode_base64(text, "it"), "AA=", "it: not base64"),
]


@pytest.mark.parametrize(("decode", "data", "message"), REFUSED)
def test_refusals(decode: Callable[[Any], object], data: Any, message: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(data)
    assert str(caught.value) == message


def test_the_part_of_the_table_is_a_good_one() -> None:
    part = decode_part(encoded_part())
    assert part.entries == (b"\0\0",) and part.end == 2 and not part.is_last


def test_room_in_a_part_is_counted_to_the_byte() -> None:
    empty = decode_part(encoded_part(entries=[], size=3))
    entries: list[bytes] = []
    room = room_for(empty)
    while room >= cost_of(b"x" * 1000):
        entries.append(b"x" * 1000)
        room -= cost_of(b"x" * 1000)
    note = empty.checkpoint.replace("\n3\n", "\n9999\n")
    full = msgspec.structs.replace(empty, entries=tuple(entries), size=9999, checkpoint=note)
    assert 49152 - cost_of(b"x" * 1000) - 8 < len(encode_part(full)) <= 49152


def test_names_of_the_specification() -> None:
    assert number_path(1234067) == "x001/x234/067"
    assert [tile.path for tile in edge_tiles(70_000)] == ["tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"]
    assert [tile.path for tile in tree_files(256)] == ["tile/entries/000", "tile/0/000", "tile/1/000.p/1"]
    assert [tile.path for tile in tree_files(513, 256)] == [
        "tile/entries/001",
        "tile/entries/002.p/1",
        "tile/0/001",
        "tile/0/002.p/1",
        "tile/1/000.p/2",
    ]
    assert list(tree_files(0)) == []
    assert (Tile(BUNDLE, 3).end, Tile(0, 3).end, Tile(1, 0).end) == (1024, 1024, 65_536)


def test_an_entry_that_is_not_in_its_tile_is_named() -> None:
    hashes = leaf_hashes([b"a", b"b"])
    verify_bundle([b"a", b"b"], hashes, 512)
    with pytest.raises(VerificationError, match=r"^entry 513 is not the one that the tree has$"):
        verify_bundle([b"a", b"c"], hashes, 512)
    with pytest.raises(VerificationError, match=r"^entries from 512: 1, the tree has 2$"):
        verify_bundle([b"a"], hashes, 512)


def test_a_proof_holds_for_its_entry_alone() -> None:
    leaves = leaf_hashes([b"only"])
    checkpoint = Checkpoint("a/log", 1, leaves[0])
    line = NoteSignature("a/log", VerifierKey("a/log", 1, bytes(32)).key_id, b"good")
    proof = Proof(0, (), encode_note(Note(encode_checkpoint(checkpoint), (line,))))
    assert encode_proof(proof).decode().startswith("c2sp.org/tlog-proof@v1\nindex 0\n\na/log\n1\n")
    keys = (VerifierKey("a/log", 1, bytes(32)),)

    def check(key: VerifierKey, signature: bytes, message: bytes) -> None:
        assert signature == b"good"

    assert verify_proof(proof, b"only", keys, check, origin="a/log")[0] == checkpoint
    with pytest.raises(VerificationError, match=r"^inclusion proof of entry 0 in a tree of 1: leads to another root$"):
        verify_proof(proof, b"other", keys, check, origin="a/log")
    with pytest.raises(VerificationError, match=r"^log proof: of the log a/log, not of b/log$"):
        verify_proof(proof, b"only", keys, check, origin="b/log")


def entry_bytes(**changes: Any) -> bytes:
    event = AuditEvent(kind="anything", result="success", fields={})
    now = Moment(boot_id="0" * 32, monotonic_us=1, wall_us=2, quality="held")
    sender = Sender(uid=1, pid=2, unit="a.service")
    values = {"boot": 1, "boot_id": now.boot_id, "category": "audit-log", "event": msgspec.to_builtins(event)}
    rest = {"index": 7, "monotonic_us": 1, "schema": 2, "sender": msgspec.to_builtins(sender), "time_quality": "held"}
    return canonical_json({**values, **rest, "wall_us": 2, **changes})


ENTRIES: list[tuple[bytes, str]] = [
    (entry_bytes(index=8), "log entry: says that it is entry 8, it is entry 7"),
    (entry_bytes()[:-1], "log entry: not in canonical form"),
    (entry_bytes().replace(b'"boot":1', b'"boot": 1'), "log entry: not in canonical form"),
    (entry_bytes(schema=1), "log entry: Invalid enum value 1 - at `$.schema`"),
    (entry_bytes(boot=0), "log entry: Expected `int` >= 1 - at `$.boot`"),
    (entry_bytes(more=1), "log entry: Object contains unknown field `more`"),
    (entry_bytes(time_quality="sure"), "log entry: Invalid enum value 'sure' - at `$.time_quality`"),
    (bytes(8193), "log entry: 8193 bytes, at most 8192 are allowed"),
    (b"", "log entry: Input data was truncated"),
]


@pytest.mark.parametrize(("data", "message"), ENTRIES)
def test_refused_entries(data: bytes, message: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_entry(data, index=7)
    assert str(caught.value) == message


def test_an_entry_says_what_the_moment_was() -> None:
    event = AuditEvent(kind="boot-judged", result="success", fields={"reason": "well", "seconds": 3})
    now = Moment(boot_id="0" * 32, monotonic_us=1, wall_us=2, quality="held")
    entry = make_entry(event, Sender(uid=1, pid=2, unit="a.service"), now, index=7, boot=3)
    assert decode_entry(encode_entry(entry), index=7) == entry
    assert (entry.boot, entry.time_quality, entry.category) == (3, "held", "control-system")


def test_a_part_has_a_limit() -> None:
    part = decode_part(encoded_part(entries=[], size=3))
    note = part.checkpoint.replace("\n3\n", "\n9\n")
    large = msgspec.structs.replace(part, entries=(bytes(8192),) * 5, size=9, checkpoint=note)
    with pytest.raises(DecodeError, match=r"^audit part: \d+ bytes, at most 49152 are allowed$"):
        encode_part(large)
