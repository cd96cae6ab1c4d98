"""Whether a connection is alive. Pure: times are given, in seconds of one steady clock.

paho needs up to twice the keepalive to see a half-open link; this needs 1.25 times, also while we go on publishing. And
it sees what keepalive does not: a broker that answers pings and nothing else.
"""

from __future__ import annotations

from typing import Final

from appliance.uplink.opening import EndedError

OPENING_S: Final = 30.0
"""Until CONNACK and SUBACK have come."""
_PING_AFTER: Final = 0.75
_DEAD_AFTER: Final = 1.25


class Pulse:
    """keepalive_s: ours, until the broker names a shorter one (Server Keep Alive, 3.2.2.3.14).

    progress_at: when something that we published went or was acknowledged.
    """

    def __init__(self, keepalive_s: float, now: float) -> None:
        self._keepalive_s = keepalive_s
        self._opened_at = now
        self._pinged_at = now
        self._connected = False
        self.progress_at = now

    def accepted(self, server_keepalive_s: int) -> None:
        """The broker sent CONNACK. server_keepalive_s: 0 when it named none, or wants none: we still look."""
        self._keepalive_s = min(self._keepalive_s, server_keepalive_s or self._keepalive_s)

    def connected(self) -> None:
        """All that belongs to the opening has come."""
        self._connected = True

    def beat(self, now: float, *, heard_at: float, sent_at: float, waiting: bool) -> bool:
        """Whether a ping must be sent now. heard_at, sent_at: when bytes last came and went. waiting: for a PUBACK.

        Raises EndedError when the connection is dead.
        """
        if not self._connected:
            if now - self._opened_at > OPENING_S:
                raise EndedError(f"the broker did not accept us within {OPENING_S:.0f} s")
            return False
        quiet = now - heard_at
        if quiet > _DEAD_AFTER * self._keepalive_s:
            raise EndedError(f"the broker has said nothing for {quiet:.0f} s")
        stuck = now - self.progress_at
        if waiting and stuck > max(OPENING_S, 2 * self._keepalive_s):
            raise EndedError(f"the broker has acknowledged nothing for {stuck:.0f} s")
        due = _PING_AFTER * self._keepalive_s
        if max(quiet, now - sent_at) > due and now - self._pinged_at > due:
            self._pinged_at = now
            return True
        return False


class Ration:
    """How much the broker may say to us in a second; a service that stands still would else keep it all in memory."""

    def __init__(self, *, messages: int, size: int) -> None:
        self._most = (messages, size)
        self._second = -1
        self._left = [0, 0]

    def allows(self, size: int, now: float) -> bool:
        """Whether a message of `size` bytes is taken at `now` seconds of a steady clock."""
        if int(now) != self._second:
            self._second, self._left = int(now), list(self._most)
        if self._left[0] < 1 or self._left[1] < size:
            return False
        self._left[0] -= 1
        self._left[1] -= size
        return True
