"""Dropped packets, counted by what they have in common, told within a budget. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.network.budget import Budget
from appliance.network.packet import Flow

MOST_KINDS = 256
BURST, EVERY_S = 20, 60.0


@dataclass(frozen=True, order=True)
class Kind:
    """What drops have in common. interface: its name, or empty."""

    reason: str
    interface: str
    flow: Flow


@dataclass(frozen=True)
class Told:
    """One entry for the audit log. untold: drops before it that no entry tells of."""

    kind: Kind
    count: int
    untold: int


class Drops:
    """Collects between two entries. Memory is bounded: what finds no place is counted as untold."""

    def __init__(self, *, burst: int = BURST, every_s: float = EVERY_S) -> None:
        self._budget = Budget(burst=burst, every_s=every_s)
        self._counts: dict[Kind, int] = {}
        self._untold = 0
        self.seen = 0

    @property
    def waiting(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self._counts)

    def add(self, kind: Kind) -> None:
        """One drop."""
        self.seen += 1
        if kind in self._counts or len(self._counts) < MOST_KINDS:
            self._counts[kind] = self._counts.get(kind, 0) + 1
        else:
            self._untold += 1

    def lost(self, count: int) -> None:
        """Drops that the kernel could not tell of."""
        self.seen += count
        self._untold += count

    def take(self, now: float) -> list[Told]:
        """What the budget has room for, the most frequent first; the rest becomes untold."""
        told: list[Told] = []
        for kind, count in sorted(self._counts.items(), key=lambda item: (-item[1], item[0])):
            if self._budget.take(now):
                told.append(Told(kind, count, self._untold))
                self._untold = 0
            else:
                self._untold += count
        self._counts.clear()
        return told
