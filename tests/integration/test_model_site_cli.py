"""A model on its own: approved by a site, carried on a medium, taken by a device. Wrong orders with their messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.formats.device import UpdateConfig
from appliance.formats.model_store import PendingModel
from appliance.update.asking import ask_model, meet
from appliance.update.client import TrustedRepository
from appliance.update.decide_model import Fetch, ModelSituation, decide_model
from appliance.update.medium import MediumRepository
from appliance.update.model_fetch import Fetcher
from appliance.update.model_store import ModelStore
from appliance.update.reftime import TimeKnowledge
from tests.support.model_shop import (
    NAME,
    OTHER,
    ROOTS,
    SIZE,
    Act,
    ModelShop,
    approve,
    found,
    nothing,
    opened,
    order,
)
from tests.support.update_site import DEVICE, PRODUCT


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("shop")
    found(base)
    return base


@pytest.fixture
def plant(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> ModelShop:
    return opened(made, tmp_path, monkeypatch, capsys)


def test_a_site_approves_and_revokes_a_model(plant: ModelShop) -> None:
    out = plant.ok(*approve("1", "--yes"))
    assert out.splitlines()[0].startswith(
        f"the vendor's models/{NAME}/1.json: model {NAME} 1, DEVELOPMENT, {SIZE} bytes"
    )
    assert f"approve model {NAME} 1 for {PRODUCT}, ticket CHG-1" in out
    status = plant.ok("site", "status", "site")
    assert f"approves models/{NAME}/1.json, version 1, sha256 " in status
    assert plant.run("site", "ring", "site", PRODUCT, "all", "--remove")[2] == (
        f"error: ring all is named by the approval of model {NAME} 1\nhint: revoke, or approve anew\n"
    )
    firmware = [word for word in approve("8", "--yes") if word not in ("--model", NAME)]
    plant.ok(*firmware)
    plant.ok("site", "revoke", "site", PRODUCT, "1", "--model", NAME, "--yes")
    status = plant.ok("site", "status", "site")
    assert "models/" not in status
    assert f"approves firmware/{PRODUCT}/8.json" in status


SITE_ROWS: list[tuple[str, Act, list[str], str]] = [
    (
        "a version that the vendor does not have",
        nothing,
        approve("9", "--yes"),
        f"vendor: the vendor has no model {NAME} 9",
    ),
    (
        "a model that is not for the product",
        lambda plant: plant.ok(*order("--dev")),
        approve("2", "--yes", product=OTHER),
        f"vendor: model {NAME} 2 is not for {OTHER}\nhint: it is for {PRODUCT}",
    ),
    (
        "what is not approved",
        nothing,
        ["site", "revoke", "site", PRODUCT, "1", "--model", NAME],
        f"version 1 of model {NAME} for {PRODUCT} is not approved\nhint: approved: none",
    ),
    (
        "the model's version for the firmware's",
        lambda plant: plant.ok(*approve("1", "--yes")),
        ["site", "revoke", "site", PRODUCT, "1"],
        f"version 1 of {PRODUCT} is not approved\nhint: approved: none",
    ),
    (
        "no ticket",
        nothing,
        approve("1", "--ticket", " "),
        "an approval needs the number of its change ticket\nhint: --ticket NUMBER",
    ),
    (
        "a site that follows its vendor",
        lambda plant: plant.ok("site", "policy", "site", PRODUCT, "--mode", "follow-vendor", "--yes"),
        approve("1", "--yes"),
        f"{PRODUCT} follows its vendor here: no approval is asked for\n"
        "hint: edgeseal site policy --mode approve, or --mode hold",
    ),
]


@pytest.mark.parametrize(
    ("prepare", "words", "said"), [row[1:] for row in SITE_ROWS], ids=[row[0] for row in SITE_ROWS]
)
def test_what_a_site_may_not_do(prepare: Act, words: list[str], said: str, plant: ModelShop) -> None:
    prepare(plant)
    before = plant.digest("site")
    assert plant.run(*words) == (2, "", f"error: {said}\n")
    assert plant.digest("site") == before


# ---- a medium


def bundle(plant: ModelShop, name: str = "bundle", *words: str) -> str:
    return plant.ok("bundle", "create", name, "--vendor", "vendor", "--site", "site", *ROOTS, *words)


def tree(base: Path) -> dict[str, bytes]:
    """Path to bytes."""
    return {str(path.relative_to(base)): path.read_bytes() for path in sorted(base.rglob("*")) if path.is_file()}


def test_a_bundle_carries_the_approved_models(plant: ModelShop) -> None:
    plant.ok(*order("--dev"))
    for version in ("1", "2"):
        plant.ok(*approve(version, "--yes"))
    assert bundle(plant).splitlines()[1:] == [f"{PRODUCT}: no version", f"  model {NAME}: 1, 2", f"{OTHER}: no version"]
    names = tree(plant.path / "bundle/EDGESEAL")
    assert sum("/content/" in name for name in names) == 1, "both versions are the same file"
    assert sum(f"/targets/models/{NAME}/" in name for name in names) == 2
    assert any(name.endswith(f".models-{NAME}.json") for name in names)
    said = plant.ok("bundle", "verify", "bundle", *ROOTS).splitlines()
    assert said[3:5] == [f"{PRODUCT}: no version, policy 3, mode approve", f"  model {NAME}: 1, 2"]
    bundle(plant, "other", "--product", OTHER)
    assert not any("models" in name for name in tree(plant.path / "other/EDGESEAL"))


@pytest.mark.parametrize("source", ["vendor", "one"])
def test_where_the_site_follows_its_vendor_the_latest_of_its_models_travel(plant: ModelShop, source: str) -> None:
    plant.ok(*order("--dev"))
    for product in (PRODUCT, OTHER):
        plant.ok("site", "policy", "site", product, "--mode", "follow-vendor", "--yes")
    bundle(plant, "one")
    where = ["--vendor", source, "--site", "site" if source == "vendor" else source]
    plant.ok("bundle", "create", "two", *where, *ROOTS, "--product", OTHER)
    assert not any("models/" in name for name in tree(plant.path / "two/EDGESEAL")), "the latest is not for it"
    plant.ok("bundle", "create", "three", *where, *ROOTS, "--product", PRODUCT)
    assert sum(f"/targets/models/{NAME}/" in name for name in tree(plant.path / "three/EDGESEAL")) == 1
    for name in ("one", "two", "three"):
        plant.ok("bundle", "verify", name, *ROOTS)


def test_every_file_of_a_model_counts(plant: ModelShop) -> None:
    plant.ok(*approve("1", "--yes"))
    bundle(plant)
    files = [path for path in sorted((plant.path / "bundle").rglob("*")) if path.is_file()]
    mine = [path for path in files if "models" in str(path.relative_to(plant.path)) or "content" in path.parts]
    assert len(mine) == 3, "metadata, manifest, model"
    for file in mine:
        good = file.read_bytes()
        for bad in (None, good[:-1], good[:-2] + bytes([good[-2] ^ 1]) + good[-1:]):
            file.unlink()
            if bad is not None:
                file.write_bytes(bad)
            code, out, said = plant.run("bundle", "verify", "bundle", *ROOTS)
            assert (code, out) == (1, ""), (file, bad)
            assert "error: " in said
            file.write_bytes(good)
    plant.ok("bundle", "verify", "bundle", *ROOTS)


def test_a_device_without_network_and_clock_takes_the_model_from_a_medium(plant: ModelShop) -> None:
    """The clock says 1970; it never saw either repository."""
    plant.ok(*order("--dev"))
    plant.ok(*approve("2", "--yes"))
    bundle(plant)
    media = {name: MediumRepository(plant.path / "bundle", name) for name in ("vendor", "site")}  # type: ignore[arg-type]
    vendor, site = (
        TrustedRepository(
            plant.path / "device" / name,
            (plant.path / f"{name}-root.json").read_bytes(),
            medium,
            UpdateConfig(),
            name=f"{name} repository",
        )
        for name, medium in media.items()
    )
    word = meet(vendor, site, product=PRODUCT, t_low=1_700_000_000)
    answers = ask_model(vendor, word, NAME)
    store = ModelStore(plant.path / "device/models", budget=64 << 20)
    development = DEVICE.__class__(**(DEVICE.__dict__ | {"development": True}))
    decision = decide_model(
        ModelSituation(
            device=development,
            name=NAME,
            have=None,
            room=store.room(NAME),
            policy=word.policy,
            seen=0,
            offers=answers.offers,
            time=TimeKnowledge(word.t_low, 0),
            expires=word.expires,
        )
    )
    assert isinstance(decision, Fetch)
    assert decision.sentence.endswith("; freshness unproven")
    assert word.policy is not None
    pending = PendingModel(
        model=NAME,
        transaction="0" * 16,
        release=decision.offer.sha256,
        version=2,
        policy_sequence=word.policy.sequence,
    )
    store.begin(pending, answers.manifests[decision.offer.path], size=decision.offer.bytes)
    Fetcher(store, progress=lambda *_: None, should_stop=lambda: False).fetch(pending, [media["vendor"]])
    stored = plant.path / f"device/models/{NAME}/2.onnx"
    assert stored.read_bytes() == (plant.path / "model.onnx").read_bytes()
