"""What the spool holds, and the names of its streams and lanes."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.core.clock import TimeQuality
from appliance.formats.uplink_envelope import Lane, Stream

__all__ = ("Lane", "Spooled", "Stream")


@dataclass(frozen=True, slots=True)
class Spooled:
    """One message. sequence: from 1 in its stream, rising by one, never reused in this epoch. kind: what body is.

    boot: number of the boot in which it was accepted, from 1; boot_id, monotonic_us, wall_us, quality: then.
    body: canonical JSON.
    """

    stream: Stream
    sequence: int
    kind: str
    boot: int
    boot_id: str
    monotonic_us: int
    wall_us: int
    quality: TimeQuality
    body: bytes
