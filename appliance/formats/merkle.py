"""Merkle trees over SHA-256, as RFC 6962 section 2.1 (the same tree as RFC 9162 section 2.1). Pure.

A node is named by (height, index): the root of the complete subtree over leaves index * 2^height up to, and without,
(index + 1) * 2^height; height 0 are the leaves. A NodeReader gives the hash of such a node. Proofs are made from what
it gives and from nothing else, so they need about as many nodes as the proof is long, never a scan.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

from appliance.core.errors import VerificationError

HASH_BYTES = 32
MAX_SIZE = 2**63 - 1
EMPTY_ROOT = hashlib.sha256(b"").digest()

NodeReader = Callable[[int, int], bytes]
"""(height, index) -> hash of that complete subtree. Raises what the storage raises."""


def leaf_hash(entry: bytes) -> bytes:
    """SHA-256(0x00 || entry)."""
    return hashlib.sha256(b"\0" + entry).digest()


def leaf_hashes(entries: Iterable[bytes]) -> list[bytes]:
    """leaf_hash of each."""
    sha256 = hashlib.sha256
    return [sha256(b"\0" + entry).digest() for entry in entries]


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\1" + left + right).digest()


def tree_hash(hashes: Sequence[bytes]) -> bytes:
    """Root over neighbours of one height, from the left. The last may be the root of an incomplete subtree."""
    if not hashes:
        return EMPTY_ROOT
    sha256, row = hashlib.sha256, list(hashes)
    while len(row) > 1:
        pairs = [sha256(b"\1" + row[i] + row[i + 1]).digest() for i in range(0, len(row) - 1, 2)]
        row = [*pairs, row[-1]] if len(row) % 2 else pairs
    return row[0]


def root_hash(size: int, read: NodeReader) -> bytes:
    """Root of the tree over the first `size` leaves."""
    return _span_hash(0, size, read) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, read: NodeReader) -> tuple[bytes, ...]:
    """RFC 9162 section 2.1.3.1: from the leaf's sibling up. Raises ValueError unless 0 <= index < size."""
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} is not in a tree of {size}")
    start, end, proof = 0, size, []
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            proof.append(_span_hash(middle, end, read))
            end = middle
        else:
            proof.append(_span_hash(start, middle, read))
            start = middle
    return tuple(reversed(proof))


def consistency_proof(old: int, new: int, read: NodeReader) -> tuple[bytes, ...]:
    """RFC 9162 section 2.1.4.1; empty when `old` is 0 or `new`. Raises ValueError unless 0 <= old <= new."""
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {new} does not continue one of {old}")
    if old in (0, new):
        return ()
    start, end, whole, proof = 0, new, True, []
    while end != old:
        middle = start + _split(end - start)
        if old <= middle:
            proof.append(_span_hash(middle, end, read))
            end = middle
        else:
            proof.append(_span_hash(start, middle, read))
            start, whole = middle, False
    if not whole:
        proof.append(_span_hash(start, end, read))
    return tuple(reversed(proof))


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """RFC 9162 section 2.1.3.2. leaf: its hash. Raises VerificationError."""
    what = f"inclusion proof of entry {index} in a tree of {size}"
    if not 0 <= index < size:
        raise VerificationError(f"{what}: there is no such entry")
    node, last, value = index, size - 1, leaf
    for step in proof:
        if last == 0:
            raise VerificationError(f"{what}: too long")
        if node & 1 or node == last:
            value = node_hash(step, value)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            value = node_hash(value, step)
        node, last = node >> 1, last >> 1
    if last:
        raise VerificationError(f"{what}: too short")
    if value != root:
        raise VerificationError(f"{what}: leads to another root")


def verify_consistency(old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]) -> None:
    """RFC 9162 section 2.1.4.2; `proof` is empty when `old` is 0 or `new`. Raises VerificationError."""
    what = f"consistency proof from {old} to {new}"
    if not 0 <= old <= new:
        raise VerificationError(f"{what}: a log never gets smaller")
    if old in (0, new):
        if proof:
            raise VerificationError(f"{what}: too long")
        if old_root != (EMPTY_ROOT if old == 0 else new_root):
            raise VerificationError(f"{what}: two roots of one size")
        return
    _verify_growth(old, old_root, new, new_root, list(proof), what)


def _verify_growth(old: int, old_root: bytes, new: int, new_root: bytes, proof: list[bytes], what: str) -> None:
    node, last = old - 1, new - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    if node:
        if not proof:
            raise VerificationError(f"{what}: too short")
        first = proof.pop(0)
    else:
        first = old_root
    was = now = first
    for step in proof:
        if last == 0:
            raise VerificationError(f"{what}: too long")
        if node & 1 or node == last:
            was, now = node_hash(step, was), node_hash(step, now)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            now = node_hash(now, step)
        node, last = node >> 1, last >> 1
    if last:
        raise VerificationError(f"{what}: too short")
    if was != old_root:
        raise VerificationError(f"{what}: leads to another old root")
    if now != new_root:
        raise VerificationError(f"{what}: leads to another new root")


def _split(count: int) -> int:
    """Largest power of two below `count`."""
    return 1 << ((count - 1).bit_length() - 1)


def _span_hash(start: int, end: int, read: NodeReader) -> bytes:
    """Root over leaves start up to, without, end; start is a multiple of a power of two not below the span."""
    count = end - start
    if count & (count - 1) == 0:
        height = count.bit_length() - 1
        return read(height, start >> height)
    middle = start + _split(count)
    return node_hash(_span_hash(start, middle, read), _span_hash(middle, end, read))
