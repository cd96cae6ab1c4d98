"""Two builds that differ in one thing: it is named, in the file that it came from first."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.host.sandbox import Sandbox
from builder.review.compare import ORDER, compare_builds
from builder.signing.keyset import KeySet
from builder.signing.roles import Role
from tests.support.review_build import Ingredients, default_files, make_build
from tests.support.review_lock import EPOCH

pytestmark = pytest.mark.xdist_group("review")  # the good build is made once


def test_equal_builds_do_not_differ(good: Path, tmp_path: Path, tools: Sandbox) -> None:
    shutil.copytree(good, tmp_path / "copy")
    assert compare_builds(good, tmp_path / "copy", tools) == ()


def test_one_byte_of_one_file_in_the_root(good: Path, tmp_path: Path, tools: Sandbox, keys: KeySet) -> None:
    new = make_build(
        tmp_path / "new", tools, Ingredients(keys, files=default_files() | {"etc/group": b"root:x:0:\nuplinK:x:702:\n"})
    )
    found = compare_builds(good, new, tools)
    assert [item.file for item in found] == list(ORDER)
    first = found[0]
    assert (first.file, first.where) == ("root.erofs", "/etc/group byte 15")
    assert first.old == "30 3a 0a 75 70 6c 69 6e [6b] 3a 78 3a 37 30 32 3a 0a"
    assert first.new == "30 3a 0a 75 70 6c 69 6e [4b] 3a 78 3a 37 30 32 3a 0a"
    where = {item.file: item.where for item in found}
    assert where["disk.raw"].startswith(("partition esp", "partition root-a", "outside of the partitions"))
    assert where["uki.efi"].startswith("section .cmdline byte ")
    assert where["manifest.json"].startswith("$.")
    assert where["sbom.cdx.json"].startswith("$.metadata.component.")
    assert where["provenance.dsse.json"].startswith("payload, $.subject[0].")


def test_a_file_more_and_another_mode(good: Path, tmp_path: Path, tools: Sandbox, keys: KeySet) -> None:
    more = make_build(tmp_path / "more", tools, Ingredients(keys, files=default_files() | {"etc/aaa": b"x"}))
    first = compare_builds(good, more, tools)[0]
    assert (first.where, first.old) == ("/etc/aaa", "(absent)")
    ingredients = Ingredients(keys, modes={"usr/bin/python3": 0o700})
    mode = compare_builds(good, make_build(tmp_path / "mode", tools, ingredients), tools)[0]
    assert mode.where == "/usr/bin/python3"
    assert (" 0755 " in mode.old, " 0700 " in mode.new) == (True, True)


def test_another_encoding_of_the_same_tree(good: Path, tmp_path: Path, tools: Sandbox, keys: KeySet) -> None:
    new = make_build(tmp_path / "time", tools, Ingredients(keys, erofs_epoch=EPOCH + 1))
    assert compare_builds(good, new, tools)[0].where.endswith("; the trees are equal, the encoding is not")


def test_another_key_shows_in_the_signature(good: Path, tmp_path: Path, tools: Sandbox, keys: KeySet) -> None:
    found = compare_builds(good, make_build(tmp_path / "new", tools, Ingredients(keys, uki_role=Role.KEK)), tools)
    assert found[0].file == "uki.efi"
    assert found[0].where.startswith("headers or signature, byte ")
    assert found[1].where.startswith("partition esp, its byte ")


@pytest.mark.parametrize(
    ("break_it", "where"),
    [
        (lambda new: (new / "root.verity").unlink(), "the file"),
        (lambda new: (new / "root.verity").write_bytes(b""), "byte 0"),
    ],
)
def test_missing_and_empty(
    break_it: Callable[[Path], object], where: str, good: Path, tmp_path: Path, tools: Sandbox
) -> None:
    shutil.copytree(good, tmp_path / "new")
    break_it(tmp_path / "new")
    (found,) = compare_builds(good, tmp_path / "new", tools)
    assert (found.file, found.where) == ("root.verity", where)


def test_what_cannot_be_opened_is_compared_by_byte(good: Path, tmp_path: Path, tools: Sandbox) -> None:
    shutil.copytree(good, tmp_path / "new")
    for name in ("root.erofs", "uki.efi", "manifest.json", "provenance.dsse.json"):
        (tmp_path / "new" / name).write_bytes(b"\xff" * 10)
    assert {item.where for item in compare_builds(good, tmp_path / "new", tools)} == {"byte 0"}
