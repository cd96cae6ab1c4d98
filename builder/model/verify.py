"""Judges frames at build time, so that a device's verdicts can be held against somebody else's.

On purpose no code of appliance.inference: the preprocessing is written a second time from the model card's definition,
in floating point. Where the two disagree about a label, one of them is wrong.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from appliance.core.errors import InputError
from appliance.formats.frame import Frame
from appliance.formats.model_card import ModelCard

if TYPE_CHECKING:
    from builder.model.card import Model

_PROVIDER = "CPUExecutionProvider"
_TAPS = np.arange(-3, 5)
_MILLION = 1_000_000
SCORE_TOLERANCE_PPM = 2_000  # 64 measured between the two scalings; the rest is for other processors


@dataclass(frozen=True)
class Expected:
    """What a device should say about one frame. score_ppm: of the label, in millionths."""

    sequence: int
    label: str
    score_ppm: int


def expected_verdicts(model: Model, frames: Iterable[Frame]) -> list[Expected]:
    """Verdicts of onnxruntime's CPU provider, one per frame, in order. Raises InputError when it cannot load.

    A device says the same label; its score may be SCORE_TOLERANCE_PPM away, as it scales in fixed point.
    """
    session = _session(model.onnx)
    return [_judge(session, model.card, frame) for frame in frames]


def require_loads(onnx: bytes) -> None:
    """Load the model once. Raises InputError when onnxruntime refuses it."""
    _session(onnx)


def _judge(session: Any, card: ModelCard, frame: Frame) -> Expected:
    scores = np.asarray(session.run(None, {card.input_name: reference_input(frame, card)})[0]).reshape(-1)
    best = int(scores.argmax())
    return Expected(frame.sequence, card.labels[best], round(float(scores[best]) * _MILLION))


def _session(onnx: bytes) -> Any:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # its Linux wheels call home by default; read while it is imported
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return ort.InferenceSession(onnx, options, providers=[_PROVIDER])
    except Exception as error:  # onnxruntime raises types of its own that share no base
        reason = str(error).splitlines()[0]
        raise InputError(
            f"onnxruntime cannot load it: {reason}", hint="try it with the onnxruntime of the lock"
        ) from error


def reference_input(frame: Frame, card: ModelCard) -> npt.NDArray[np.float32]:
    """Shape (1, 3, crop, crop): scaled so that the shorter side is resize_short, the middle cut out, normalised."""
    pixels = np.frombuffer(frame.pixels, dtype=np.uint8).reshape(frame.height, frame.width, 3).astype(np.float64)
    scale = card.resize_short / min(frame.width, frame.height)
    rows = _weights(frame.height, round(frame.height * scale), card.crop)
    columns = _weights(frame.width, round(frame.width * scale), card.crop)
    square = np.einsum("ry,yxc,sx->crs", rows, pixels, columns, optimize=True)
    square = np.clip(np.rint(square), 0, 255) / 255
    if card.channel_order == "bgr":
        square = square[::-1]
    mean = np.array(card.mean_ppm).reshape(3, 1, 1) / _MILLION
    std = np.array(card.std_ppm).reshape(3, 1, 1) / _MILLION
    result: npt.NDArray[np.float32] = ((square - mean) / std)[np.newaxis].astype(np.float32)
    return result


def _weights(old: int, new: int, crop: int) -> npt.NDArray[np.float64]:
    """A matrix (crop, old): Lanczos with four lobes, not widened when shrinking, the edge pixel repeated."""
    matrix = np.zeros((crop, old))
    for row, position in enumerate(range((new - crop) // 2, (new - crop) // 2 + crop)):
        centre = (position + 0.5) * old / new - 0.5
        taps = int(np.floor(centre)) + _TAPS
        weights = np.sinc(centre - taps) * np.sinc((centre - taps) / 4)
        np.add.at(matrix[row], np.clip(taps, 0, old - 1), weights / weights.sum())
    return matrix
