"""A vendor with a model, a site, and `edgeseal` in a directory of theirs, for tests of the command line."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from builder.cli.main import main
from tests.support.publish import PRODUCT as RELEASED
from tests.support.publish import plain_build, publish, release_repository
from tests.support.update_site import PRODUCT
from tests.support.update_vendor import VendorRepository
from tests.unit.test_model_card import make_model

OTHER, NAME = "label-print", "labels"
MODEL = make_model().SerializeToString()
SIZE = len(MODEL)
ROOTS = ("--vendor-root", "vendor-root.json", "--site-root", "site-root.json")
CARD = {
    "channel_order": "bgr",
    "labels": ["0", "90", "180", "270"],
    "licence": "apache-2.0",
    "mean_ppm": [485000, 456000, 406000],
    "resize_short": 256,
    "source": "line 3, trained 2026-06",
    "std_ppm": [229000, 224000, 225000],
}


@dataclass
class ModelShop:
    """A vendor with firmware of two products and version 1 of a model; a site that has both products."""

    path: Path
    capture: pytest.CaptureFixture[str]

    def run(self, *words: str) -> tuple[int, str, str]:
        """(exit code, standard output, standard error) of `edgeseal`, run in `path`."""
        self.capture.readouterr()
        code = main(list(words))
        said = self.capture.readouterr()
        return code, said.out, said.err

    def ok(self, *words: str) -> str:
        """The same, which must be done; its standard output."""
        code, out, said = self.run(*words)
        assert code == 0, said
        return out

    def digest(self, name: str) -> str:
        """Of all bytes below a directory, with their paths."""
        found = hashlib.sha256()
        for path in sorted((self.path / name).rglob("*")):
            found.update(str(path).encode() + (path.read_bytes() if path.is_file() else b""))
        return found.hexdigest()


def order(*words: str, version: str = "2", name: str = NAME, file: str = "model.onnx", repo: str = "") -> list[str]:
    """`edgeseal repo publish-model`, into the vendor's repository by default."""
    where = ["--repo", repo or "vendor", "--keys", "vendor-keys"]
    what = ["--name", name, "--version", version, "--card", "card.json"]
    product = ["--product", RELEASED if repo else f"{PRODUCT}=7"]
    return ["repo", "publish-model", file, *where, *what, *product, *words]


def approve(version: str, *words: str, product: str = PRODUCT) -> list[str]:
    vendor = ["--vendor", "vendor", "--vendor-root", "vendor-root.json"]
    rest = ["--ring", "all", "--ticket", "CHG-1", *words]
    return ["site", "approve", "site", product, version, "--model", NAME, *vendor, *rest]


def found(base: Path) -> None:
    """All of it in `base`, which gets files and directories."""
    vendor = VendorRepository(base)
    vendor.publish(8)
    vendor.publish(3, product=OTHER)
    (base / "model.onnx").write_bytes(MODEL)
    (base / "card.json").write_text(json.dumps(CARD))
    release_repository(base / "release")
    publish(base / "release", plain_build(base / "build", version=7))
    shutil.rmtree(base / "build")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(base)
        patch.setenv("EDGESEAL_KEYS", str(base / "keys"))
        patch.setenv("EDGESEAL_CACHE", str(base / "cache"))
        assert main(order("--new", "--dev", "--product", OTHER, version="1")) == 0
        products = ["--product", PRODUCT, "--product", OTHER]
        assert main(["site", "init", "site", "--site", "plant-4", *products, "--dev"]) == 0
    shutil.copy(base / "site/metadata/1.root.json", base / "site-root.json")


def opened(made: Path, path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> ModelShop:
    """A copy of what `found` made, and the process in it."""
    shutil.copytree(made, path, dirs_exist_ok=True)
    monkeypatch.chdir(path)
    monkeypatch.setenv("EDGESEAL_KEYS", str(path / "keys"))
    monkeypatch.setenv("EDGESEAL_CACHE", str(path / "cache"))
    return ModelShop(path, capsys)


Act = Callable[[ModelShop], object]


def nothing(_: ModelShop) -> None:
    """As it is."""
