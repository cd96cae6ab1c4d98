"""How fast, how slow, how often: rules for a transfer. Pure: times are arguments, in seconds of any monotonic clock."""

from __future__ import annotations


def backoff(failed: int, *, first_s: float, longest_s: float, draw: float) -> float:
    """Seconds to wait after `failed` failures in a row (1 or more): exponential, with full jitter.

    draw: evenly from [0, 1). Devices that failed together do not come back together.
    """
    return draw * min(longest_s, first_s * 2.0 ** min(failed - 1, 63))


class TokenBucket:
    """A bandwidth cap. rate: bytes per second, at least 1; up to one second's worth may come at once."""

    def __init__(self, rate: int, *, now: float) -> None:
        self._rate = rate
        self._tokens = float(rate)
        self._at = now

    def delay(self, received: int, *, now: float) -> float:
        """Seconds to pause after `received` more bytes."""
        self._tokens = min(float(self._rate), self._tokens + max(0.0, now - self._at) * self._rate) - received
        self._at = max(self._at, now)
        return max(0.0, -self._tokens / self._rate)


class SpeedGuard:
    """The slowest transfer that is borne: after `grace_s` it must keep up with `slowest` bytes per second.

    So a transfer of n bytes ends within grace_s + n / slowest seconds of waiting, whatever the other side does. Only
    waiting for the other side counts, not our own pauses for the cap nor the time that a caller needs.
    """

    def __init__(self, *, slowest: int, grace_s: float) -> None:
        self._slowest = slowest
        self._grace_s = grace_s
        self._waited_s = 0.0
        self._received = 0

    def note(self, *, waited_s: float, received: int = 0) -> None:
        """Time that was spent waiting, and what came of it."""
        self._waited_s += max(0.0, waited_s)
        self._received += received

    @property
    def left_s(self) -> float:
        """How much longer may be waited for the next byte; 0 or less: too slow."""
        return self._grace_s + self._received / self._slowest - self._waited_s
