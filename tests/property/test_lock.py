"""A lock has one spelling: what is written is read, and no other bytes are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.core.errors import DecodeError
from builder.lock.codec import decode_lock, encode_lock
from builder.lock.types import Lock, LockedPackage, LockedWheel

DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)
NAMES = st.from_regex(r"[a-z][a-z0-9.+-]{0,20}", fullmatch=True)
TEXTS = st.text(max_size=20)
PACKAGES = st.builds(
    LockedPackage,
    name=NAMES,
    version=TEXTS,
    architecture=st.sampled_from(["amd64", "arm64", "all"]),
    archive=st.sampled_from(["main", "security"]),
    pool_path=st.from_regex(r"pool/[A-Za-z0-9+._~/%-]+\.deb", fullmatch=True),
    size=st.integers(0, 2**40),
    sha256=DIGESTS,
    source=NAMES,
    source_version=TEXTS,
)
WHEELS = st.builds(LockedWheel, name=NAMES, version=TEXTS, filename=TEXTS, size=st.integers(0, 2**40), sha256=DIGESTS)


def by_name(items: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[object, ...]]:
    unique = st.lists(items, max_size=4, unique_by=lambda item: item.name)  # type: ignore[attr-defined]
    return unique.map(lambda found: tuple(sorted(found, key=lambda item: item.name)))  # type: ignore[attr-defined]


LOCKS = st.builds(
    Lock,
    name=st.sampled_from(["line-3", "tools"]),
    architecture=st.sampled_from(["x86_64", "arm64"]),
    distribution=st.just("debian/trixie"),
    request=DIGESTS,
    epoch=st.integers(1, 2**33),
    packages=by_name(PACKAGES),
    wheels=by_name(WHEELS),
)


@given(LOCKS)
def test_what_is_written_is_read(lock: Lock) -> None:
    assert decode_lock(encode_lock(lock), file="lock") == lock


@given(LOCKS, st.data())
def test_no_other_bytes_are_the_same_lock(lock: Lock, data: st.DataObject) -> None:
    good = encode_lock(lock)
    at = data.draw(st.integers(0, len(good) - 1))
    bad = good[:at] + bytes([good[at] ^ data.draw(st.integers(1, 255))]) + good[at + 1 :]
    try:
        assert decode_lock(bad, file="lock") != lock
    except DecodeError as error:
        assert error.place is not None


@given(st.binary(max_size=200))
def test_other_bytes_are_refused_and_nothing_else_happens(data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_lock(data, file="lock")
