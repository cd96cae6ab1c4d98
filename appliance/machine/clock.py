"""The kernel's clocks and its boot id."""

from __future__ import annotations

import time
from pathlib import Path

from appliance.core.clock import Clock, Moment

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def system_clock() -> Clock:
    """A clock of this boot."""
    boot_id = _BOOT_ID.read_text().strip().replace("-", "")

    def now() -> Moment:
        return Moment(
            boot_id=boot_id,
            monotonic_us=time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000,
            wall_us=max(0, time.time_ns() // 1000),
        )

    return now
