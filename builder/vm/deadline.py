"""Waiting with an end. Every wait for a machine has a deadline and somebody who can say that it is hopeless."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from appliance.core.errors import EdgesealError

PAUSE_S = 0.1
IN_GUEST_S = 2.0
T = TypeVar("T")


class Deadline:
    """A moment on the monotonic clock, `seconds` from now."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def left_s(self) -> float:
        """Seconds left, at least 0."""
        return max(0.0, self._end - time.monotonic())

    @property
    def passed(self) -> bool:
        """Whether it is over."""
        return self.left_s == 0.0


def wait_until(
    found: Callable[[], T | None],
    *,
    what: str,
    within_s: float,
    check: Callable[[], object] = lambda: None,
    every_s: float = PAUSE_S,
) -> T:
    """The first value of `found` that is neither None nor False.

    what: what is awaited, for the error. check: called in every round; raises when waiting is hopeless. every_s: pause
    between rounds; IN_GUEST_S where a round runs something inside an emulated machine, which has better to do.
    Raises EdgesealError when `within_s` have passed.
    """
    deadline = Deadline(within_s)
    while True:
        value = found()
        if value is not None and value is not False:
            return value
        check()
        if deadline.passed:
            raise EdgesealError(f"{what}: not within {within_s:.0f} s")
        time.sleep(every_s)
