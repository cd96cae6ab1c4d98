"""`edgeseal verify --rebuild` says where two builds differ, down to the byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from builder.review.gpt import read_partitions
from builder.review.manifest import decode_manifest
from tests.integration.build.conftest import GROUP
from tests.support.disk import copy_sparse
from tests.support.workplace import Workplace

pytestmark = pytest.mark.xdist_group(GROUP)


def plant(path: Path, offset: int) -> tuple[int, int]:
    """Flip one bit; returns the byte as it is now and as it was."""
    with path.open("r+b") as stream:
        stream.seek(offset)
        before = stream.read(1)[0]
        stream.seek(offset)
        stream.write(bytes([before ^ 0x10]))
    return before ^ 0x10, before


@pytest.fixture
def planted(built: Workplace) -> Path:
    """A copy of a good build."""
    target = built.out("planted")
    target.mkdir()
    for path in built.out("virtual-x86_64").iterdir():
        copy_sparse(path, target / path.name)
    return target


def test_a_planted_difference_is_named(built: Workplace, planted: Path) -> None:
    free = next(part for part in read_partitions(planted / "disk.raw") if part.label == "root-b")
    in_disk, in_root = free.offset + 12345, decode_manifest((planted / "manifest.json").read_bytes())
    end_of_root = in_root.files["root.erofs"].size - 1
    disk_now, disk_was = plant(planted / "disk.raw", in_disk)
    root_now, root_was = plant(planted / "root.erofs", end_of_root)

    process = built.start("verify", planted, "--keys", built.root / "keys", "--rebuild", "--json")
    said, talk = process.communicate()

    assert process.returncode == 1, talk
    result = json.loads(said)
    assert result["rebuild"]["equal"] is False
    found = {item["file"]: item for item in result["rebuild"]["differences"]}
    assert sorted(found) == ["disk.raw", "root.erofs"]
    for file, offset, now, was in (
        ("disk.raw", in_disk, disk_now, disk_was),
        ("root.erofs", end_of_root, root_now, root_was),
    ):
        assert found[file]["offset"] == offset
        assert f"[{now:02x}]" in found[file]["old"], found[file]
        assert f"[{was:02x}]" in found[file]["new"], found[file]
    assert "root-b" in found["disk.raw"]["where"]
