"""How often a thing may be told or done. Pure: the time is an argument, in seconds of any steady clock."""

from __future__ import annotations

_SHORTEST_S = 0.001  # a pause that is shorter is none: numbers are not exact


class Budget:
    """`burst` at once, one more every `every_s`: so nobody from outside decides how much is written."""

    def __init__(self, *, burst: int, every_s: float) -> None:
        self._burst = float(burst)
        self._every_s = every_s
        self._left = float(burst)
        self._last: float | None = None

    def take(self, now: float) -> bool:
        """Whether there was room for one."""
        if self._last is not None:
            self._left = min(self._burst, self._left + max(0.0, now - self._last) / self._every_s)
        self._last = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class Pace:
    """Work whose amount a stranger decides: at once while there is credit, after that a share of the time."""

    def __init__(self, *, credit_s: float, share: float, longest_s: float) -> None:
        """credit_s: of work, given back at the rate `share`, 0 to 1. longest_s: no pause is longer."""
        self._most = credit_s
        self._least = -longest_s * share
        self._share = share
        self._credit = credit_s
        self._last: float | None = None

    def worked(self, seconds: float, *, now: float) -> None:
        """It was done, and cost so much."""
        self._earn(now)
        self._credit = max(self._least, self._credit - seconds)

    def wait_s(self, now: float) -> float:
        """How long to wait before it may be done again; 0 when it may be done now."""
        self._earn(now)
        pause = -self._credit / self._share
        return pause if pause >= _SHORTEST_S else 0.0

    def _earn(self, now: float) -> None:
        if self._last is not None:
            self._credit = min(self._most, self._credit + max(0.0, now - self._last) * self._share)
        self._last = now
