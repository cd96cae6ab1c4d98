"""Firmware first, then models, in one thread: each with failures of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from appliance.update.model_rounds import ModelRounds
from appliance.update.rounds import Rounds


class Attention(Protocol):
    """Somebody who may come while models are fetched."""

    def begin(self) -> None:
        """From now on."""

    def is_wanted(self) -> bool:
        """The service ends, or a medium came or went since `begin`: firmware is looked for first."""


class Turns:
    """clock: monotonic seconds, the one of `models`. attention: whether somebody wants it, which stops models too."""

    def __init__(
        self, firmware: Rounds, models: ModelRounds, *, clock: Callable[[], float], attention: Attention
    ) -> None:
        self._firmware = firmware
        self._models = models
        self._clock = clock
        self._attention = attention

    def round(self) -> float:
        """Returns the seconds until the next one. Models are worked on in the pause that the firmware has anyway."""
        self._attention.begin()
        pause = self._firmware.round()
        if pause <= 0:
            return pause
        end = self._clock() + pause
        self._models.round(self._firmware.heard, until=end)
        return 0.0 if self._attention.is_wanted() else max(0.0, end - self._clock())
