"""A repository on disk: what is published, what an edit is told, what an interruption leaves."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata

from appliance.core.errors import EdgesealError, InputError, VerificationError
from appliance.formats.release import latest_path, release_path
from builder.publish import change, install, vendor
from builder.publish.change import Change, apply
from builder.publish.release import contents, releases
from builder.publish.repository import open_repository
from builder.publish.rotation import KeyChange
from builder.publish.status import status
from tests.support.publish import (
    NOW,
    PERIODS,
    PRODUCT,
    copy_of,
    key_of,
    plain_build,
    publish,
    release_repository,
    release_ring,
    tree,
)

pytestmark = pytest.mark.xdist_group("publish-repository")  # its repository is made once

EDITED = "restore the directory from a copy; nothing was changed now"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions 7 and 8 of one product, refreshed once. Never changed by a test."""
    base = tmp_path_factory.mktemp("published")
    release_repository(base / "repository")
    for version in (7, 8):
        publish(base / "repository", plain_build(base / f"build-{version}", version=version, security_epoch=1))
    vendor.refresh(base / "repository", release_ring(), now=NOW, periods=PERIODS)
    return base / "repository"


@pytest.fixture
def repository(published: Path, tmp_path: Path) -> Path:
    return copy_of(published, tmp_path / "repository")


def test_what_is_published(published: Path) -> None:
    repository = open_repository(published)
    assert [(item.product, item.version) for item in releases(repository)] == [(PRODUCT, 7), (PRODUCT, 8)]
    assert repository.read_target(release_path(PRODUCT, 8)) == repository.read_target(latest_path(PRODUCT))
    assert not repository.development
    assert repository.root.signed.consistent_snapshot
    names = sorted(path.name for path in (published / "metadata").iterdir())
    assert names == [
        *(f"{number}.{role}.json" for number, role in ((1, "firmware-line-inspection"), (1, "root"))),
        *(f"{number}.{role}.json" for number, role in ((1, "snapshot"), (1, "targets"))),
        "2.firmware-line-inspection.json",
        "2.snapshot.json",
        "2.targets.json",
        "3.snapshot.json",
        "4.snapshot.json",
        "timestamp.json",
    ]
    for release in releases(repository):
        for content in contents(release):
            assert (published / content.path).stat().st_size == content.size
    assert sorted(path.name for path in published.iterdir()) == [".work", "content", "metadata", "targets"]
    assert list((published / ".work").iterdir()) == []


def test_small_changes_share_their_content(published: Path) -> None:
    old, new = releases(open_repository(published))
    assert old.delta.frames != new.delta.frames
    assert old.root.uuid == new.root.uuid


def _change_byte(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def _first(path: Path, pattern: str) -> Path:
    return sorted(path.glob(pattern))[0]


def _uki(path: Path) -> Path:
    return path / next(releases(open_repository(path))).uki.path


Edit = Callable[[Path], Path]


def _edit(path: Path, change: Callable[[Path], object]) -> Path:
    change(path)
    return path


def _space(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b" ")


def _flip(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"sig":"', b'"sig":"0', 1))


def _copy_as(name: str) -> Callable[[Path], None]:
    return lambda path: shutil.copy(path, path.with_name(name)) and None


EDITS: list[tuple[str, Edit, str]] = [
    (
        "a byte of the timestamp",
        lambda at: _edit(at / "metadata/timestamp.json", _flip),
        "its bytes were changed: a signature does not verify",
    ),
    (
        "white space behind the timestamp",
        lambda at: _edit(at / "metadata/timestamp.json", _space),
        "its bytes were changed: not as they were written",
    ),
    (
        "no JSON",
        lambda at: _edit(at / "metadata/timestamp.json", lambda path: path.write_bytes(b"{")),
        "not TUF metadata",
    ),
    (
        "another role's metadata",
        lambda at: _edit(at / "metadata/timestamp.json", lambda path: shutil.copy(path.with_name("1.root.json"), path)),
        "not metadata of type timestamp",
    ),
    (
        "a byte of the snapshot",
        lambda at: _edit(at / "metadata/4.snapshot.json", lambda path: _change_byte(path, 30)),
        "its bytes were changed: not the ones that were published",
    ),
    (
        "a byte of the targets",
        lambda at: _edit(at / "metadata/2.targets.json", lambda path: _change_byte(path, 300)),
        "its bytes were changed: not the ones that were published",
    ),
    (
        "a byte of a delegated role",
        lambda at: _edit(at / "metadata/2.firmware-line-inspection.json", lambda path: _change_byte(path, 300)),
        "its bytes were changed: not the ones that were published",
    ),
    (
        "a byte of the root",
        lambda at: _edit(at / "metadata/1.root.json", _flip),
        "its bytes were changed: a signature does not verify",
    ),
    ("no snapshot", lambda at: _edit(at / "metadata/4.snapshot.json", Path.unlink), "this file is missing"),
    (
        "no root",
        lambda at: _edit(at / "metadata/1.root.json", Path.unlink),
        "this version of the root is missing",
    ),
    (
        "a version more of the targets",
        lambda at: _edit(at / "metadata/2.targets.json", _copy_as("3.targets.json")).with_name("3.targets.json"),
        "this version was never published",
    ),
    (
        "a version more of the root",
        lambda at: _edit(at / "metadata/1.root.json", _copy_as("2.root.json")).with_name("2.root.json"),
        "it says that it is version 1",
    ),
    (
        "a role more",
        lambda at: _edit(at / "metadata/2.targets.json", _copy_as("1.mine.json")).with_name("1.mine.json"),
        "this version was never published",
    ),
    (
        "a file more",
        lambda at: _edit(at / "metadata/note.txt", Path.touch),
        "this is none of the repository's files",
    ),
    (
        "no target",
        lambda at: _edit(_first(at, "targets/firmware/*/*.7.json"), Path.unlink),
        "this target is missing",
    ),
    (
        "a byte of a target",
        lambda at: _edit(_first(at, "targets/firmware/*/*.8.json"), _space),
        "its bytes are not the target's",
    ),
    (
        "a target more",
        lambda at: _edit(at / f"targets/{'0' * 64}.mine.json", Path.touch),
        "this is none of the repository's files",
    ),
    ("no content", lambda at: _edit(_uki(at), Path.unlink), "this content is missing"),
    (
        "content cut off",
        lambda at: _edit(_uki(at), lambda path: os.truncate(path, 5)),
        "it has 5 bytes instead of 4500",
    ),
]


@pytest.mark.parametrize(("edit", "message"), [row[1:] for row in EDITS], ids=[row[0] for row in EDITS])
def test_an_edited_directory_is_refused_with_the_place(repository: Path, edit: Edit, message: str) -> None:
    place = edit(repository)
    before = tree(repository)
    build = plain_build(repository.parent / "build", version=9, security_epoch=1)
    for attempt in (
        lambda: vendor.refresh(repository, release_ring(), now=NOW, periods=PERIODS),
        lambda: vendor.stage_release(repository, build, vendor.Wanted(), now=NOW),
        lambda: vendor.stage_rotation(repository, KeyChange(), now=NOW, periods=PERIODS),
        lambda: status(repository, now=NOW, periods=PERIODS),
    ):
        with pytest.raises(VerificationError) as refused:
            attempt()
        assert (str(refused.value), refused.value.hint) == (f"{place}: {message}", EDITED)
        assert tree(repository) == before


def test_a_changed_byte_of_content_is_found_by_hashing_all(repository: Path) -> None:
    place = _uki(repository)
    _change_byte(place, 7)
    status(repository, now=NOW, periods=PERIODS)
    with pytest.raises(VerificationError) as refused:
        status(repository, now=NOW, periods=PERIODS, full=True)
    assert str(refused.value) == f"{place}: its bytes were changed: not the hash in its name"


def test_an_unreadable_target_is_told(repository: Path) -> None:
    place = _first(repository, "targets/firmware/*/*.7.json")
    place.unlink()
    place.mkdir()
    with pytest.raises(EdgesealError) as refused:
        open_repository(repository)
    assert str(refused.value) == f"{place}: cannot be read: Is a directory"


def test_nothing_is_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "nothing", tmp_path / "empty"):
        with pytest.raises(InputError) as refused:
            open_repository(path)
        assert (str(refused.value), refused.value.hint) == (
            f"{path}: there is no repository",
            "make one: edgeseal repo init",
        )


def test_two_at_once_are_refused(repository: Path) -> None:
    before = tree(repository)
    with install.locked(repository), pytest.raises(EdgesealError) as refused:
        vendor.refresh(repository, release_ring(), now=NOW, periods=PERIODS)
    assert str(refused.value) == f"{repository}: another edgeseal is at work on this repository"
    assert tree(repository) == before


def test_a_refresh_touches_no_file_that_is_named(repository: Path) -> None:
    before = tree(repository)
    later = NOW + timedelta(days=3)
    done = vendor.refresh(repository, release_ring(), now=later, periods=PERIODS)
    after = tree(repository)
    assert {name for name in before if after.get(name) != before[name]} == {"metadata/timestamp.json"}
    assert set(after) - set(before) == {"metadata/5.snapshot.json"}
    assert done.repository.timestamp.signed.expires == later.replace(microsecond=0) + timedelta(days=PERIODS.timestamp)


def test_versions_rise_by_one_and_never_repeat(repository: Path) -> None:
    now = open_repository(repository)
    before = tree(repository)
    draft = change.draft_targets(now.targets, expires=PERIODS.expires("targets", NOW))
    draft.signed.version = now.targets.signed.version + 2
    old: Metadata[object] = now.targets
    for wrong in (draft, old):
        for holder in ("anna", "bob"):
            signer = release_ring().signer(key_of(holder).key.keyid)
            assert signer is not None
            change.sign_metadata(wrong, signer)
        with pytest.raises(VerificationError) as refused:
            apply(repository, Change(targets=wrong), release_ring(), now=NOW, periods=PERIODS)  # type: ignore[arg-type]
        assert str(refused.value) == f"targets: this is version {wrong.signed.version}, the next one is 3"  # type: ignore[attr-defined]
        assert tree(repository) == before


def test_a_target_without_its_bytes_is_refused(repository: Path) -> None:
    now = open_repository(repository)
    before = tree(repository)
    draft = change.draft_targets(now.targets, expires=PERIODS.expires("targets", NOW), add={"a.json": b"{}"})
    for holder in ("anna", "bob"):
        signer = release_ring().signer(key_of(holder).key.keyid)
        assert signer is not None
        change.sign_metadata(draft, signer)
    for files in ({}, {"a.json": b"[]"}):
        with pytest.raises(VerificationError) as refused:
            apply(repository, Change(targets=draft, files=files), release_ring(), now=NOW, periods=PERIODS)
        assert str(refused.value) == "the bytes of target a.json are not here"
        assert tree(repository) == before


def test_periods_are_arguments() -> None:
    periods = replace(PERIODS, timestamp=2, delegated=9)
    assert periods.expires("timestamp", NOW) == NOW + timedelta(days=2)
    assert periods.expires("firmware-x", NOW) == NOW + timedelta(days=9)
