"""What becomes of a message that the broker refuses. Pure. ADR 0025.

A refusal may be about this message, or about everything (an access rule that was mistyped at the site). Only the first
kind is ever given up: after ATTEMPTS, while the broker takes others of the same kind. All others wait.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from appliance.uplink.spooled import Stream

ATTEMPTS = 3
FIRST_PAUSE_US = 1_000_000
LONGEST_PAUSE_US = 600_000_000
PASSING = frozenset({0x80, 0x83, 0x91, 0x97})
"""Reason codes that speak of the broker's state: unspecified, implementation specific, identifier in use, quota."""

Fate = Literal["later", "lane-later", "given-up"]


@dataclass(frozen=True)
class Ruling:
    """later: this message waits until_us; lane-later: its whole lane does; given-up: never again."""

    fate: Fate
    until_us: int


class Refusals:
    """Since the service's start."""

    def __init__(self) -> None:
        self._attempts: dict[tuple[Stream, int], int] = {}
        self._in_a_row: dict[str, int] = {}

    def accepted(self, kind: str) -> None:
        """The broker took a message of this kind."""
        self._in_a_row.pop(kind, None)

    def judge(self, stream: Stream, sequence: int, kind: str, code: int | None, now_us: int) -> Ruling:
        """code: of the PUBACK; None: it is larger than the broker takes. A gap record is never given up."""
        in_a_row = self._in_a_row.get(kind, 0)
        self._in_a_row[kind] = in_a_row + 1
        pause = min(LONGEST_PAUSE_US, FIRST_PAUSE_US << min(in_a_row, 16))
        if code in PASSING:
            return Ruling("lane-later", now_us + pause)
        attempts = self._attempts.get((stream, sequence), 0) + 1
        self._attempts[stream, sequence] = attempts
        about_itself = code is None or in_a_row == 0
        if attempts >= ATTEMPTS and about_itself and kind != "gap":
            del self._attempts[stream, sequence]
            return Ruling("given-up", now_us)
        if code is not None and in_a_row > 0:
            return Ruling("lane-later", now_us + pause)
        return Ruling("later", now_us + (LONGEST_PAUSE_US if code is None else 10 * FIRST_PAUSE_US))
