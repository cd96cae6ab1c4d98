"""The pool names what it holds by its hash, and believes no disk."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from builder.archive.pool import Pool
from builder.archive.transfer import export_pool, import_pool


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return Pool(tmp_path / "pool")


def add(pool: Pool, data: bytes) -> str:
    source = pool.root.parent / "source"
    source.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    pool.add(source, sha256=digest, what="an item")
    return digest


def test_an_item_comes_back_by_its_hash(pool: Pool) -> None:
    digest = add(pool, b"bytes")
    assert pool.has(digest)
    assert pool.open_verified(digest, what="an item").read_bytes() == b"bytes"
    assert pool.path(digest) == pool.root / "sha256" / digest[:2] / digest
    assert pool.path(digest).stat().st_mode & 0o777 == 0o644


def test_adding_twice_changes_nothing(pool: Pool) -> None:
    assert add(pool, b"bytes") == add(pool, b"bytes")
    assert len([path for path in pool.root.rglob("*") if path.is_file()]) == 1


def test_items_are_sorted_and_half_written_ones_do_not_count(pool: Pool) -> None:
    digests = [add(pool, bytes([number])) for number in range(20)]
    (pool.path(digests[0]).parent / ".incoming-abc").write_bytes(b"half")
    assert list(pool.items()) == sorted(digests)
    assert pool.broken_items() == []


def test_a_half_written_item_is_swept_when_it_comes_again(pool: Pool) -> None:
    digest = add(pool, b"bytes")
    left = pool.path(digest).parent / ".incoming-abc"
    left.write_bytes(b"by")
    add(pool, b"bytes")
    assert not left.exists()


def test_an_exported_pool_is_the_same_for_the_same_items(pool: Pool, tmp_path: Path) -> None:
    digests = [add(pool, bytes([number])) for number in range(9)]
    other = Pool(tmp_path / "other")
    assert export_pool(pool, digests, tmp_path / "a.tar", epoch=1) == 9
    assert import_pool(other, tmp_path / "a.tar") == 9
    assert list(other.items()) == sorted(digests)
    export_pool(other, reversed(digests), tmp_path / "b.tar", epoch=1)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
