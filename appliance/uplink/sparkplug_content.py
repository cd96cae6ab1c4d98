"""What the metrics of a message and of a birth are. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from appliance.core.clock import Moment
from appliance.formats.sparkplug import REBIRTH, DataType, Metric, Value
from appliance.formats.sparkplug_metrics import BDSEQ_METRIC, IDENTITY, METRICS, MetricType
from appliance.uplink.dialect import Sending
from appliance.uplink.spooled import Spooled

Current = Mapping[int, tuple[Value, int]]
"""alias -> the value said last and its timestamp in ms."""


def identity_values(message: Spooled, sending: Sending, epoch: str) -> list[tuple[MetricType, Value]]:
    """Who the message is: the same each time but for its lane and age."""
    given: dict[str, Value] = {
        "epoch": epoch,
        "stream": message.stream,
        "sequence": message.sequence,
        "kind": message.kind,
        "lane": sending.lane,
        "boot": message.boot,
        "boot_id": message.boot_id,
        "monotonic_us": message.monotonic_us,
        "wall_us": message.wall_us,
        "quality": message.quality,
        "age_ms": sending.age_ms,
    }
    return [(metric, given[metric.field]) for metric in IDENTITY]


def acquired_ms(message: Spooled, sending: Sending, now: Moment) -> int:
    """When the message was accepted, in ms since 1970.

    A wall clock that was wrong then and is right now is mended by the age, where that is known.
    """
    if message.quality != "synchronised" and now.quality == "synchronised" and sending.age_ms is not None:
        return max(0, now.wall_us // 1000 - sending.age_ms)
    return message.wall_us // 1000


def birth_metrics(bdseq: int, current: Current, now_ms: int) -> tuple[Metric, ...]:
    """Every metric that there is, with its value of now: null for what was not said since the service began.

    In the order of their timestamps, as the specification wants it.
    """
    control = (
        Metric(BDSEQ_METRIC.name, BDSEQ_METRIC.alias, now_ms, BDSEQ_METRIC.datatype, bdseq),
        Metric(REBIRTH, None, now_ms, DataType.BOOLEAN, False),
    )
    known = [
        Metric(metric.name, metric.alias, timestamp, metric.datatype, value, unit=metric.unit)
        for metric in METRICS
        for value, timestamp in (current.get(metric.alias, (None, now_ms)),)
    ]
    return tuple(sorted((*control, *known), key=lambda metric: metric.timestamp or 0))
