"""Frames to verdicts: numbering, scores as integers, the digest of what was judged."""

from __future__ import annotations

import hashlib
from typing import Protocol

import numpy as np
import numpy.typing as npt

from appliance.core.clock import Clock
from appliance.core.errors import EdgesealError
from appliance.formats.device import InferenceConfig
from appliance.formats.frame import MIN_SIDE, Frame
from appliance.formats.model_card import ModelCard
from appliance.formats.verdict import Verdict
from appliance.inference.preprocess import model_input

_MILLION = 1_000_000


class Model(Protocol):
    """What judges: appliance.inference.session.Session, or a fake."""

    def run(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """One probability per label."""


class Judge:
    """Judges frames one after the other. device: the site's name for this device."""

    def __init__(self, model: Model, card: ModelCard, config: InferenceConfig, *, device: str, clock: Clock) -> None:
        self._model = model
        self._card = card
        self._config = config
        self._device = device
        self._clock = clock
        self._start_us = clock().monotonic_us
        self._sequence = 0

    def judge(self, frame: Frame, *, received_us: int) -> Verdict:
        """received_us: monotonic time when the whole frame was there. Raises EdgesealError, DecodeError."""
        scores = self._model.run(model_input(frame, self._card))
        best = int(scores.argmax())
        now = self._clock()
        self._sequence += 1
        return Verdict(
            device=self._device,
            boot_id=now.boot_id,
            start_us=self._start_us,
            sequence=self._sequence,
            frame_sequence=str(frame.sequence),
            frame_sha256=hashlib.sha256(frame.pixels).hexdigest(),
            label=self._card.labels[best],
            score_ppm=min(_MILLION, max(0, round(float(scores[best]) * _MILLION))),
            model=self._card.name,
            model_sha256=self._card.sha256,
            execution_provider=self._config.execution_provider,
            latency_us=now.monotonic_us - received_us,
            monotonic_us=now.monotonic_us,
        )


def self_test(model: Model, card: ModelCard) -> None:
    """Judge a built-in frame twice: the scores must be probabilities and the same both times. Raises EdgesealError."""
    batch = model_input(built_in_frame(card), card)
    first, second = model.run(batch), model.run(batch)
    if not np.array_equal(first, second):
        raise EdgesealError(f"model {card.name} judged the same frame in two ways")
    if first.min() < 0 or abs(float(first.sum()) - 1) > 0.001:
        raise EdgesealError(f"model {card.name} gave scores that are no probabilities: {first.tolist()}")


def built_in_frame(card: ModelCard) -> Frame:
    """Dark bars on a bright ground, a little like lines of print; the same bytes everywhere."""
    side = max(card.resize_short, MIN_SIDE)
    row, column = np.indices((side, side))
    ink = (row % 32 < 12) & (column * 7 % 64 < 44) & (column > side // 8)
    grey = np.where(ink, 40, 230).astype(np.uint8)
    return Frame(sequence=0, width=side, height=side, pixels=np.repeat(grey[:, :, np.newaxis], 3, axis=2).tobytes())
