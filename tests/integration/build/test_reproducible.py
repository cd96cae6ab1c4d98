"""Two builds that share nothing but their inputs give the same bytes, signatures included (issue 2, Floors)."""

from __future__ import annotations

import os

import pytest

from builder.archive.digest import file_sha256
from builder.host.toolstree import tools_tree
from builder.review.compare import compare_builds
from tests.integration.build.conftest import BOTH, GROUP
from tests.support.workplace import STRANGER, Workplace

pytestmark = pytest.mark.xdist_group(GROUP)

ARTEFACTS = [
    "disk.raw",
    "manifest.json",
    "provenance.dsse.json",
    "root.erofs",
    "root.verity",
    "sbom.cdx.json",
    "uki.efi",
]


@pytest.mark.parametrize("profile", BOTH)
def test_every_artefact_is_byte_identical(built: Workplace, strange: Workplace, profile: str) -> None:
    one, other = built.out(profile), strange.out(profile)
    assert sorted(path.name for path in one.iterdir()) == ARTEFACTS
    assert sorted(path.name for path in other.iterdir()) == ARTEFACTS
    assert compare_builds(one, other, tools_tree()) == ()
    assert [file_sha256(one / name) for name in ARTEFACTS] == [file_sha256(other / name) for name in ARTEFACTS]


def test_the_two_places_were_really_different(built: Workplace, strange: Workplace) -> None:
    """A comparison of a thing with itself proves nothing."""
    disks = [(place.out(BOTH[0]) / "disk.raw").stat() for place in (built, strange)]
    assert disks[0].st_ino != disks[1].st_ino
    if os.geteuid() == 0:
        assert [disk.st_uid for disk in disks] == [0, STRANGER]
    for place in (built, strange):
        assert len(list((place.cache / "steps/seal").iterdir())) == len(BOTH), "each sealed its own roots"
