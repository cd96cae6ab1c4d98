"""The hash tree, recomputed: against a vector made by veritysetup 2.7.5, and its broken twins."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.core.errors import VerificationError
from builder.review.verity import BLOCK, check_tree, compute_tree

SALT = bytes.fromhex("ab" * 32)
UUID = "0f7a1c9e-0000-4000-8000-000000000001"


def data(path: Path, blocks: int) -> Path:
    path.write_bytes(b"".join(number.to_bytes(4, "big") * (BLOCK // 4) for number in range(blocks)))
    return path


# veritysetup format DATA TREE --salt=ab… --uuid=0f7a1c9e-… --hash=sha256 --data-block-size=4096 --hash-block-size=4096
@pytest.mark.parametrize(
    ("blocks", "root_hash", "size"),
    [
        (1, "dd2661f29736b994bb4d44940a72e328d0b56887df8761a1274e7d51cc525eed", 4096),
        (2, "1176fe8b1ab89deb9eeec39cb461642fd00f9bbbc1d5f3a9c2767c1622da3873", 8192),
        (128, "3ca31d15331b3a51836d339b72070d8e01c0e5fb01fe6ae50564d70789b70f38", 8192),
        (129, "ff51f3df015b8d137b65cd9c424aeba57d19bdf1c8fe059b2ab53bd907f18b1f", 16384),
        (200, "ae55e5563339e658f2455a2375c306c36893b5c865cb55909f104a32d71a0259", 16384),
        (16385, "33d0f628c9d01cfbc1bfd2356cacc892bbd76f907f750255f1ffdeca88f2a79a", 544768),
    ],
)
def test_vectors(tmp_path: Path, blocks: int, root_hash: str, size: int) -> None:
    tree = compute_tree(data(tmp_path / "d", blocks), salt=SALT, uuid=UUID)
    assert (tree.root_hash, len(tree.area)) == (root_hash, size)


def test_a_right_area_passes(tmp_path: Path) -> None:
    tree = compute_tree(data(tmp_path / "d", 200), salt=SALT, uuid=UUID)
    (tmp_path / "root.verity").write_bytes(tree.area)
    assert check_tree(tmp_path / "root.verity", tree) == 4 * BLOCK


@pytest.mark.parametrize(
    ("at", "message"),
    [
        (20, "root.verity differs from the tree over the data at byte 20 (superblock): {}"),
        (BLOCK, "root.verity differs from the tree over the data at byte 4096 (hash block 0): {}"),
        (3 * BLOCK + 7, "root.verity differs from the tree over the data at byte 12295 (hash block 2): {}"),
    ],
)
def test_one_flipped_bit_is_named(tmp_path: Path, at: int, message: str) -> None:
    tree = compute_tree(data(tmp_path / "d", 200), salt=SALT, uuid=UUID)
    broken = bytearray(tree.area)
    broken[at] ^= 0x80
    (tmp_path / "root.verity").write_bytes(broken)
    with pytest.raises(VerificationError) as caught:
        check_tree(tmp_path / "root.verity", tree)
    assert str(caught.value) == message.format(f"{broken[at]:02x}, computed {tree.area[at]:02x}")


@pytest.mark.parametrize("change", [-1, 1])
def test_other_length(tmp_path: Path, change: int) -> None:
    tree = compute_tree(data(tmp_path / "d", 2), salt=SALT, uuid=UUID)
    (tmp_path / "root.verity").write_bytes((tree.area + b"\0")[: len(tree.area) + change])
    with pytest.raises(
        VerificationError, match=rf"has {2 * BLOCK + change} bytes, the tree over the data has {2 * BLOCK}"
    ):
        check_tree(tmp_path / "root.verity", tree)


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK + 1])
def test_only_whole_blocks(tmp_path: Path, size: int) -> None:
    (tmp_path / "d").write_bytes(b"x" * size)
    with pytest.raises(VerificationError, match="are not whole blocks of 4096"):
        compute_tree(tmp_path / "d", salt=SALT, uuid=UUID)


def test_one_changed_bit_of_data_changes_the_root_hash(tmp_path: Path) -> None:
    before = compute_tree(data(tmp_path / "d", 130), salt=SALT, uuid=UUID)
    raw = bytearray((tmp_path / "d").read_bytes())
    raw[-1] ^= 1
    (tmp_path / "d").write_bytes(raw)
    assert compute_tree(tmp_path / "d", salt=SALT, uuid=UUID).root_hash != before.root_hash
