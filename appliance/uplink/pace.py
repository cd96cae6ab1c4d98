"""How many bytes may be in flight. Pure.

On a slow link whatever is in the socket's buffer delays an alarm. The time to a PUBACK beyond the shortest one seen is
waiting in buffers: over LONG_US of it the allowance shrinks, under SHORT_US it grows (as LEDBAT does, RFC 6817). A long
way without a queue (a satellite) is not slow: its shortest time is long, too.
"""

from __future__ import annotations

LEAST = 4 << 10
MOST = 4 << 20
FIRST = 16 << 10
LONG_US = 1_000_000
SHORT_US = 250_000


class Pace:
    """Of one connection."""

    def __init__(self) -> None:
        self.allowed = FIRST
        self._shortest_us: int | None = None
        self._changed_us = 0

    def acknowledged(self, sent_us: int, now_us: int) -> None:
        """A message that was sent at `sent_us` was acknowledged now."""
        took = max(0, now_us - sent_us)
        self._shortest_us = took if self._shortest_us is None else min(self._shortest_us, took)
        waited = took - self._shortest_us
        if sent_us < self._changed_us:
            return  # it was sent under the allowance before
        if waited > LONG_US:
            self.allowed = max(LEAST, self.allowed // 2)
            self._changed_us = now_us
        elif waited < SHORT_US:
            self.allowed = min(MOST, self.allowed + (self.allowed >> 2))
            self._changed_us = now_us
