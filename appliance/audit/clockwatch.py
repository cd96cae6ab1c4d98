"""Notices when the wall clock is moved, or its source changes. Pure: moments are given."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.core.clock import Moment
from appliance.formats.audit_event import AuditEvent

STEP_US = 500_000
"""A time service slews by at most 500 ppm, which is 2.5 ms between two looks; more than this is a step."""
_MOST = 2**53 - 1


@dataclass
class ClockWatch:
    """last: what was seen last in this boot."""

    last: Moment

    def look(self, now: Moment) -> list[AuditEvent]:
        """Events for what changed since the last look."""
        found = []
        passed = now.monotonic_us - self.last.monotonic_us
        moved = now.wall_us - self.last.wall_us - passed
        if abs(moved) > STEP_US:
            found.append(
                AuditEvent(
                    kind="clock-stepped",
                    result="success",
                    fields={
                        "milliseconds": min(abs(moved) // 1000, _MOST),
                        "forward": moved > 0,
                        "quality": self.last.quality,
                        "now": now.quality,
                    },
                )
            )
        if now.quality != self.last.quality:
            fields = {"before": self.last.quality, "now": now.quality}
            found.append(AuditEvent(kind="time-quality-changed", result="success", fields={**fields}))
        self.last = now
        return found


def behind(newest_wall_us: int, now: Moment) -> AuditEvent | None:
    """For a boot: the clock shows less than in the newest entry of the boot before."""
    lag = newest_wall_us - now.wall_us
    if lag <= STEP_US:
        return None
    return AuditEvent(kind="clock-behind", result="failure", fields={"milliseconds": min(lag // 1000, _MOST)})
