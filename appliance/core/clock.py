"""A moment as plain values. Nobody reads a clock but appliance.machine.clock; everyone else is given a Moment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

TimeQuality = Literal["synchronised", "held", "unknown"]
"""What the wall clock is worth: set by a time server lately, set by one earlier in this boot, or never."""


@dataclass(frozen=True)
class Moment:
    """boot_id: 32 hex digits. monotonic_us: since boot, suspend included. wall_us: since 1970; quality: of it."""

    boot_id: str
    monotonic_us: int
    wall_us: int
    quality: TimeQuality = "unknown"


Clock = Callable[[], Moment]
