"""A second opinion: the reader that `edgeseal uplink watch` uses, which knows no promises and no connections."""

from __future__ import annotations

from collections.abc import Iterable

from builder.uplink.tally import StreamName, Tally
from tests.support.chaos.judge import Arrival


def tallied(arrivals: Iterable[Arrival], device: str) -> dict[str, int]:
    """What a site's own reader counts. disordered: first seen after a higher number of the same lane."""
    tally = Tally()
    for one in arrivals:
        tally.take(StreamName(device, one.epoch, one.stream), one.sequence, one.lane)  # type: ignore[arg-type]
    streams = tally.streams.values()
    return {
        "received": sum(stream.received for stream in streams),
        "duplicates": sum(stream.duplicates for stream in streams),
        "missing": sum(stream.missing_count for stream in streams),
        "late": sum(stream.late for stream in streams),
        "disordered": sum(stream.disordered for stream in streams),
    }
