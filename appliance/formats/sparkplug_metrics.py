"""The metrics of our edge node: one table, from which births, data and the reference are made.

An alias is never reused for another meaning, and a metric never changes its type: hosts keep tags for years.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from appliance.formats.sparkplug import BDSEQ, DataType, Value

IMPLIED = frozenset({"schema", "device"})
"""Fields of every body that are no metric: the version is in this table, the device is the edge node."""


@dataclass(frozen=True, slots=True)
class MetricType:
    """kind: of the messages that carry it; empty for what every message carries. field: of their body. unit: UCUM."""

    alias: int
    name: str
    datatype: DataType
    kind: str = ""
    field: str = ""
    unit: str | None = None


_STRING, _INT64, _BOOLEAN = DataType.STRING, DataType.INT64, DataType.BOOLEAN

BDSEQ_METRIC = MetricType(1, BDSEQ, _INT64)

IDENTITY = (
    MetricType(10, "Message/Epoch", _STRING, field="epoch"),
    MetricType(11, "Message/Stream", _STRING, field="stream"),
    MetricType(12, "Message/Sequence", _INT64, field="sequence"),
    MetricType(13, "Message/Kind", _STRING, field="kind"),
    MetricType(14, "Message/Lane", _STRING, field="lane"),
    MetricType(15, "Message/Boot", _INT64, field="boot"),
    MetricType(16, "Message/Boot ID", _STRING, field="boot_id"),
    MetricType(17, "Message/Accepted Since Boot", _INT64, field="monotonic_us", unit="us"),
    MetricType(18, "Message/Accepted", _INT64, field="wall_us", unit="us"),
    MetricType(19, "Message/Time Quality", _STRING, field="quality"),
    MetricType(20, "Message/Age", _INT64, field="age_ms", unit="ms"),
)
"""Who a message is and when it was accepted: with (Epoch, Stream, Sequence) a consumer finds every duplicate."""

_BODIES = (
    MetricType(100, "Verdict/Label", _STRING, "verdict", "label"),
    MetricType(101, "Verdict/Score", _INT64, "verdict", "score_ppm", "[ppm]"),
    MetricType(102, "Verdict/Model", _STRING, "verdict", "model"),
    MetricType(103, "Verdict/Model Digest", _STRING, "verdict", "model_sha256"),
    MetricType(104, "Verdict/Execution Provider", _STRING, "verdict", "execution_provider"),
    MetricType(105, "Verdict/Latency", _INT64, "verdict", "latency_us", "us"),
    MetricType(106, "Verdict/Sequence", _INT64, "verdict", "sequence"),
    MetricType(107, "Verdict/Frame Sequence", _STRING, "verdict", "frame_sequence"),
    MetricType(108, "Verdict/Frame Digest", _STRING, "verdict", "frame_sha256"),
    MetricType(109, "Verdict/Boot ID", _STRING, "verdict", "boot_id"),
    MetricType(110, "Verdict/Service Start", _INT64, "verdict", "start_us", "us"),
    MetricType(111, "Verdict/Since Boot", _INT64, "verdict", "monotonic_us", "us"),
    MetricType(200, "Update/Outcome", _STRING, "update", "outcome"),
    MetricType(201, "Update/Version", _INT64, "update", "version"),
    MetricType(202, "Update/Running", _INT64, "update", "running"),
    MetricType(203, "Update/Reason", _STRING, "update", "reason"),
    MetricType(204, "Update/Transaction", _STRING, "update", "transaction"),
    MetricType(205, "Update/Boot ID", _STRING, "update", "boot_id"),
    MetricType(206, "Update/Since Boot", _INT64, "update", "monotonic_us", "us"),
    MetricType(300, "Alarm/Name", _STRING, "alarm", "name"),
    MetricType(301, "Alarm/Active", _BOOLEAN, "alarm", "active"),
    MetricType(302, "Alarm/Text", _STRING, "alarm", "text"),
    MetricType(303, "Alarm/Boot ID", _STRING, "alarm", "boot_id"),
    MetricType(304, "Alarm/Since Boot", _INT64, "alarm", "monotonic_us", "us"),
    MetricType(400, "Gap/Epoch", _STRING, "gap", "epoch"),
    MetricType(401, "Gap/Stream", _STRING, "gap", "stream"),
    MetricType(402, "Gap/First", _INT64, "gap", "first"),
    MetricType(403, "Gap/Last", _INT64, "gap", "last"),
    MetricType(404, "Gap/Reason", _STRING, "gap", "reason"),
)

METRICS = IDENTITY + _BODIES
"""What NDATA may carry; a birth has them all, bdSeq and Node Control/Rebirth besides."""

BODY_METRICS: dict[str, dict[str, MetricType]] = {
    kind: {metric.field: metric for metric in _BODIES if metric.kind == kind}
    for kind in sorted({metric.kind for metric in _BODIES})
}
"""kind -> field of its body -> metric. A kind that is not here travels as JSON."""


def body_values(kind: str, body: bytes) -> list[tuple[MetricType, Value]] | None:
    """The fields of a message's body as metrics, in the table's order.

    None when they are not exactly fields of the table, with values of its types: then metrics would lose something.
    """
    known = BODY_METRICS.get(kind)
    if known is None:
        return None
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(fields, dict) or not fields.keys() - IMPLIED <= known.keys():
        return None
    found = [(known[field], fields[field]) for field in known if field in fields]
    return found if all(_fits(value, metric.datatype) for metric, value in found) else None


def _fits(value: Any, datatype: DataType) -> bool:
    if value is None:
        return True
    if datatype is DataType.INT64:
        return type(value) is int and 0 <= value < 2**63
    return type(value) is (bool if datatype is DataType.BOOLEAN else str)
