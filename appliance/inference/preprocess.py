"""From a frame to the model's input, in numpy alone.

The scaling is the eight-tap Lanczos filter in fixed point that the models' own preprocessing uses (OpenCV's
INTER_LANCZOS4 on bytes), computed only for the pixels that the crop keeps. tests/vectors/preprocess.json holds it
against OpenCV.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from appliance.core.errors import DecodeError
from appliance.formats.frame import Frame
from appliance.formats.model_card import ModelCard

TAPS = 8
COEFFICIENT_ONE = 1 << 11  # fixed point, 11 bits, in each direction
_MILLION = 1_000_000

Pixels = npt.NDArray[np.uint8]


def model_input(frame: Frame, card: ModelCard) -> npt.NDArray[np.float32]:
    """Shape (1, 3, crop, crop), normalised by the card. Raises DecodeError when the frame scales below the crop."""
    pixels = np.frombuffer(frame.pixels, dtype=np.uint8).reshape(frame.height, frame.width, 3)
    if card.channel_order == "bgr":
        pixels = pixels[:, :, ::-1]
    square = scaled_centre(pixels, short=card.resize_short, crop=card.crop)
    mean = np.array(card.mean_ppm, dtype=np.float32) / _MILLION
    std = np.array(card.std_ppm, dtype=np.float32) / _MILLION
    scaled = (square.astype(np.float32) * np.float32(1.0 / 255.0) - mean) / std
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[np.newaxis])


def scaled_centre(pixels: Pixels, *, short: int, crop: int) -> Pixels:
    """Scale until the shorter side has `short` pixels, and cut crop x crop out of the middle."""
    height, width = pixels.shape[:2]
    percent = short / min(width, height)
    new_height, new_width = round(height * percent), round(width * percent)
    if min(new_height, new_width) < crop:
        raise DecodeError(f"frame: {width}x{height} scales to {new_width}x{new_height}, below the crop of {crop}")
    rows, row_weights = _taps(height, new_height, (new_height - crop) // 2, crop)
    columns, column_weights = _taps(width, new_width, (new_width - crop) // 2, crop)
    first, last = int(rows.min()), int(rows.max()) + 1
    band = pixels[first:last].astype(np.int32)
    across = np.zeros((last - first, crop, 3), dtype=np.int32)
    for tap in range(TAPS):
        across += band[:, columns[:, tap]] * column_weights[:, tap, np.newaxis]
    down = np.zeros((crop, crop, 3), dtype=np.int32)
    for tap in range(TAPS):
        down += across[rows[:, tap] - first] * row_weights[:, tap, np.newaxis, np.newaxis]
    half = COEFFICIENT_ONE * COEFFICIENT_ONE // 2
    result: Pixels = np.clip((down + half) >> 22, 0, 255).astype(np.uint8)
    return result


def _taps(old: int, new: int, start: int, count: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int32]]:
    """For output positions start … start+count: which inputs they take (edges repeated), and their weights."""
    position = np.arange(start, start + count, dtype=np.float64)
    centre = ((position + 0.5) * (old / new) - 0.5).astype(np.float32)
    left = np.floor(centre)
    weights = _lanczos(centre - left)
    inputs = left.astype(np.intp)[:, np.newaxis] + np.arange(-3, 5)
    return np.clip(inputs, 0, old - 1), np.rint(weights * COEFFICIENT_ONE).astype(np.int32)


def _lanczos(fraction: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Weights of eight neighbours for points `fraction` (0 to 1) to the right of the fourth; each row sums to 1."""
    half = 0.70710678118654752440084436210485
    turn = np.array([[1, 0], [-half, -half], [0, 1], [half, -half], [-1, 0], [half, half], [0, -1], [-half, half]])
    base = -(fraction + np.float32(3)).astype(np.float64) * np.pi * 0.25
    distance = (fraction[:, np.newaxis] + np.float32(3)) - np.arange(TAPS, dtype=np.float32)
    angle = -distance.astype(np.float64) * np.pi * 0.25
    exact = np.abs(distance) < 1e-6
    angle[exact] = 1.0
    numerator = turn[:, 0] * np.sin(base)[:, np.newaxis] + turn[:, 1] * np.cos(base)[:, np.newaxis]
    weights = (numerator / (angle * angle)).astype(np.float32)
    weights[exact] = np.float32(1e30)
    normalised: npt.NDArray[np.float32] = weights / weights.sum(axis=1, keepdims=True, dtype=np.float32)
    return normalised
