"""A plan and a directory are two forms of one thing, whatever the umask."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.host.paths import source_root
from builder.rootfs.entries import Directory, File, RootPlan, Symlink
from builder.rootfs.tree import scan, write_tree

PLAN: RootPlan = {
    "usr/bin/program": File(content=b"x", mode=0o755),
    "etc/secret": File(content=b"y", mode=0o400),
    "bin": Symlink("usr/bin"),
    "var/tmp": Directory(mode=0o700),
}


@pytest.fixture(params=[0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(directory: Path) -> dict[str, str]:
    return {str(path.relative_to(directory)): stat.filemode(path.lstat().st_mode) for path in directory.rglob("*")}


def test_what_is_written(tmp_path: Path, umask: int) -> None:
    write_tree(PLAN, tmp_path)
    assert modes(tmp_path) == {
        "bin": "lrwxrwxrwx",
        "etc": "drwxr-xr-x",
        "etc/secret": "-r--------",
        "usr": "drwxr-xr-x",
        "usr/bin": "drwxr-xr-x",
        "usr/bin/program": "-rwxr-xr-x",
        "var": "drwxr-xr-x",
        "var/tmp": "drwx------",
    }


def test_a_scan_knows_two_kinds_of_files_and_empty_directories(tmp_path: Path, umask: int) -> None:
    """Modes of unpacked packages would follow the umask otherwise."""
    write_tree(PLAN, tmp_path)
    found = scan(tmp_path)
    assert list(found) == ["bin", "etc/secret", "usr/bin/program", "var/tmp"]
    assert {path: getattr(entry, "mode", None) for path, entry in found.items()} == {
        "bin": None,
        "etc/secret": 0o644,
        "usr/bin/program": 0o755,
        "var/tmp": 0o755,
    }


def test_a_file_of_the_checkout_is_copied_so_that_an_edit_in_place_changes_no_finished_step(tmp_path: Path) -> None:
    source = source_root() / "appliance/core/errors.py"
    (tmp_path / "target").mkdir()
    write_tree({"errors.py": File(source=source, mode=source.stat().st_mode & 0o777)}, tmp_path / "target")
    assert not (tmp_path / "target/errors.py").samefile(source)
    assert (tmp_path / "target/errors.py").read_bytes() == source.read_bytes()


def test_files_are_linked_when_their_mode_is_right_and_copied_when_it_is_not(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x")
    source.chmod(0o644)
    (tmp_path / "target").mkdir()
    write_tree({"same": File(source=source), "other": File(source=source, mode=0o600)}, tmp_path / "target")
    assert (tmp_path / "target/same").samefile(source)
    assert not (tmp_path / "target/other").samefile(source)
    assert stat.S_IMODE(source.stat().st_mode) == 0o644
