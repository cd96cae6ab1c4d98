"""Which broker is tried when: fail-over, sticky return and pauses. Pure: time and dice are given.

A pause is drawn evenly from zero to a limit (full jitter), the first one after a loss as well: when a broker with
10,000 devices goes down, they come back over FIRST_PAUSE_S, not at once. The limit doubles with each round in which
nobody answered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FIRST_PAUSE_S = 10.0
START_PAUSE_S = 5.0  # machines do not all boot in the same second
LONGEST_PAUSE_S = 120.0
TAKEN_OVER_PAUSE_S = 60.0
LONGEST_TAKEN_OVER_S = 900.0
STABLE_S = 60.0

Ending = Literal["failed", "worked", "taken-over", "moving"]
"""Of a connection: never of use; of use (something acknowledged, or up for STABLE_S); another client has our name;
ended by us, because the broker that `Rota.going_back` named answers again."""


@dataclass(frozen=True)
class Broker:
    """Where a broker listens. host: a name or an address, verified against its certificate."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Rota:
    """The order of the brokers. first_pause_s, longest_pause_s: limits of pauses."""

    def __init__(
        self,
        brokers: tuple[Broker, ...],
        *,
        return_s: float,
        first_pause_s: float = FIRST_PAUSE_S,
        longest_pause_s: float = LONGEST_PAUSE_S,
    ) -> None:
        self._brokers = brokers
        self._return_s = return_s
        self._first = first_pause_s
        self._longest = longest_pause_s
        self._index = 0
        self._failures = 0
        self._thefts = 0
        self._stand_in: int | None = None

    @property
    def present(self) -> Broker:
        """The one to connect to, or connected to."""
        return self._brokers[self._index]

    @property
    def earlier(self) -> tuple[Broker, ...]:
        """Those that go before the present one; empty at the first."""
        return self._brokers[: self._index]

    def start(self, dice: float) -> float:
        """Seconds until the first attempt: after a power failure a whole plant starts at once. dice: 0 to 1."""
        return dice * min(self._first, START_PAUSE_S)

    def ended(self, ending: Ending, dice: float) -> float:
        """A connection to `present`, or an attempt, has ended: choose the next; seconds until then. dice: 0 to 1."""
        if ending == "moving":
            return 0.0
        if self._stand_in is not None and ending == "failed":  # it answered the probe, and then did not take us
            self._index, self._stand_in = self._stand_in, None
            return 0.0
        self._stand_in = None
        if ending == "taken-over":
            self._thefts += 1
            limit = min(LONGEST_TAKEN_OVER_S, TAKEN_OVER_PAUSE_S * 2.0 ** min(self._thefts - 1, 10))
            return limit * (1 + dice) / 2  # never soon: the other one would lose its connection, and so on
        self._failures = self._failures + 1 if ending == "failed" else 0
        self._index = (self._index + 1) % len(self._brokers) if ending == "failed" else self._index
        rounds = self._failures // len(self._brokers)
        return dice * min(self._longest, self._first * 2.0 ** min(rounds, 10))

    def settled(self) -> None:
        """The connection has been up for STABLE_S."""
        self._failures = self._thefts = 0
        self._stand_in = None

    def next_look(self, dice: float) -> float:
        """Seconds from now until an earlier broker is tried: return_s to twice that, so that a fleet moves slowly."""
        return self._return_s * (1 + dice)

    def go_back(self, broker: Broker) -> None:
        """`broker`, one of `earlier`, answered a probe: it is the next; if it fails, the present one is again."""
        self._stand_in = self._index
        self._index = self._brokers.index(broker)
