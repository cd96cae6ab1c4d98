"""The tree of RFC 6962: published vectors, and any tree against pymerkle's, which is not ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pymerkle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.audit.frontier import Frontier, UpperTiles
from appliance.core.errors import VerificationError
from appliance.formats.merkle import (
    EMPTY_ROOT,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    leaf_hashes,
    root_hash,
    tree_hash,
    verify_consistency,
    verify_inclusion,
)
from appliance.formats.tlog_tiles import Tile, node_reader, tile_of, tree_files

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors/merkle-tree.json").read_text())
LEAVES = leaf_hashes(bytes.fromhex(leaf) for leaf in VECTORS["leaves"])
ROOTS = [EMPTY_ROOT, *(bytes.fromhex(root) for root in VECTORS["roots"])]

ENTRIES = st.lists(st.binary(max_size=20), min_size=1, max_size=80)


def reader(leaves: Sequence[bytes]) -> Callable[[int, int], bytes]:
    return lambda height, index: tree_hash(leaves[index << height : (index + 1) << height])


def test_the_roots_of_certificate_transparency() -> None:
    assert [root_hash(size, reader(LEAVES)) for size in range(9)] == ROOTS
    frontier = Frontier()
    for leaf, root in zip(LEAVES, ROOTS[1:], strict=True):
        frontier.add([leaf])
        assert frontier.root() == root


@pytest.mark.parametrize("vector", VECTORS["inclusion"])
def test_the_inclusion_proofs_of_certificate_transparency(vector: dict[str, Any]) -> None:
    proof = inclusion_proof(vector["index"], vector["size"], reader(LEAVES))
    assert [part.hex() for part in proof] == vector["proof"]


@pytest.mark.parametrize("vector", VECTORS["consistency"])
def test_the_consistency_proofs_of_certificate_transparency(vector: dict[str, Any]) -> None:
    proof = consistency_proof(vector["old"], vector["new"], reader(LEAVES))
    assert [part.hex() for part in proof] == vector["proof"]


@given(ENTRIES, st.data())
def test_pymerkle_makes_the_same_tree(entries: list[bytes], data: st.DataObject) -> None:
    tree = pymerkle.InmemoryTree(algorithm="sha256")
    tree.append_entries(entries)
    leaves, size = leaf_hashes(entries), len(entries)
    read, root = reader(leaves), root_hash(size, reader(leaves))
    assert root == tree.get_root(size)
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))

    inclusion = inclusion_proof(index, size, read)
    assert [part.hex() for part in inclusion] == tree.prove_inclusion(index + 1, size).serialize()["path"][1:]
    verify_inclusion(leaves[index], index, size, inclusion, root)

    consistency = consistency_proof(old, size, read)
    pymerkle.verify_consistency(root_hash(old, read), root, tree.prove_consistency(old, size))
    verify_consistency(old, tree.get_root(old), size, tree.get_root(size), consistency)


@given(ENTRIES, st.data())
def test_no_changed_proof_is_accepted(entries: list[bytes], data: st.DataObject) -> None:
    leaves, size = leaf_hashes(entries), len(entries)
    read, root = reader(leaves), root_hash(size, reader(leaves))
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    inclusion, consistency = inclusion_proof(index, size, read), consistency_proof(old, size, read)
    for changed in _changed(inclusion, data):
        with pytest.raises(VerificationError):
            verify_inclusion(leaves[index], index, size, changed, root)
    for changed in _changed(consistency, data):
        with pytest.raises(VerificationError):
            verify_consistency(old, root_hash(old, read), size, root, changed)
    with pytest.raises(VerificationError):
        verify_inclusion(leaf_hash(b"another"), index, size, inclusion, root)
    with pytest.raises(VerificationError):
        verify_consistency(old, leaf_hash(b"another"), size, root, consistency)


def _changed(proof: tuple[bytes, ...], data: st.DataObject) -> list[tuple[bytes, ...]]:
    found = [(*proof, bytes(32))]
    if proof:
        at, bit = data.draw(st.integers(0, len(proof) - 1)), data.draw(st.integers(0, 255))
        spoilt = (int.from_bytes(proof[at], "big") ^ 1 << bit).to_bytes(32, "big")
        found += [proof[:-1], proof[1:], (*proof[:at], spoilt, *proof[at + 1 :])]
    return found


REFUSED = {
    "inclusion proof of entry 8 in a tree of 8: there is no such entry": lambda: verify_inclusion(
        LEAVES[7], 8, 8, (), ROOTS[8]
    ),
    "inclusion proof of entry 0 in a tree of 8: too short": lambda: verify_inclusion(LEAVES[0], 0, 8, (), ROOTS[8]),
    "inclusion proof of entry 0 in a tree of 1: too long": lambda: verify_inclusion(
        LEAVES[0], 0, 1, (ROOTS[1],), ROOTS[1]
    ),
    "inclusion proof of entry 0 in a tree of 1: leads to another root": lambda: verify_inclusion(
        LEAVES[1], 0, 1, (), ROOTS[1]
    ),
    "consistency proof from 8 to 7: a log never gets smaller": lambda: verify_consistency(8, ROOTS[8], 7, ROOTS[7], ()),
    "consistency proof from 7 to 7: two roots of one size": lambda: verify_consistency(7, ROOTS[7], 7, ROOTS[8], ()),
    "consistency proof from 0 to 7: two roots of one size": lambda: verify_consistency(0, ROOTS[1], 7, ROOTS[7], ()),
    "consistency proof from 7 to 7: too long": lambda: verify_consistency(7, ROOTS[7], 7, ROOTS[7], (ROOTS[1],)),
    "consistency proof from 6 to 8: too short": lambda: verify_consistency(6, ROOTS[6], 8, ROOTS[8], ()),
    "consistency proof from 6 to 8: leads to another old root": lambda: verify_consistency(
        6, ROOTS[5], 8, ROOTS[8], consistency_proof(6, 8, reader(LEAVES))
    ),
    "consistency proof from 6 to 8: leads to another new root": lambda: verify_consistency(
        6, ROOTS[6], 8, ROOTS[7], consistency_proof(6, 8, reader(LEAVES))
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_refusals(message: str) -> None:
    with pytest.raises(VerificationError) as caught:
        REFUSED[message]()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "call", [lambda: inclusion_proof(3, 3, reader([])), lambda: consistency_proof(4, 3, reader([]))]
)
def test_no_proof_of_what_is_not_there(call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="a tree of 3"):
        call()


@given(st.integers(0, 3 * 65_536), st.integers(0, 400))
def test_frontier_and_upper_tiles_agree_on_any_size(full: int, count: int) -> None:
    """With every tile of level 0 the same, the tree over them is cheap to compute by hand."""
    full //= 256
    tile = leaf_hashes(b"%d" % index for index in range(256))
    upper = UpperTiles()
    for _ in range(full):
        upper.add(tile)
    tail = leaf_hashes(b"%d" % index for index in range(count % 256))
    frontier = upper.frontier()
    frontier.add(tail)
    assert frontier.root() == tree_hash([*[tree_hash(tile)] * full, *([tree_hash(tail)] if tail else [])])
    assert frontier.size == full * 256 + len(tail)
    expected = [Tile(level, index, width) for level, index, width in _upper_edge(full)]
    assert [tile for tile, _ in upper.partial()] == expected


def _upper_edge(full: int) -> list[tuple[int, int, int]]:
    found, level = [], 1
    while full:
        if full % 256:
            found.append((level, full // 256, full % 256))
        full, level = full // 256, level + 1
    return found


@given(st.integers(1, 70_000), st.data())
def test_a_proof_needs_no_tile_that_pruning_may_remove(size: int, data: st.DataObject) -> None:
    """c2sp.org/tlog-tiles, Pruning: what is at or above the minimum index stays provable."""
    minimum = data.draw(st.integers(0, size - 1))
    index, old = data.draw(st.integers(minimum, size - 1)), data.draw(st.integers(max(1, minimum), size))
    kept = {(tile.level, tile.index): tile.width for tile in tree_files(size, minimum)}

    def read(level: int, number: int, width: int) -> list[bytes]:
        assert kept[level, number] >= width
        return [b""] * 256

    inclusion_proof(index, size, node_reader(read))
    consistency_proof(old, size, node_reader(read))
    root_hash(old, node_reader(read))


@given(st.integers(0, 62), st.integers(0, 2**40))
def test_a_node_stands_in_one_tile(height: int, index: int) -> None:
    level, tile, first, count = tile_of(height, index)
    assert 0 <= first <= 256 - count
    assert (tile * 256 + first) << (8 * level) == index << height and count << (8 * level) == 1 << height
