"""The delta index: the vectors, and every refusal with its exact message."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.core.errors import DecodeError, EdgesealError, VerificationError
from appliance.formats.delta_index import (
    DIGEST,
    MAX_GROUP,
    MIN_GROUP,
    Frame,
    Group,
    cut_digest,
    cut_groups,
    decode_frame,
    decode_groups,
    decode_table,
    encode_frame,
    encode_groups,
    encode_table,
)
from appliance.formats.release import BLOCK, Content, Release
from tests.support.delta import Published, filled_block, hashed_block, publish

VECTORS = json.loads((Path(__file__).parent.parent / "vectors/delta-index.json").read_text())["images"]
IDS = [vector["name"] for vector in VECTORS]


def blocks_of(vector: Any) -> list[bytes]:
    return [{"hashed": hashed_block, "fill": filled_block}[kind](value) for kind, value in vector["blocks"]]


def content(published: Published, which: str) -> bytes:
    named: Content = getattr(published.release.delta, which)
    return (published.repository / named.path).read_bytes()


@pytest.mark.parametrize("number", range(len(VECTORS)), ids=IDS)
def test_the_vectors_are_read(number: int, tmp_path: Path) -> None:
    vector = VECTORS[number]
    blocks = blocks_of(vector)
    groups_file, leaves_file = (bytes.fromhex(vector[name]) for name in ("groups_hex", "leaves_hex"))
    release = release_naming(
        publish(tmp_path, blocks, number=number + 1).release, groups_file, leaves_file, vector["frames_size"]
    )
    assert msgspec.to_builtins(release.root) == vector["root"]
    groups = decode_groups(groups_file, release)
    tables = [decode_table(leaves_file[item.table_at : item.table_at + item.table], item) for item in groups]
    frames = [frame for table in tables for frame in table.frames()]
    deflated = {int(block): bytes.fromhex(text) for block, text in vector["deflated_hex"].items()}
    assert [frame.block for frame in frames if frame.digest] == sorted(deflated)
    found = [decode_frame(deflated.get(frame.block, block), frame) for frame, block in zip(frames, blocks, strict=True)]
    assert found == blocks
    salt = bytes.fromhex(vector["root"]["salt"])
    assert [frame.leaf for frame in frames] == [hashlib.sha256(salt + block).digest()[:DIGEST] for block in blocks]


def test_the_stored_vector_is_written_byte_for_byte(tmp_path: Path) -> None:
    """Not the deflated one: another zlib may write the same block in other bytes."""
    vector = VECTORS[0]
    published = publish(tmp_path, blocks_of(vector), number=1)
    assert content(published, "groups").hex() == vector["groups_hex"]
    assert content(published, "leaves").hex() == vector["leaves_hex"]
    assert published.release.delta.frames.sha256 == vector["frames_sha256"]


def release_naming(release: Release, groups: bytes, leaves: bytes | int, frames: int) -> Release:
    """The release, with another index."""
    size = leaves if isinstance(leaves, int) else len(leaves)
    delta = msgspec.structs.replace(
        release.delta,
        groups=Content(sha256=hashlib.sha256(groups).hexdigest(), size=max(1, len(groups))),
        leaves=Content(sha256="0" * 64, size=size),
        frames=Content(sha256="0" * 64, size=frames),
    )
    return msgspec.structs.replace(release, delta=delta)


GROUPS = bytes.fromhex(VECTORS[0]["groups_hex"])
LEAVES = bytes.fromhex(VECTORS[0]["leaves_hex"])


def put(at: int, data: str) -> bytes:
    patch = bytes.fromhex(data)
    return GROUPS[:at] + patch + GROUPS[at + len(patch) :]


GROUPS_ROWS: list[tuple[str, bytes, str]] = [
    ("nothing", b"", "delta groups: 0 bytes are no header"),
    ("half a header", GROUPS[:19], "delta groups: 19 bytes are no header"),
    ("another magic", put(0, "00"), "delta groups: not a delta index of version 1"),
    ("another version", put(8, "0002"), "delta groups: not a delta index of version 1"),
    ("a reserved field in use", put(10, "0001"), "delta groups: not a delta index of version 1"),
    ("more groups than bytes", put(12, "ffffffff"), "delta groups: 100 bytes do not hold 4294967295 groups"),
    ("a byte behind the last", GROUPS + b"\0", "delta groups: 101 bytes do not hold 2 groups"),
    ("no group", put(12, "00000000")[:20], "delta groups: 0 blocks, the header says 26"),
    ("an empty group", put(20, "0000"), "delta groups: group 0 has 0 blocks, 1 to 512 are allowed"),
    ("a group too large", put(20, "0201"), "delta groups: group 0 has 513 blocks, 1 to 512 are allowed"),
    ("more deflated than there are", put(22, "0015"), "delta groups: group 0 has 20 blocks, 21 of them deflated"),
    ("frames too short", put(24, "00013fff"), "delta groups: group 0 cannot have 81919 bytes of frames"),
    ("frames too long", put(24, "00014001"), "delta groups: group 0 cannot have 81921 bytes of frames"),
    ("another number of blocks", put(16, "0000001b"), "delta groups: 26 blocks, the header says 27"),
]


@pytest.mark.parametrize(("data", "said"), [row[1:] for row in GROUPS_ROWS], ids=[row[0] for row in GROUPS_ROWS])
def test_groups_that_are_refused(data: bytes, said: str, tmp_path: Path) -> None:
    release = publish(tmp_path, blocks_of(VECTORS[0]), number=1).release
    with pytest.raises(DecodeError) as refusal:
        decode_groups(data, release_naming(release, data, LEAVES, 26 * BLOCK))
    assert str(refusal.value) == said


@pytest.mark.parametrize(
    ("blocks", "leaves", "frames", "said"),
    [
        (25, 468, 26 * BLOCK, "delta groups: 106496 bytes of root, the release says 102400"),
        (26, 467, 26 * BLOCK, "delta groups: 468 bytes of leaves, the release says 467"),
        (26, 468, 26 * BLOCK + 1, "delta groups: 106496 bytes of frames, the release says 106497"),
    ],
)
def test_groups_of_another_release(blocks: int, leaves: int, frames: int, said: str, tmp_path: Path) -> None:
    release = publish(tmp_path, blocks_of(VECTORS[0])[:blocks], number=1).release
    with pytest.raises(DecodeError) as refusal:
        decode_groups(GROUPS, release_naming(release, GROUPS, leaves, frames))
    assert str(refusal.value) == said


def test_groups_are_hashed_before_they_are_read(tmp_path: Path) -> None:
    release = publish(tmp_path, blocks_of(VECTORS[0]), number=1).release
    with pytest.raises(VerificationError) as refusal:
        decode_groups(b"no header", release)
    found = hashlib.sha256(b"no header").hexdigest()
    assert str(refusal.value) == f"delta groups: sha256 is {found}, the release says {release.delta.groups.sha256}"


def group_of(leaves: bytes, rest: bytes, *, frames: int, deflated: int) -> Group:
    return Group(7, len(leaves) // DIGEST, deflated, 0, 100, frames, cut_digest(leaves), cut_digest(rest))


TWO = bytes(range(2 * DIGEST))
FRAME = b"packed"
GOOD_REST = (BLOCK).to_bytes(2, "big") + len(FRAME).to_bytes(2, "big") + cut_digest(FRAME)
WRONG = "delta leaves: the table of block 7 "
TABLE_ROWS: list[tuple[str, Callable[[], object], type[EdgesealError], str]] = [
    (
        "another leaf hash",
        lambda: decode_table(
            b"\xff" + TWO[1:] + GOOD_REST, group_of(TWO, GOOD_REST, frames=BLOCK + len(FRAME), deflated=1)
        ),
        VerificationError,
        f"{WRONG}is not the one that the groups name",
    ),
    (
        "another size",
        lambda: decode_table(
            TWO + GOOD_REST[:3] + b"\x07" + GOOD_REST[4:],
            group_of(TWO, GOOD_REST, frames=BLOCK + len(FRAME), deflated=1),
        ),
        VerificationError,
        f"{WRONG}is not the one that the groups name",
    ),
    (
        "cut short",
        lambda: decode_table(TWO, group_of(TWO, GOOD_REST, frames=BLOCK + len(FRAME), deflated=1)),
        VerificationError,
        f"{WRONG}is not the one that the groups name",
    ),
    (
        "published with another sum",
        lambda: decode_table(TWO + GOOD_REST, group_of(TWO, GOOD_REST, frames=BLOCK + 7, deflated=1)),
        DecodeError,
        f"{WRONG}has other sizes than the groups say",
    ),
    (
        "published without a digest",
        lambda: decode_table(TWO + GOOD_REST[:4], group_of(TWO, GOOD_REST[:4], frames=BLOCK + len(FRAME), deflated=1)),
        DecodeError,
        f"{WRONG}has other sizes than the groups say",
    ),
    (
        "published with an empty frame",
        lambda: decode_table(
            TWO + b"\x10\0\0\0" + GOOD_REST[4:],
            group_of(TWO, b"\x10\0\0\0" + GOOD_REST[4:], frames=BLOCK, deflated=1),
        ),
        DecodeError,
        f"{WRONG}has other sizes than the groups say",
    ),
    (
        "published with a frame above a block",
        lambda: decode_table(
            TWO + b"\x10\x01\0\x06" + GOOD_REST[4:],
            group_of(TWO, b"\x10\x01\0\x06" + GOOD_REST[4:], frames=BLOCK + 7, deflated=1),
        ),
        DecodeError,
        f"{WRONG}has other sizes than the groups say",
    ),
    (
        "published with another count of deflated frames",
        lambda: decode_table(
            TWO + b"\x10\0\x10\0" + GOOD_REST[4:],
            group_of(TWO, b"\x10\0\x10\0" + GOOD_REST[4:], frames=2 * BLOCK, deflated=1),
        ),
        DecodeError,
        f"{WRONG}has another number of deflated frames than the groups say",
    ),
    (
        "a frame that somebody changed",
        lambda: decode_frame(b"other", frame_of(FRAME)),
        VerificationError,
        "delta frames: the frame of block 9 is not the one that the leaves name",
    ),
    (
        "published: not deflated",
        lambda: decode_frame(b"\xff\xff", frame_of(b"\xff\xff")),
        DecodeError,
        "delta frames: the frame of block 9 is not deflated: Error -3 while decompressing data: invalid block type",
    ),
    (
        "published: a block too short",
        lambda: decode_frame(raw(bytes(4095)), frame_of(raw(bytes(4095)))),
        DecodeError,
        "delta frames: the frame of block 9 is not one block",
    ),
    (
        "published: a bomb",
        lambda: decode_frame(raw(bytes(1 << 20)), frame_of(raw(bytes(1 << 20)))),
        DecodeError,
        "delta frames: the frame of block 9 is not one block",
    ),
    (
        "published: something behind the end",
        lambda: decode_frame(raw(bytes(BLOCK)) + b"x", frame_of(raw(bytes(BLOCK)) + b"x")),
        DecodeError,
        "delta frames: the frame of block 9 is not one block",
    ),
    (
        "published: no end",
        lambda: decode_frame(raw(bytes(BLOCK))[:-1], frame_of(raw(bytes(BLOCK))[:-1])),
        DecodeError,
        "delta frames: the frame of block 9 is not one block",
    ),
]


def raw(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def frame_of(data: bytes) -> Frame:
    return Frame(9, 0, len(data), bytes(DIGEST), cut_digest(data))


@pytest.mark.parametrize(("act", "kind", "said"), [row[1:] for row in TABLE_ROWS], ids=[row[0] for row in TABLE_ROWS])
def test_tables_and_frames_that_are_refused(act: Callable[[], object], kind: type[EdgesealError], said: str) -> None:
    with pytest.raises(EdgesealError) as refusal:
        act()
    assert (type(refusal.value), str(refusal.value)) == (kind, said)


def test_a_good_table_and_frame_pass() -> None:
    table, leaves_digest, rest_digest = encode_table(TWO, [hashed_block(1), FRAME])
    assert (table, leaves_digest, rest_digest) == (TWO + GOOD_REST, cut_digest(TWO), cut_digest(GOOD_REST))
    frames = list(decode_table(table, group_of(TWO, GOOD_REST, frames=BLOCK + len(FRAME), deflated=1)).frames())
    assert frames == [
        Frame(7, 100, BLOCK, TWO[:DIGEST], None),
        Frame(8, 100 + BLOCK, len(FRAME), TWO[DIGEST:], cut_digest(FRAME)),
    ]
    zeros = encode_frame(bytes(BLOCK))
    assert decode_frame(zeros, frame_of(zeros)) == bytes(BLOCK)
    assert encode_frame(hashed_block(3)) == hashed_block(3)


def leaf(cut: bool) -> bytes:
    return (b"\x40" if cut else b"\x41") + bytes(DIGEST - 1)


@pytest.mark.parametrize(
    ("leaves", "counts"),
    [
        ([], []),
        ([False], [1]),
        ([True] * MIN_GROUP, [16]),
        ([True] * (MIN_GROUP + 1), [16, 1]),
        ([True] * (2 * MIN_GROUP), [16, 16]),
        ([False] * 15 + [True, False], [16, 1]),
        ([False] * 14 + [True, False], [16]),
        ([False] * 20 + [True] + [False] * 5, [21, 5]),
        ([False] * MAX_GROUP, [512]),
        ([False] * (MAX_GROUP + 1), [512, 1]),
    ],
)
def test_where_groups_are_cut(leaves: list[bool], counts: list[int]) -> None:
    found = list(cut_groups(b"".join(map(leaf, leaves))))
    assert [count for _, count in found] == counts
    assert [first for first, _ in found] == [sum(counts[:number]) for number in range(len(counts))]


def test_the_groups_file_is_as_long_as_the_spec_says() -> None:
    group = Group(0, 1, 0, 0, 0, BLOCK, bytes(DIGEST), bytes(DIGEST))
    assert len(encode_groups([])) == 20
    assert len(encode_groups([group] * 3)) == 20 + 3 * 40
