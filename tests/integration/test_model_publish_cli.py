"""A model on its own, published from the command line: the ceremony, and every wrong order with its exact message."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from appliance.formats.model_release import decode_model_release
from builder.publish.repository import open_repository
from tests.support.model_shop import (
    CARD,
    NAME,
    OTHER,
    SIZE,
    Act,
    ModelShop,
    found,
    nothing,
    opened,
    order,
)
from tests.support.update_site import PRODUCT
from tests.unit.test_model_card import make_model


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("shop")
    found(base)
    return base


@pytest.fixture
def plant(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> ModelShop:
    return opened(made, tmp_path, monkeypatch, capsys)


def sha(plant: ModelShop) -> str:
    return hashlib.sha256((plant.path / "model.onnx").read_bytes()).hexdigest()


def test_a_ceremony_says_in_words_what_would_be_signed(plant: ModelShop) -> None:
    plant.ok(*order())
    staged = plant.path / "vendor/staged/ceremony.json"
    shown = plant.ok("repo", "sign", str(staged), "--show")
    (line,) = [line for line in shown.splitlines() if "/2.json" in line and ": + " in line]
    assert line.startswith(
        f"models-{NAME}: + models/{NAME}/2.json: model {NAME} 2, DEVELOPMENT, {SIZE} bytes, sha256 {sha(plant)}, "
        "labels 0, 90, 180, 270; frames scaled to 256, cut to 224, bgr, mean 0.485/0.456/0.406, deviation "
        "0.229/0.224/0.225; from line 3, trained 2026-06, licence Apache-2.0, built "
    )
    assert line.endswith(f" UTC, for {PRODUCT} from version 7 on")
    assert f"models-{NAME}: ~ models/{NAME}/latest.json: was models/{NAME}/1.json, now models/{NAME}/2.json" in shown
    assert plant.run("repo", "publish", "--finish", "--repo", "vendor", "--keys", "vendor-keys")[2].startswith(
        f"error: models-{NAME}: 0 of 2 signatures, 2 signatures missing; not signed: targets-1, targets-2, targets-3\n"
    )
    for number in (1, 3):
        plant.ok("repo", "sign", str(staged), "--key", f"vendor-keys/targets-{number}.json")
    plant.ok("repo", "publish", "--finish", "--repo", "vendor", "--keys", "vendor-keys")
    status = plant.ok("repo", "status", "--repo", "vendor", "--full")
    assert (
        f"model {NAME}: latest 2, 2 published, for {PRODUCT} from 7 on, DEVELOPMENT, {SIZE} bytes, sha256 {sha(plant)}"
        in status.splitlines()
    )


def test_the_manifest_has_the_files_own_facts(plant: ModelShop) -> None:
    repository = open_repository(plant.path / "vendor")
    release = decode_model_release(repository.read_target(f"models/{NAME}/1.json"))
    assert (release.card.input_name, release.card.crop, release.card.licence) == ("x", 224, "Apache-2.0")
    assert [(item.product, item.oldest) for item in release.products] == [(PRODUCT, 7), (OTHER, 1)]
    assert (plant.path / "vendor" / release.onnx.path).read_bytes() == (plant.path / "model.onnx").read_bytes()
    assert release.development


def test_a_model_can_have_keys_of_its_own(plant: ModelShop) -> None:
    for holder in ("mia", "noah"):
        plant.ok("repo", "key", f"vendor-keys/{holder}.json", "--dev")
    keys = [word for holder in ("mia", "noah") for word in ("--role-key", f"vendor-keys/{holder}.json")]
    plant.ok(*order(*keys, "--new", "--dev", name="doors", version="1"))
    status = json.loads(plant.ok("repo", "status", "--repo", "vendor", "--json"))
    (role,) = [role for role in status["roles"] if role["role"] == "models-doors"]
    assert (role["threshold"], [key["holder"] for key in role["keys"]]) == (2, ["mia", "noah"])
    assert [model["model"] for model in status["models"]] == ["doors", NAME]
    plant.ok("repo", "rotate", "--repo", "vendor", "--keys", "vendor-keys", "--threshold", "models-doors=1", "--dev")
    for end in ("json", "key"):
        (plant.path / f"vendor-keys/noah.{end}").unlink()
    plant.ok(*order("--dev", name="doors", version="2"))


def write(name: str, data: bytes | str) -> Act:
    return lambda plant: (plant.path / name).write_bytes(data if isinstance(data, bytes) else data.encode())


def card(**changes: object) -> Act:
    found = {key: value for key, value in (CARD | changes).items() if value is not None}
    return write("card.json", json.dumps(found))


RELEASE = order("--new", repo="release")
VENDOR_ROWS: list[tuple[str, Act, list[str], int, str]] = [
    (
        "a version that is published",
        nothing,
        order(version="1"),
        2,
        f"vendor: model {NAME} 1: version 1 is published already\n"
        "hint: versions only rise; to go back, publish the old file with a new version",
    ),
    (
        "no such delegation",
        nothing,
        order(name="lables"),
        2,
        f"vendor: there is no model lables here\nhint: did you mean `{NAME}`?",
    ),
    (
        "no such delegation, and none like it",
        nothing,
        order(name="doors"),
        2,
        "vendor: there is no model doors here\nhint: a model that begins here: --new",
    ),
    (
        "a new one that is old",
        nothing,
        order("--new"),
        2,
        f"vendor: model {NAME} is here already\nhint: leave --new away",
    ),
    (
        "no such product",
        nothing,
        order("--product", "lathe"),
        2,
        f"vendor: there is no product lathe here\nhint: its products: {PRODUCT}, {OTHER}",
    ),
    ("a product twice", nothing, order("--product", PRODUCT), 2, "model manifest: products are not in ascending order"),
    ("a product that is none", nothing, order("--product", "=1"), 2, "--product =1: not PRODUCT or PRODUCT=VERSION"),
    (
        "a version of it that is none",
        nothing,
        order("--product", f"{OTHER}=new"),
        2,
        f"--product {OTHER}=new: not PRODUCT or PRODUCT=VERSION",
    ),
    (
        "keys for a role that has some",
        nothing,
        order("--role-key", "vendor-keys/root-1.json"),
        2,
        f"models-{NAME} has keys already\nhint: change them with edgeseal repo rotate",
    ),
    (
        "too few keys",
        nothing,
        order("--new", "--role-key", "vendor-keys/root-1.json", name="doors"),
        2,
        "models-doors: a threshold of 2 does not fit 1 keys",
    ),
    (
        "development keys in a release repository",
        nothing,
        [*RELEASE, "--role-threshold", "1", "--role-key", "vendor-keys/root-1.json"],
        2,
        "models-labels: a release repository cannot have development keys: root-1",
    ),
    ("--dev in a release repository", nothing, [*RELEASE, "--dev"], 2, "release: --dev: this is a release repository"),
    (
        "version 0",
        nothing,
        order(version="0"),
        2,
        f"vendor: model {NAME} 0: version 1 is published already\n"
        "hint: versions only rise; to go back, publish the old file with a new version",
    ),
    (
        "version 0 of a new one",
        nothing,
        order("--new", name="doors", version="0"),
        2,
        "model manifest: Expected `int` >= 1 - at `$.version`",
    ),
    (
        "a name that is none",
        nothing,
        order("--new", name="Doors"),
        2,
        "card.json: model card: Expected `str` matching regex '^[a-z][a-z0-9-]{0,62}(?!\\\\n)$' - at `$.name`",
    ),
    ("no file", nothing, order(file="none.onnx"), 2, "none.onnx: cannot be read: no such file or directory"),
    (
        "no ONNX file",
        write("model.onnx", b"PK\x03\x04 a wheel"),
        order(),
        2,
        "model.onnx: not an ONNX model: model: unknown field 10\nhint: is the file whole, and in ONNX format?",
    ),
    (
        "an empty file",
        write("model.onnx", b""),
        order(),
        2,
        "model.onnx: not an ONNX model: model: no ir_version or no graph\nhint: is the file whole, and in ONNX format?",
    ),
    (
        "a model that the gate refuses",
        write("model.onnx", make_model(opset=6).SerializeToString()),
        order(),
        2,
        "model.onnx: the model is of opset 6, 7 to 23 are allowed\nhint: convert it with onnx.version_converter",
    ),
    (
        "labels that do not fit",
        card(labels=["up", "down"]),
        order(),
        2,
        "model.onnx: the card names 2 labels, the model gives 4 scores\n"
        "hint: name every class, in the order of the output",
    ),
    (
        "two labels alike",
        card(labels=["0", "90", "180", "0"]),
        order(),
        2,
        "card.json: model card: two classes have the same label",
    ),
    (
        "frames smaller than the input",
        card(resize_short=100),
        order(),
        2,
        "card.json: model card: crop 224 is larger than resize_short 100",
    ),
    (
        "no licence",
        card(licence="free"),
        order(),
        2,
        "card.json: licence: `free` is no SPDX expression\n"
        "hint: for example Apache-2.0, or LicenseRef-NAME for your own",
    ),
    (
        "a card without a key",
        card(std_ppm=None),
        order(),
        2,
        "card.json: not a model's card: Object missing required field `std_ppm`\n"
        "hint: JSON with the keys labels, resize_short, mean_ppm, std_ppm, channel_order, source, licence",
    ),
    (
        "a card with a key too many",
        card(crop=224),
        order(),
        2,
        "card.json: not a model's card: Object contains unknown field `crop`\n"
        "hint: JSON with the keys labels, resize_short, mean_ppm, std_ppm, channel_order, source, licence",
    ),
    (
        "no card",
        lambda plant: (plant.path / "card.json").unlink(),
        order(),
        2,
        "card.json: cannot be read: no such file or directory",
    ),
    (
        "a ceremony that waits",
        lambda plant: plant.ok(*order()),
        order(version="3"),
        2,
        f"vendor/staged/ceremony.json: a ceremony waits for signatures: publish model {NAME} 2\n"
        "hint: finish it first, or drop it: `edgeseal repo publish --finish` or `--drop`; `edgeseal site finish`",
    ),
    (
        "content that somebody removed",
        lambda plant: content_of(plant).unlink(),
        order(),
        1,
        "vendor/{content}: this content is missing\nhint: restore the directory from a copy; nothing was changed now",
    ),
    (
        "content that somebody edited",
        lambda plant: content_of(plant).write_bytes(b"x" * content_of(plant).stat().st_size),
        ["repo", "status", "--full", "--repo", "vendor"],
        1,
        "vendor/{content}: its bytes were changed: not the hash in its name",
    ),
]


def content_of(plant: ModelShop) -> Path:
    repository = open_repository(plant.path / "vendor")
    release = decode_model_release(repository.read_target(f"models/{NAME}/1.json"))
    return plant.path / "vendor" / release.onnx.path


@pytest.mark.parametrize(
    ("prepare", "words", "code", "said"), [row[1:] for row in VENDOR_ROWS], ids=[row[0] for row in VENDOR_ROWS]
)
def test_what_a_vendor_may_not_do(prepare: Act, words: list[str], code: int, said: str, plant: ModelShop) -> None:
    wanted = str(content_of(plant).relative_to(plant.path / "vendor"))
    prepare(plant)
    before = plant.digest("vendor"), plant.digest("release")
    found, out, error = plant.run(*words)
    told = "\n".join(line for line in error.splitlines() if line.startswith(("error: ", "hint: ")))
    assert (found, out, told) == (code, "", "error: " + said.replace("{content}", wanted))
    assert (plant.digest("vendor"), plant.digest("release")) == before
