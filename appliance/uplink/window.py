"""Which spooled messages are on the wire. Pure: no socket, no file."""

from __future__ import annotations


class Window:
    """What was sent on the present connection and not acknowledged yet.

    After lost() everything unacknowledged counts as unsent: it is sent again, and consumers see a repeated sequence.
    """

    def __init__(self) -> None:
        self._limit = 0
        self._in_flight: set[int] = set()
        self.last_sent = 0

    @property
    def connected(self) -> bool:
        """Whether there is a connection to send on."""
        return self._limit > 0

    @property
    def room(self) -> int:
        """How many more messages may be on the wire."""
        return max(0, self._limit - len(self._in_flight))

    def opened(self, limit: int) -> None:
        """A new connection, with at most `limit` messages in flight (1 or more)."""
        self._limit = limit
        self._in_flight.clear()
        self.last_sent = 0

    def lost(self) -> None:
        """The connection has gone."""
        self._limit = 0
        self._in_flight.clear()

    def sent(self, sequence: int) -> None:
        """`sequence` was given to the transport; sequences rise."""
        self._in_flight.add(sequence)
        self.last_sent = sequence

    def acknowledged(self, sequence: int) -> None:
        """The broker has `sequence`."""
        self._in_flight.discard(sequence)
