"""What a vendor is told when something may not be published: exact messages, and the repository as it was."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance.core.errors import EdgesealError, InputError, VerificationError
from builder.publish import staging, vendor
from builder.publish.keys import open_signer
from builder.publish.rotation import KeyChange
from builder.publish.vendor import Wanted
from builder.publish.words import describe
from tests.support.publish import (
    NOW,
    PERIODS,
    copy_of,
    development_repository,
    development_ring,
    key_of,
    plain_build,
    publish,
    release_repository,
    release_ring,
    release_roles,
    role_of,
    sign_as,
    tree,
)

pytestmark = pytest.mark.xdist_group("publish-refusals")  # its repository is made once

LATER = NOW + timedelta(days=1)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 7, security epoch 2. Never changed by a test."""
    base = tmp_path_factory.mktemp("ceremony")
    release_repository(base / "repository")
    publish(base / "repository", plain_build(base / "build", version=7, security_epoch=2))
    return base / "repository"


@pytest.fixture
def repository(published: Path, tmp_path: Path) -> Path:
    return copy_of(published, tmp_path / "repository")


def finish(repository: Path, *files: Path, now: datetime = NOW) -> Any:
    return staging.finish(repository, files, release_ring(), now=now, periods=PERIODS)


Act = Callable[[Path], object]


def _stage(path: Path, *, now: datetime = NOW, wanted: Wanted | None = None, **facts: Any) -> object:
    build = plain_build(path.parent / "another-build", **({"version": 8, "security_epoch": 2} | facts))
    return vendor.stage_release(path, build, wanted or Wanted(), now=now)


def _sign_with(holder: str) -> Act:
    def act(path: Path) -> object:
        _stage(path)
        before = tree(path)
        try:
            return sign_as(staging.ceremony_path(path), holder)
        finally:
            assert tree(path) == before
            staging.drop(path)

    return act


def _finish_signed_by(*holders: str) -> Act:
    def act(path: Path) -> object:
        _stage(path)
        sign_as(staging.ceremony_path(path), *holders)
        try:
            return finish(path)
        finally:
            staging.drop(path)

    return act


def _finish_without_online_keys(path: Path) -> object:
    _stage(path)
    sign_as(staging.ceremony_path(path), "anna", "bob")
    try:
        return staging.finish(path, [], development_ring(), now=NOW, periods=PERIODS)
    finally:
        staging.drop(path)


def _another_repositorys_ceremony(path: Path) -> object:
    other = path.parent / "other"
    release_repository(other, now=LATER)
    _stage(other)
    shutil.copytree(other / "staged", path / "staged")
    try:
        return finish(path)
    finally:
        staging.drop(path)


def _ceremony_of_an_older_state(path: Path) -> object:
    _stage(path)
    sign_as(staging.ceremony_path(path), "anna", "bob")
    kept = copy_of(path / "staged", path.parent / "kept")
    staging.drop(path)
    publish(path, plain_build(path.parent / "nine", version=9, security_epoch=2))
    before = tree(path)
    shutil.copytree(kept, path / "staged")
    try:
        return finish(path)
    finally:
        staging.drop(path)
        assert tree(path) == before
        shutil.rmtree(path)
        shutil.copytree(path.parent / "before", path)


def _another_ceremonys_copy(path: Path) -> object:
    vendor.stage_rotation(path, KeyChange(), now=NOW, periods=PERIODS)
    copy = path.parent / "copy"
    shutil.copy(staging.ceremony_path(path), copy)
    staging.drop(path)
    _stage(path)
    try:
        return finish(path, copy)
    finally:
        staging.drop(path)


def _second_ceremony(path: Path) -> object:
    vendor.stage_rotation(path, KeyChange(), now=NOW, periods=PERIODS)
    try:
        return _stage(path)
    finally:
        staging.drop(path)


def _full(path: Path) -> object:
    """A limit on the size of files stands for a disk that is full: the frames do not fit."""
    build = plain_build(path.parent / "big", version=8, security_epoch=2, blocks=512)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 10, hard))
    try:
        return vendor.stage_release(path, build, Wanted(), now=NOW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _full_at_the_end(path: Path) -> object:
    _stage(path)
    sign_as(staging.ceremony_path(path), "anna", "bob")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, hard))
    try:
        return finish(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        staging.drop(path)


def _open_passphrase(path: Path) -> object:
    from builder.publish.keys import make_key
    from builder.signing.descriptor import Secret

    secret = path.parent / "phrase"
    secret.write_text("words\n")
    secret.chmod(0o600)
    key = make_key(path.parent / "k" / "eve.json", holder="eve", passphrase=Secret(file=str(secret)))
    secret.chmod(0o644)
    return open_signer(key)


YEARS = NOW + timedelta(days=366)
REFUSED: list[tuple[str, Act, type[EdgesealError], str]] = [
    (
        "wrong key",
        _sign_with("dave"),
        InputError,
        "the key of dave ({dave:.8}) is asked for nothing here",
    ),
    (
        "an online key",
        _sign_with("timestamp"),
        InputError,
        "the key of timestamp ({timestamp:.8}) is asked for nothing here",
    ),
    (
        "nobody signed",
        _finish_signed_by(),
        VerificationError,
        "firmware-line-inspection: 0 of 2 signatures, 2 signatures missing; not signed: anna, bob, carol",
    ),
    (
        "one of two signed",
        _finish_signed_by("carol"),
        VerificationError,
        "firmware-line-inspection: 1 of 2 signatures, 1 signature missing; not signed: anna, bob",
    ),
    (
        "signed twice by the same",
        _finish_signed_by("bob", "bob"),
        VerificationError,
        "firmware-line-inspection: 1 of 2 signatures, 1 signature missing; not signed: anna, carol",
    ),
    (
        "online keys elsewhere",
        _finish_without_online_keys,
        EdgesealError,
        "snapshot: 1 of 1 online keys are not here: snapshot",
    ),
    (
        "targets lapsed, release",
        lambda path: _stage(path, now=YEARS),
        VerificationError,
        "{path}: targets: version 2 lapsed on 2027-03-01",
    ),
    (
        "targets lapsed, refresh",
        lambda path: vendor.refresh(path, release_ring(), now=YEARS, periods=PERIODS),
        VerificationError,
        "{path}: targets: version 2 lapsed on 2027-03-01",
    ),
    (
        "root lapsed, refresh",
        lambda path: vendor.refresh(path, release_ring(), now=NOW + timedelta(days=1095), periods=PERIODS),
        VerificationError,
        "{path}: root: version 1 lapsed on 2029-02-28",
    ),
    (
        "an equal version",
        lambda path: _stage(path, version=7),
        InputError,
        "{base}/another-build: line-inspection 7: version 7 is published already",
    ),
    (
        "a lower version",
        lambda path: _stage(path, version=6),
        InputError,
        "{base}/another-build: line-inspection 6: version 7 is published already",
    ),
    (
        "a lower security epoch",
        lambda path: _stage(path, security_epoch=1),
        InputError,
        "{base}/another-build: line-inspection 8: its security epoch is 1, published is 2",
    ),
    (
        "a development build",
        lambda path: _stage(path, development=True),
        InputError,
        "{base}/another-build: this build was made with development keys, the repository is a release repository",
    ),
    (
        "a development build, insisting",
        lambda path: _stage(path, development=True, wanted=Wanted(development=True)),
        InputError,
        "{base}/another-build: this build was made with development keys, the repository is a release repository",
    ),
    (
        "--dev on a release repository",
        lambda path: _stage(path, wanted=Wanted(development=True)),
        InputError,
        "{base}/another-build: --dev: this is a release repository",
    ),
    (
        "keys for a product that has some",
        lambda path: _stage(path, wanted=Wanted(keys=role_of("dave"))),
        InputError,
        "firmware-line-inspection has keys already",
    ),
    (
        "another repository's ceremony",
        _another_repositorys_ceremony,
        VerificationError,
        "{path}/staged/ceremony.json: this ceremony is for another repository",
    ),
    (
        "an older state's ceremony",
        _ceremony_of_an_older_state,
        VerificationError,
        "{path}/staged/ceremony.json: this ceremony is past: firmware-line-inspection is at version 2, it begins at 1",
    ),
    (
        "another ceremony's copy",
        _another_ceremonys_copy,
        VerificationError,
        "{base}/copy: this is not the ceremony that is staged here",
    ),
    (
        "a second ceremony",
        _second_ceremony,
        InputError,
        "{path}/staged/ceremony.json: a ceremony waits for signatures: rotate: new versions of the offline roles",
    ),
    (
        "a repository where one is",
        lambda path: vendor.stage_repository(path, release_roles(), development=False, now=NOW, periods=PERIODS),
        InputError,
        "{path}: there is a repository here already",
    ),
    ("a full disk", _full, EdgesealError, "{path}: cannot change the repository: file too large; it is as before"),
    (
        "a disk that is full at the end",
        _full_at_the_end,
        EdgesealError,
        "{path}: cannot change the repository: file too large; it is as before",
    ),
    (
        "a passphrase that others can read",
        _open_passphrase,
        InputError,
        "{base}/phrase: passphrase of eve: others can read it (mode 0644)",
    ),
    (
        "a holder of no key",
        lambda path: vendor.stage_rotation(path, KeyChange(remove=(("root", "eve"),)), now=NOW, periods=PERIODS),
        InputError,
        "root has no key of eve",
    ),
    (
        "a role that is none",
        lambda path: vendor.stage_rotation(path, KeyChange(thresholds={"roots": 1}), now=NOW, periods=PERIODS),
        InputError,
        "there is no role roots",
    ),
    (
        "a key that is there",
        lambda path: vendor.stage_rotation(
            path, KeyChange(add=(("root", key_of("anna").key),)), now=NOW, periods=PERIODS
        ),
        InputError,
        "root has the key of anna already",
    ),
    (
        "a development key",
        lambda path: vendor.stage_rotation(
            path,
            KeyChange(add=(("root", key_of("root-1", development_ring()).key),)),
            now=NOW,
            periods=PERIODS,
        ),
        InputError,
        "root: a release repository cannot have development keys: root-1",
    ),
]


@pytest.mark.parametrize(("act", "kind", "message"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_refusal_says_why_and_changes_nothing(
    repository: Path, act: Act, kind: type[EdgesealError], message: str
) -> None:
    copy_of(repository, repository.parent / "before")
    before = tree(repository)
    with pytest.raises(EdgesealError) as refused:
        act(repository)
    ids = {holder: key_of(holder).key.keyid for holder in ("dave", "timestamp")}
    assert str(refused.value) == message.format(path=repository, base=repository.parent, **ids)
    assert type(refused.value) is kind
    assert tree(repository) == before


def test_a_release_build_needs_dev_in_a_development_repository(tmp_path: Path) -> None:
    path = tmp_path / "repository"
    development_repository(path)
    build = plain_build(tmp_path / "build", version=1)
    with pytest.raises(InputError) as refused:
        vendor.stage_release(path, build, Wanted(), now=NOW)
    assert str(refused.value) == f"{build.directory}: this is a release build, the repository has development keys"
    ceremony = vendor.stage_release(path, build, Wanted(development=True), now=NOW)
    assert describe(ceremony, now=NOW)[1].endswith(", DEVELOPMENT")
