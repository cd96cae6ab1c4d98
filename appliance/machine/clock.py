"""The kernel's clocks and its boot id."""

from __future__ import annotations

import time
from pathlib import Path

from appliance.core.clock import Clock, Moment, TimeQuality

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_SYNCHRONISED = Path("/run/systemd/timesync/synchronized")  # touched at each synchronisation, systemd-timesyncd(8)
_HELD_AFTER_S = 2 * 3600  # a server that is asked every 34 minutes at most has not answered for a while


def time_quality(marker: Path = _SYNCHRONISED) -> TimeQuality:
    """What the wall clock is worth now. marker: of the time service; where there is none, nothing is known."""
    try:
        age_s = time.time() - marker.stat().st_mtime
    except OSError:
        return "unknown"
    return "synchronised" if 0 <= age_s <= _HELD_AFTER_S else "held"


def system_clock() -> Clock:
    """A clock of this boot."""
    boot_id = _BOOT_ID.read_text().strip().replace("-", "")

    def now() -> Moment:
        return Moment(
            boot_id=boot_id,
            monotonic_us=time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000,
            wall_us=max(0, time.time_ns() // 1000),
            quality=time_quality(),
        )

    return now
