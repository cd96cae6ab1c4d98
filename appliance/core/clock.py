"""A moment as plain values. Nobody reads a clock but appliance.machine.clock; everyone else is given a Moment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Moment:
    """boot_id: 32 hex digits. monotonic_us: since boot, suspend included. wall_us: since 1970, unproven."""

    boot_id: str
    monotonic_us: int
    wall_us: int


Clock = Callable[[], Moment]
