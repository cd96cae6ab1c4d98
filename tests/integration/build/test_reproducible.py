"""Two builds that share nothing but their inputs give the same bytes, signatures included (issue 2, Floors)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builder.archive.digest import file_sha256
from builder.host.toolstree import tools_tree
from builder.image.seal import erofs_options
from builder.profile.load import load_profile
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
    assert len(list((strange.cache / "steps/seal").iterdir())) == len(BOTH), "it sealed its own roots"


def test_the_number_of_cores_does_not_reach_the_root_image(built: Workplace, tmp_path: Path) -> None:
    """mkfs.erofs counts them by itself. The largest library is what it would divide among them."""
    tools = tools_tree()
    profile = load_profile("virtual-x86_64")
    source = min((built.cache / "steps/root").glob("*/root/usr/lib/python3/dist-packages/onnxruntime"))
    made = {}
    for workers in (1, 2, 5):
        image = tmp_path / f"{workers}.erofs"
        tools.run(
            ["mkfs.erofs", *erofs_options(profile, epoch=1), f"--workers={workers}", image, source],
            reason="make an image",
            writable=[tmp_path],
            binds={source: None},
            environment={"SOURCE_DATE_EPOCH": "1"},
        )
        made[workers] = file_sha256(image)
    assert len(set(made.values())) == 1, made
