"""Messages that the broker has and that may have to be sent again: no receipt of the historian yet. Pure."""

from __future__ import annotations

import collections
import heapq

from appliance.uplink.spooled import Stream

LONGEST = 32  # times the wait, while no receipt is heard at all


class Awaiting:
    """Times are monotonic, in microseconds. wait_us: for a receipt; it doubles each time in which none came."""

    def __init__(self, wait_us: int) -> None:
        self._wait_us = wait_us
        self._factor = 1
        self._sent: collections.deque[list[int | Stream]] = collections.deque()
        self._later: list[tuple[int, Stream, int, int]] = []

    def put(self, stream: Stream, first: int, last: int, now_us: int) -> None:
        """The broker has these; what was put within a sixteenth of the wait beside them has their time."""
        for entry in reversed(self._sent):
            if int(entry[0]) < now_us - self._wait_us // 16:
                break
            if entry[1] == stream and int(entry[3]) + 1 == first:
                entry[3] = last
                return
        self._sent.append([now_us, stream, first, last])

    def later(self, stream: Stream, first: int, last: int, until_us: int) -> None:
        """Send these again at a certain time."""
        heapq.heappush(self._later, (until_us, stream, first, last))

    def heard(self) -> None:
        """A receipt came: the historian is there."""
        self._factor = 1

    def take(self, now_us: int) -> list[tuple[Stream, int, int]]:
        """Those whose time has come; some of them may have left the spool meanwhile."""
        found: list[tuple[Stream, int, int]] = []
        while self._later and self._later[0][0] <= now_us:
            found.append(heapq.heappop(self._later)[1:])
        waited = len(found)
        while self._sent and int(self._sent[0][0]) + self._wait_us * self._factor <= now_us:
            _, stream, first, last = self._sent.popleft()
            found.append((stream, first, last))  # type: ignore[arg-type]
        if len(found) > waited:
            self._factor = min(LONGEST, 2 * self._factor)
        return found

    def due_us(self) -> int | None:
        """When take() will have something."""
        times = [int(self._sent[0][0]) + self._wait_us * self._factor] if self._sent else []
        return min(times + [one[0] for one in self._later[:1]], default=None)

    def clear(self) -> None:
        """The connection has gone: everything is sent again anyway."""
        self._sent.clear()
        self._later.clear()
