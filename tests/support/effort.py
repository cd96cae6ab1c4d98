"""How many cases a run tries. `make check` tries a share of them, everything else (`make test`, CI, pytest) all.

Which run it is, the profile of hypothesis says: `--hypothesis-profile=quick` or none.
"""

from __future__ import annotations

from hypothesis import settings

FULL, QUICK = 100, 20
"""Examples of a property where it names no number itself."""

_STEP = 7  # no divisor of 8: a walk that flips bit `position % 8` still flips each of the eight


def examples(most: int) -> settings:
    """A property with a number of its own: `most` examples, in a quick run the same share as of all others."""
    return settings(max_examples=most * settings().max_examples // FULL)


def positions(size: int) -> range:
    """Where in `size` bytes to spoil one: everywhere, in a quick run at every seventh byte."""
    return range(0, size, 1 if settings().max_examples >= FULL else _STEP)
