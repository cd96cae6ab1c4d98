"""Signing in turns: what is shown, who may sign, what is missing, and every refusal with its exact message."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance.core.canonical import canonical_json
from appliance.core.errors import EdgesealError, InputError, VerificationError
from builder.publish import staging, vendor
from builder.publish.repository import open_repository
from builder.publish.rotation import KeyChange
from builder.publish.status import status
from builder.publish.vendor import Wanted
from builder.publish.words import describe, signature_lines
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
    release_roles,
    role_of,
    sign_as,
)

pytestmark = pytest.mark.xdist_group("publish-ceremony")  # its repository is made once

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


@pytest.fixture
def staged(repository: Path, tmp_path: Path) -> Path:
    """The file of a ceremony for version 8."""
    build = plain_build(tmp_path / "build-8", version=8, security_epoch=2)
    vendor.stage_release(repository, build, Wanted(), now=NOW)
    return staging.ceremony_path(repository)


def finish(repository: Path, *files: Path, now: datetime = NOW) -> Any:
    return staging.finish(repository, files, release_ring(), now=now, periods=PERIODS)


def short(holder: str) -> str:
    return key_of(holder).key.keyid[:16]


def test_a_new_repository_in_words(tmp_path: Path) -> None:
    ceremony = vendor.stage_repository(tmp_path / "new", release_roles(), development=False, now=NOW, periods=PERIODS)
    offline = f"2 of anna ({short('anna')}), bob ({short('bob')}), carol ({short('carol')})"
    assert describe(ceremony, now=NOW) == [
        "a new repository",
        "repository new",
        "root: version 1, holds until 2029-02-28 (1095 days)",
        f"root: keys of root: {offline}",
        f"root: keys of targets: {offline}",
        f"root: keys of snapshot: 1 of snapshot ({short('snapshot')})",
        f"root: keys of timestamp: 1 of timestamp ({short('timestamp')})",
        "targets: version 1, holds until 2027-03-01 (365 days)",
    ]


def test_a_release_in_words(staged: Path) -> None:
    ceremony = staging.read_ceremony(staged)
    release = json.loads(ceremony.files[f"firmware/{PRODUCT}/8.json"])
    assert describe(ceremony, now=NOW) == [
        "publish line-inspection 8",
        f"repository {(ceremony.identity or '')[:16]}",
        "firmware-line-inspection: version 1 -> 2, holds until 2027-03-01 (365 days)",
        "firmware-line-inspection: + firmware/line-inspection/8.json: line-inspection 8, release, virtual-x86_64 for "
        f"x86_64, security epoch 2, root hash {release['root']['root_hash']}, UKI {release['uki']['sha256']}, built "
        "2025-11-20 00:00:00 UTC, for devices from version 1 on",
        "firmware-line-inspection: ~ firmware/line-inspection/latest.json: was firmware/line-inspection/7.json, now "
        "firmware/line-inspection/8.json",
    ]
    assert signature_lines(ceremony) == [
        "firmware-line-inspection: 0 of 2 signatures; 2 missing, not signed: anna, bob, carol"
    ]


def test_a_rotation_in_words(repository: Path) -> None:
    changes = KeyChange(add=(("targets", key_of("dave").key),), remove=(("targets", "carol"),), thresholds={"root": 3})
    ceremony = vendor.stage_rotation(repository, changes, now=NOW, periods=PERIODS)
    assert describe(ceremony, now=NOW)[2:] == [
        "root: version 1 -> 2, holds until 2029-02-28 (1095 days)",
        "root: ~ keys of root: threshold 2 -> 3",
        f"root: - keys of targets: carol ({short('carol')})",
        f"root: + keys of targets: dave ({short('dave')})",
        "targets: version 2 -> 3, holds until 2027-03-01 (365 days)",
        f"targets: - keys of firmware-line-inspection: carol ({short('carol')})",
        f"targets: + keys of firmware-line-inspection: dave ({short('dave')})",
        "firmware-line-inspection: version 1 -> 2, holds until 2027-03-01 (365 days)",
    ]
    assert ceremony.title == "rotate: add dave to targets, remove carol from targets, threshold of root 3"


def test_words_cannot_deceive_a_terminal(staged: Path) -> None:
    ceremony = replace(staging.read_ceremony(staged), title="publish \x1b[2J\u202e8")
    assert describe(ceremony, now=NOW)[0] == r"publish \x1b[2J\u202e8"


def test_each_signs_a_copy_and_the_signatures_come_together(repository: Path, staged: Path, tmp_path: Path) -> None:
    copies = [shutil.copy(staged, tmp_path / f"{holder}.ceremony") for holder in ("bob", "carol")]
    for copy, holder in zip(copies, ("bob", "carol"), strict=True):
        sign_as(Path(copy), holder)
    with pytest.raises(VerificationError) as refused:
        finish(repository, Path(copies[0]))
    assert str(refused.value) == (
        "firmware-line-inspection: 1 of 2 signatures, 1 signature missing; not signed: anna, carol"
    )
    assert status(repository, now=NOW, periods=PERIODS)["staged"]["thresholds"] == [
        {
            "role": "firmware-line-inspection",
            "threshold": 2,
            "missing": 1,
            "signed": ["bob"],
            "unsigned": ["anna", "carol"],
        }
    ]
    done = finish(repository, Path(copies[1]))
    assert done.delegated["firmware-line-inspection"].signed.version == 2
    assert not staged.exists()


def test_a_ceremony_that_was_finished_before_the_power_cut_is_cleared_away(repository: Path, staged: Path) -> None:
    sign_as(staged, "anna", "bob")
    kept = copy_of(staged.parent, repository.parent / "kept")
    done = finish(repository)
    shutil.copytree(kept, staged.parent)
    assert finish(repository).timestamp.signed.version == done.timestamp.signed.version
    assert not staged.exists()


def test_three_rotations_and_the_old_keys_are_out(repository: Path) -> None:
    for number, (gone, new) in enumerate((("carol", "dave"), ("anna", "carol"), ("bob", "anna")), start=2):
        roles = ("root", "targets")
        changes = KeyChange(
            add=tuple((role, key_of(new).key) for role in roles), remove=tuple((role, gone) for role in roles)
        )
        vendor.stage_rotation(repository, changes, now=NOW, periods=PERIODS)
        sign_as(staging.ceremony_path(repository), *({"anna", "bob", "carol", "dave"} - {new}))
        done = finish(repository)
        assert done.root.signed.version == number
        assert gone not in done.keys("firmware-line-inspection").holders
    assert done.keys("root").holders == ["anna", "carol", "dave"]
    assert done.keys("targets") == done.keys("firmware-line-inspection")


def test_a_new_root_needs_the_old_keys_and_the_new(repository: Path) -> None:
    changes = KeyChange(add=(("root", key_of("dave").key),), remove=(("root", "anna"), ("root", "bob")))
    with pytest.raises(InputError) as refused:
        vendor.stage_rotation(repository, replace(changes, thresholds={"root": 3}), now=NOW, periods=PERIODS)
    assert str(refused.value) == "root: a threshold of 3 does not fit 2 keys"
    vendor.stage_rotation(repository, changes, now=NOW, periods=PERIODS)
    sign_as(staging.ceremony_path(repository), "carol", "dave")
    with pytest.raises(VerificationError) as missing:
        finish(repository)
    assert str(missing.value) == "root: 1 of 2 signatures, 1 signature missing; not signed: anna, bob"
    sign_as(staging.ceremony_path(repository), "anna")
    assert finish(repository).keys("root").holders == ["carol", "dave"]


def test_a_product_may_have_keys_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "repository"
    release_repository(path)
    wanted = Wanted(keys=role_of("dave", threshold=1))
    vendor.stage_release(path, plain_build(tmp_path / "build", version=1), wanted, now=NOW)
    sign_as(staging.ceremony_path(path), "anna", "carol", "dave")
    done = finish(path)
    assert done.keys("firmware-line-inspection").holders == ["dave"]
    vendor.stage_rotation(path, KeyChange(add=(("targets", key_of("dave").key),)), now=NOW, periods=PERIODS)
    assert list(staging.read_ceremony(staging.ceremony_path(path)).documents) == ["root", "targets"]


def test_renewal_of_what_lapses_soon(repository: Path) -> None:
    soon = NOW + timedelta(days=PERIODS.targets - 5)
    assert vendor.lapse_warnings(open_repository(repository), soon, PERIODS) == [
        "targets lapses in 5 days, on 2027-03-01: its holders must sign",
        "firmware-line-inspection lapses in 5 days, on 2027-03-01: its holders must sign",
    ]
    done = vendor.refresh(repository, release_ring(), now=soon, periods=PERIODS)
    assert len(done.warnings) == 2
    ceremony = vendor.stage_rotation(repository, KeyChange(), now=soon, periods=PERIODS)
    assert list(ceremony.documents) == ["root", "targets", "firmware-line-inspection"]
    sign_as(staging.ceremony_path(repository), "anna", "bob")
    assert vendor.lapse_warnings(finish(repository, now=soon), soon, PERIODS) == []


def test_a_product_that_lapsed_does_not_stop_the_others(repository: Path) -> None:
    periods = replace(PERIODS, delegated=1)
    path = repository.parent / "short"
    release_repository(path)
    vendor.stage_release(path, plain_build(path.parent / "b", version=1), Wanted(periods=periods), now=NOW)
    sign_as(staging.ceremony_path(path), "anna", "bob")
    staging.finish(path, [], release_ring(), now=NOW, periods=periods)
    done = vendor.refresh(path, release_ring(), now=NOW + timedelta(days=2), periods=PERIODS)
    assert done.lapsed == ("firmware-line-inspection",)
    assert done.warnings == ("firmware-line-inspection lapsed on 2026-03-02",)
    assert done.repository.timestamp.signed.version == 3


def _forge(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    def forged(data: bytes) -> bytes:
        value = json.loads(data)
        change(value)
        return canonical_json(value)

    return forged


ROLE = "firmware-line-inspection"
TARGET = "firmware/line-inspection/8.json"
FORGED: list[tuple[Callable[[bytes], bytes], str]] = [
    (lambda _: b"", "not a ceremony: Input data was truncated"),
    (lambda data: data + b" ", "not a ceremony: not in canonical form"),
    (_forge(lambda value: value.pop("roots")), "not a ceremony: Object missing required field `roots`"),
    (_forge(lambda value: value.update(extra=1)), "not a ceremony: Object contains unknown field `extra`"),
    (
        _forge(lambda value: value.update(kind="release")),
        "not a ceremony: Invalid enum value 'release' - at `$.kind`",
    ),
    (
        _forge(lambda value: value["documents"].update(root=value["documents"][ROLE])),
        "not a ceremony: metadata of type targets, not root",
    ),
    (
        _forge(lambda value: value.update(documents={})),
        "not a ceremony that can be trusted: there is nothing to be signed",
    ),
    (
        _forge(lambda value: value["files"].update({TARGET: "{}"})),
        f"not a ceremony that can be trusted: the bytes of {TARGET} are not the ones to be signed",
    ),
    (
        _forge(lambda value: value["files"].pop(TARGET)),
        f"not a ceremony that can be trusted: the bytes of {TARGET} are not the ones to be signed",
    ),
    (
        _forge(lambda value: value["files"].update(more="{}")),
        "not a ceremony that can be trusted: nothing to be signed names more",
    ),
    (
        _forge(lambda value: value["documents"][ROLE]["signed"].update(version=3)),
        f"not a ceremony that can be trusted: {ROLE}: version 3 is not the next one",
    ),
    (
        _forge(lambda value: value["base"].pop("targets")),
        "not a ceremony that can be trusted: there are no targets in force",
    ),
    (
        _forge(lambda value: value["base"]["targets"]["signed"].update(version=9)),
        "not a ceremony that can be trusted: targets: 0 of 2 signatures, 2 signatures missing; "
        "not signed: anna, bob, carol",
    ),
    (
        _forge(lambda value: value["roots"][0]["signed"]["roles"]["targets"].update(threshold=1)),
        "not a ceremony that can be trusted: root: 0 of 2 signatures, 2 signatures missing; "
        "not signed: anna, bob, carol",
    ),
    (
        _forge(lambda value: value["documents"].update(stranger=value["documents"].pop(ROLE))),
        "not a ceremony that can be trusted: stranger: version 2 is not the next one",
    ),
]


@pytest.mark.parametrize(("forge", "message"), FORGED, ids=[row[1] for row in FORGED])
def test_a_forged_file_is_neither_shown_nor_signed(staged: Path, forge: Callable[[bytes], bytes], message: str) -> None:
    forged = forge(staged.read_bytes())
    staged.write_bytes(forged)
    for attempt in (lambda: staging.read_ceremony(staged), lambda: sign_as(staged, "anna")):
        with pytest.raises(EdgesealError) as refused:
            attempt()
        assert str(refused.value) == f"{staged}: {message}"
    assert staged.read_bytes() == forged


def test_a_forged_signature_counts_for_nothing(repository: Path, staged: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copy(staged, copy)
    sign_as(copy, "anna", "bob")
    value = json.loads(copy.read_bytes())
    signatures = value["documents"][ROLE]["signatures"]
    signatures[0]["sig"] = signatures[1]["sig"]
    copy.write_bytes(canonical_json(value))
    with pytest.raises(VerificationError) as refused:
        finish(repository, copy)
    assert str(refused.value) == f"{ROLE}: 1 of 2 signatures, 1 signature missing; not signed: anna, carol"
