"""Making the delta of a root: deterministic, idempotent, and never of another root than the release says."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from appliance.core.errors import VerificationError
from appliance.formats.release import BLOCK
from builder.archive.digest import file_sha256
from builder.publish.delta import add_content, add_content_bytes, make_delta
from tests.support.delta import filled_block, hashed_block, publish

BLOCKS = [hashed_block(number % 50) for number in range(300)] + [filled_block(0)] * 20


def files(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def test_two_makers_write_the_same_bytes_under_their_hashes(tmp_path: Path) -> None:
    one, other = (publish(tmp_path / name, BLOCKS, number=1) for name in ("one", "other"))
    assert one.release == other.release
    assert files(tmp_path / "one") == files(tmp_path / "other")
    contents = [path for path in files(tmp_path / "one") if path.startswith("content/")]
    assert len(contents) == 3
    for path in contents:
        assert path == f"content/{file_sha256(tmp_path / 'one' / path)[:2]}/{file_sha256(tmp_path / 'one' / path)}"


def test_statistics(tmp_path: Path) -> None:
    published = publish(tmp_path, BLOCKS, number=1)
    made = make_delta(tmp_path / "1.erofs", published.release.root, tmp_path)
    assert (made.blocks, made.deflated) == (320, 20)
    assert made.delta == published.release.delta
    assert made.delta.groups.size == 20 + 40 * made.groups
    assert made.delta.leaves.size == 320 * 18 + 20 * 16
    assert 300 * BLOCK + 20 <= made.delta.frames.size < 301 * BLOCK


def test_a_second_time_nothing_is_written(tmp_path: Path) -> None:
    publish(tmp_path, BLOCKS, number=1)
    before = {path: (tmp_path / path).stat().st_mtime_ns for path in files(tmp_path) if path.startswith("content")}
    publish(tmp_path, BLOCKS, number=1)
    assert {path: (tmp_path / path).stat().st_mtime_ns for path in before} == before


def test_content_that_somebody_edited_is_replaced(tmp_path: Path) -> None:
    content = add_content_bytes(b"right", tmp_path)
    (tmp_path / content.path).write_bytes(b"wrong")
    (tmp_path / "source").write_bytes(b"right")
    assert add_content(tmp_path / "source", tmp_path) == content
    assert (tmp_path / content.path).read_bytes() == b"right"
    assert [path for path in files(tmp_path) if path != "source"] == [content.path]
    assert (tmp_path / content.path).stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("change", ["root_hash", "size", "hash_size"])
def test_another_image_than_the_release_names(change: str, tmp_path: Path) -> None:
    root = publish(tmp_path / "good", BLOCKS, number=1).release.root
    value = "ab" * 32 if change == "root_hash" else getattr(root, change) + BLOCK
    wrong = msgspec.structs.replace(root, **{change: value})
    with pytest.raises(VerificationError) as refusal:
        make_delta(tmp_path / "good/1.erofs", wrong, tmp_path / "out")
    what = {
        "root_hash": f"the root hash {root.root_hash}, the release says {'ab' * 32}",
        "size": f"{root.size} bytes, the release says {root.size + BLOCK}",
        "hash_size": f"a hash tree of {root.hash_size} bytes, the release says {root.hash_size + BLOCK}",
    }[change]
    assert str(refusal.value) == f"1.erofs has {what}"
    assert not (tmp_path / "out").exists()
