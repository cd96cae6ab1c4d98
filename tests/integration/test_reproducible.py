"""Two builds that share nothing but their inputs give the same bytes, signatures included: the floor of issue 2."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from builder.host.paths import source_root
from builder.host.toolstree import tools_tree
from builder.review.compare import compare_builds
from tests.support.keys import keys_at
from tests.support.workplace import STRANGER, Workplace, copy_sources, finished_all, items_of

pytestmark = pytest.mark.xdist_group("reproducible")

ARTEFACTS = (
    "disk.raw",
    "manifest.json",
    "provenance.dsse.json",
    "root.erofs",
    "root.verity",
    "sbom.cdx.json",
    "uki.efi",
)
PROFILES = ("virtual-x86_64", "virtual-arm64")


@dataclass(frozen=True)
class Pair:
    """Two places that built every profile."""

    plain: Workplace
    strange: Workplace


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """Everything that must not matter differs between the two."""
    with tempfile.TemporaryDirectory(prefix="edgeseal-test-") as name:
        base = Path(name)
        base.chmod(0o755)
        sources = copy_sources(source_root(), base / "sources")
        items = items_of(("tools", *PROFILES))
        cpus = sorted(os.sched_getaffinity(0))
        plain = Workplace(
            base / "plain",
            hostname="plain",
            umask="022",
            cpus=str(cpus[0]),
            environment={"TZ": "UTC", "LC_ALL": "C.UTF-8", "USER": "root"},
        )
        strange = Workplace(
            base / "strange-and-much-longer-than-the-other",
            hostname="another-machine",
            umask="077",
            stranger=True,
            cwd=Path("/"),
            environment={
                "TZ": "Pacific/Chatham",
                "LANG": "tr_TR.UTF-8",
                "LC_ALL": "tr_TR.ISO-8859-9",
                "USER": "somebody",
                "LOGNAME": "somebody",
                "SOURCE_DATE_EPOCH": "1",
                "PYTHONHASHSEED": "7",
            },
        )
        plain.furnish(sources, keys_at(), items)
        strange.furnish(sources, keys_at(), items[::-1])
        for profile in PROFILES:
            finished_all(place.build(profile) for place in (plain, strange))
        yield Pair(plain, strange)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_artefact_is_byte_identical(pair: Pair, profile: str) -> None:
    one, other = pair.plain.out(profile), pair.strange.out(profile)
    assert sorted(path.name for path in one.iterdir()) == sorted(path.name for path in other.iterdir())
    assert [path.name for path in sorted(one.iterdir())] == sorted(ARTEFACTS)
    assert compare_builds(one, other, tools_tree()) == ()
    for name in ARTEFACTS:
        assert _sha256(one / name) == _sha256(other / name), name


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def test_the_two_builds_were_really_different(pair: Pair) -> None:
    """A comparison of a thing with itself proves nothing."""
    plain, strange = pair.plain.out(PROFILES[0]), pair.strange.out(PROFILES[0])
    expected = STRANGER if os.geteuid() == 0 else os.geteuid()
    assert (plain / "disk.raw").stat().st_uid == os.geteuid()
    assert (strange / "disk.raw").stat().st_uid == expected
    assert not (strange / "disk.raw").samefile(plain / "disk.raw")
    steps = [sorted((place.root / "cache/steps/seal").iterdir()) for place in (pair.plain, pair.strange)]
    assert all(len(found) == len(PROFILES) for found in steps), "each sealed its own roots"
