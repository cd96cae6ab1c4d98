"""The delta index has one spelling, no bytes make its decoders do anything but refuse, and its groups find themselves
again after an insertion.
"""

from __future__ import annotations

import contextlib
import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.core.errors import DecodeError, VerificationError
from appliance.formats.delta_index import (
    DIGEST,
    MAX_GROUP,
    MIN_GROUP,
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
from appliance.formats.release import BLOCK, Content, Delta, Release, Root

DIGESTS = st.binary(min_size=DIGEST, max_size=DIGEST)


@st.composite
def group_lists(draw: st.DrawFn) -> list[Group]:
    groups: list[Group] = []
    first = table_at = frames_at = 0
    for _ in range(draw(st.integers(1, 4))):
        count = draw(st.integers(1, MAX_GROUP))
        deflated = draw(st.integers(0, count))
        stored = (count - deflated) * BLOCK
        frames = draw(st.integers(stored + deflated, stored + deflated * (BLOCK - 1)))
        groups.append(Group(first, count, deflated, table_at, frames_at, frames, draw(DIGESTS), draw(DIGESTS)))
        first, table_at, frames_at = first + count, table_at + groups[-1].table, frames_at + frames
    return groups


def release_of(groups: list[Group], data: bytes) -> Release:
    """A release that names `data` as its groups."""
    content = Content(sha256="0" * 64, size=1)
    return Release(
        product="press",
        profile="press",
        architecture="arm64",
        version=1,
        security_epoch=0,
        built=1,
        development=True,
        root=Root(
            size=sum(group.count for group in groups) * BLOCK,
            hash_size=BLOCK,
            root_hash="0" * 64,
            salt="",
            uuid="00000000-0000-4000-8000-000000000001",
        ),
        delta=Delta(
            groups=Content(sha256=hashlib.sha256(data).hexdigest(), size=len(data)),
            leaves=msgspec.structs.replace(content, size=sum(group.table for group in groups)),
            frames=msgspec.structs.replace(content, size=sum(group.frames for group in groups)),
        ),
        uki=content,
    )


@given(group_lists())
def test_groups_that_are_written_are_read(groups: list[Group]) -> None:
    data = encode_groups(groups)
    assert list(decode_groups(data, release_of(groups, data))) == groups


@given(group_lists(), st.data())
def test_no_other_bytes_are_the_same_groups(groups: list[Group], data: st.DataObject) -> None:
    """Even when somebody signed them."""
    good = encode_groups(groups)
    at = data.draw(st.integers(0, len(good) - 1))
    bad = good[:at] + bytes([good[at] ^ data.draw(st.integers(1, 255))]) + good[at + 1 :]
    try:
        found = list(decode_groups(bad, release_of(groups, bad)))
    except DecodeError:
        return
    assert found != groups
    assert encode_groups(found) == bad


@given(
    st.lists(st.tuples(DIGESTS, st.binary(min_size=1, max_size=40) | st.just(bytes(BLOCK))), min_size=1, max_size=40)
)
def test_tables_that_are_written_are_read(rows: list[tuple[bytes, bytes]]) -> None:
    leaves, frames = b"".join(leaf for leaf, _ in rows), [frame for _, frame in rows]
    data, leaves_digest, sizes_digest = encode_table(leaves, frames)
    deflated = sum(len(frame) < BLOCK for frame in frames)
    group = Group(3, len(rows), deflated, 0, 50, sum(map(len, frames)), leaves_digest, sizes_digest)
    assert group.table == len(data)
    found = list(decode_table(data, group).frames())
    assert [(frame.leaf, frame.size) for frame in found] == [(leaf, len(frame)) for leaf, frame in rows]
    assert [frame.at for frame in found] == [50 + sum(map(len, frames[:number])) for number in range(len(frames))]
    for frame, data in zip(found, frames, strict=True):
        assert frame.digest == (cut_digest(data) if len(data) < BLOCK else None)


@given(st.binary(max_size=200), st.integers(1, 12), st.integers(0, 12), st.integers(0, 12 * BLOCK))
def test_any_bytes_as_a_table_are_read_or_refused(data: bytes, count: int, deflated: int, frames: int) -> None:
    """Signed nonsense: the digests fit."""
    cut = count * DIGEST
    group = Group(0, count, deflated, 0, 0, frames, cut_digest(data[:cut]), cut_digest(data[cut:]))
    try:
        table = decode_table(data, group)
    except DecodeError:
        return
    assert len(list(table.frames())) == count


@given(st.binary(max_size=600))
def test_any_bytes_as_a_frame_are_one_block_or_refused(data: bytes) -> None:
    leaves, rest = bytes(DIGEST), max(1, len(data)).to_bytes(2, "big") + cut_digest(data)
    group = Group(0, 1, 1, 0, 0, max(1, len(data)), cut_digest(leaves), cut_digest(rest))
    (frame,) = decode_table(leaves + rest, group).frames()
    with contextlib.suppress(DecodeError):
        assert len(decode_frame(data, frame)) == BLOCK
    with pytest.raises(VerificationError):
        decode_frame(data + b"\0", frame)


@given(st.binary(min_size=1, max_size=64).map(lambda data: (data * BLOCK)[:BLOCK]) | st.binary(min_size=BLOCK))
def test_frames_give_their_block(data: bytes) -> None:
    block = data[:BLOCK]
    packed = encode_frame(block)
    assert len(packed) <= BLOCK
    leaves, rest = bytes(DIGEST), len(packed).to_bytes(2, "big") + cut_digest(packed) * (len(packed) < BLOCK)
    group = Group(0, 1, int(len(packed) < BLOCK), 0, 0, len(packed), cut_digest(leaves), cut_digest(rest))
    (frame,) = decode_table(leaves + rest, group).frames()
    assert decode_frame(packed, frame) == block


LEAVES = st.integers(0, 2**32).map(lambda seed: _leaves(seed, 400))


def _leaves(seed: int, count: int) -> bytes:
    return b"".join(hashlib.sha256(b"%d %d" % (seed, number)).digest()[:DIGEST] for number in range(count))


@given(LEAVES, st.integers(0, 400), st.integers(0, 30))
def test_an_insertion_leaves_the_other_groups_alone(leaves: bytes, at: int, count: int) -> None:
    """The groups before it stay, and from the first end behind it that both share, all of them."""
    inserted = leaves[: at * DIGEST] + _leaves(-1, count) + leaves[at * DIGEST :]
    old = [first + size for first, size in cut_groups(leaves)]
    new = [first + size for first, size in cut_groups(inserted)]
    assert new[-1] == 400 + count
    sizes = [end - start for start, end in zip([0, *new], new, strict=False)]
    assert all(MIN_GROUP <= size <= MAX_GROUP for size in sizes[:-1])
    before = sum(end <= at for end in old[:-1])
    assert new[:before] == old[:before]
    moved = [end - count for end in new]
    shared = min(end for end in old if end >= at and end in moved)
    assert [end for end in moved if end >= shared] == [end for end in old if end >= shared]
