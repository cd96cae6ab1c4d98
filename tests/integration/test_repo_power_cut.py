"""The plug of the vendor's machine is pulled at every rename: the old repository or the new one, for every client."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.publish import staging, vendor
from builder.publish.release import check_content, releases
from builder.publish.repository import Repository, open_repository
from builder.publish.rotation import KeyChange
from tests.support.publish import (
    NOW,
    PERIODS,
    PRODUCT,
    key_of,
    plain_build,
    publish,
    release_repository,
    release_ring,
    sign_as,
)
from tests.support.reference_client import TufClient


class PowerCut(BaseException):
    """Nothing runs any more."""


def _run_until(act: Callable[[], object], cut_at: int | None) -> int:
    """Run `act`; before rename number `cut_at` everything ends. Returns how many there were."""
    steps = 0
    with pytest.MonkeyPatch.context() as patch:
        for name in ("rename", "replace"):
            original = getattr(Path, name)

            def counted(self: Path, target: Path, original: Callable[..., Path] = original) -> Path:
                nonlocal steps
                if steps == cut_at:
                    raise PowerCut
                steps += 1
                return original(self, target)

            patch.setattr(Path, name, counted)
        with contextlib.suppress(PowerCut):
            act()
    return steps


def _rotate_everything(path: Path) -> Repository:
    """Every role gets dave's key in place of anna's or the online one's; anna, bob and dave sign."""
    add = tuple((role, key_of("dave").key) for role in ("root", "targets", "snapshot", "timestamp"))
    remove = (("root", "anna"), ("targets", "anna"), ("snapshot", "snapshot"), ("timestamp", "timestamp"))
    vendor.stage_rotation(path, KeyChange(add=add, remove=remove), now=NOW, periods=PERIODS)
    sign_as(staging.ceremony_path(path), "anna", "bob", "dave")
    return staging.finish(path, [], release_ring(), now=NOW, periods=PERIODS)


@pytest.mark.parametrize("what", ["release", "rotation"])
def test_a_power_cut_at_any_step_leaves_the_old_or_the_new(tmp_path: Path, what: str) -> None:
    """A client that comes at that instant, fresh or with the old state, gets one of them whole, and the end later."""
    clean, path = tmp_path / "clean", tmp_path / "repository"
    release_repository(clean)
    publish(clean, plain_build(tmp_path / "build-8", version=8))
    build = plain_build(tmp_path / "build-9", version=9)
    root = (clean / "metadata/1.root.json").read_bytes()
    kept = TufClient(tmp_path / "kept", f"file://{clean}/", root)
    assert kept.update(PRODUCT, now=NOW).version == 8

    def act() -> object:
        return publish(path, build) if what == "release" else _rotate_everything(path)

    shutil.copytree(clean, path)
    total = _run_until(act, None)
    assert total > 10
    outcomes = set()
    for cut_at in range(total):
        shutil.rmtree(path)
        shutil.copytree(clean, path)
        assert _run_until(act, cut_at) == cut_at
        clients = [TufClient(tmp_path / f"fresh-{cut_at}", f"file://{path}/", root)]
        clients += [TufClient(tmp_path / f"old-{cut_at}", f"file://{path}/", root)]
        shutil.copytree(kept.directory, clients[1].directory, dirs_exist_ok=True, symlinks=True)
        seen = [client.update(PRODUCT, now=NOW).version for client in clients]
        assert seen in ([8, 8], [9, 9])
        after = open_repository(path)
        check_content(after)
        latest = max(release.version for release in releases(after))
        outcomes.add((latest, after.root.signed.version))
        assert [client.update(PRODUCT, now=NOW).version for client in clients] == [latest, latest]
        assert latest >= seen[0]
    assert outcomes == ({(8, 1), (9, 1)} if what == "release" else {(8, 1), (8, 2)})
    print(f"{what}: {total} places to pull the plug, {2 * total} clients served")
