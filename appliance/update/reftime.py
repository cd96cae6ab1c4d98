"""What a device knows about time. T_low is proven; the machine's own clock is a guess that only windows may use.

T_low = max(build epoch of the sealed image, persisted mark, newest signed time in accepted metadata and manifests, the
site's signed_at). Expiry and rollback protection are held against T_low alone, so no clock can weaken them.
"""

from __future__ import annotations

from dataclasses import dataclass

FURTHEST_AHEAD_S = 15 * 366 * 86_400
"""A clock further ahead of the last signature is wrong: no site signs nothing for so long, no offset table lasts so."""


@dataclass(frozen=True)
class TimeKnowledge:
    """t_low: Unix seconds that a signature vouched for. wall: the machine's clock, or None where there is none."""

    t_low: int
    wall: int | None


def raise_mark(mark: int, *signed: int) -> int:
    """The new T_low: `mark` is the old one, `signed` times out of signed and accepted data. It never falls."""
    return max(mark, *signed) if signed else mark


def best_now(known: TimeKnowledge, *, clock_counts: bool) -> int | None:
    """Unix seconds for windows, not_before and not_after; None when the time is not known.

    clock_counts: the site's policy says so. A clock below T_low, or absurdly far above it, is none.
    """
    if not clock_counts or known.wall is None:
        return None
    return known.wall if known.t_low <= known.wall <= known.t_low + FURTHEST_AHEAD_S else None
