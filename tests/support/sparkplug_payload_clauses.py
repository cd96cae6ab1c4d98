"""Assertions about births and data. Written from the specification."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from tests.support.sparkplug_clause import BOOLEAN, CLOCK_MS, KIND_OF, REBIRTH, STRING, clause, wrong_flags
from tests.support.sparkplug_recording import Message, Recording, metric_of

# ---- births


@clause(
    "topics-nbirth-mqtt",
    "message-flow-edge-node-birth-publish-nbirth-qos",
    "message-flow-edge-node-birth-publish-nbirth-retained",
    "payloads-nbirth-qos",
    "payloads-nbirth-retain",
)
def _birth_flags(recording: Recording) -> Iterator[str]:
    yield from wrong_flags(recording.messages("NBIRTH"), 0)


@clause(
    "topics-nbirth-seq-num",
    "message-flow-edge-node-birth-publish-nbirth-payload",
    "message-flow-edge-node-birth-publish-nbirth-payload-seq",
    "payloads-nbirth-seq",
    "payloads-sequence-num-req-nbirth",
)
def _birth_seq(recording: Recording) -> Iterator[str]:
    for message in recording.messages("NBIRTH"):
        if message.read.seq != 0:
            yield f"NBIRTH with seq {message.read.seq}"


@clause("topics-nbirth-timestamp", "payloads-nbirth-timestamp", "payloads-timestamp-in-UTC")
def _birth_time(recording: Recording) -> Iterator[str]:
    yield from _sent_now(recording.messages("NBIRTH"))


def _sent_now(messages: list[Message]) -> Iterator[str]:
    for message in messages:
        if message.read.timestamp is None or abs(message.read.timestamp - message.at_ms) > CLOCK_MS:
            yield f"{message.type} of {message.at_ms} with timestamp {message.read.timestamp}"


@clause(
    "topics-nbirth-metrics",
    "operational-behavior-data-publish-nbirth-values",
    "payloads-metric-datatype-req",
    "payloads-metric-datatype-value",
    "payloads-metric-datatype-value-type",
    "payloads-name-requirement",
)
def _birth_metrics(recording: Recording) -> Iterator[str]:
    for metric in itertools.chain.from_iterable(message.read.metrics for message in recording.messages("NBIRTH")):
        if not metric.name or metric.datatype not in KIND_OF:
            yield f"name {metric.name}, datatype {metric.datatype}"
        elif metric.null is not (metric.kind is None) or (not metric.null and metric.kind != KIND_OF[metric.datatype]):
            yield f"{metric.name}: null {metric.null}, datatype {metric.datatype}, a value of kind {metric.kind}"


@clause(
    "topics-nbirth-rebirth-metric",
    "operational-behavior-data-commands-rebirth-name",
    "operational-behavior-data-commands-rebirth-name-aliases",
    "operational-behavior-data-commands-rebirth-datatype",
    "operational-behavior-data-commands-rebirth-value",
    "payloads-nbirth-rebirth-req",
)
def _rebirth_metric(recording: Recording) -> Iterator[str]:
    for message in recording.messages("NBIRTH"):
        metric = metric_of(message.read, REBIRTH)
        if metric is None or (metric.datatype, metric.kind, metric.value, metric.alias) != (
            BOOLEAN,
            "boolean",
            0,
            None,
        ):
            yield f"{REBIRTH} is {metric}"


@clause("payloads-alias-uniqueness", "payloads-alias-birth-requirement")
def _birth_aliases(recording: Recording) -> Iterator[str]:
    for message in recording.messages("NBIRTH"):
        aliases = [metric.alias for metric in message.read.metrics if metric.name != REBIRTH]
        if None in aliases or len(set(aliases)) != len(aliases):
            yield f"aliases {aliases}"


@clause(
    "payloads-propertyset-keys-array-size",
    "payloads-propertyset-values-array-size",
    "payloads-metric-propertyvalue-type-type",
    "payloads-metric-propertyvalue-type-value",
    "payloads-metric-propertyvalue-type-req",
)
def _properties(recording: Recording) -> Iterator[str]:
    for message in recording.messages("NBIRTH"):  # reading has refused keys without values
        for metric in message.read.metrics:
            for key, datatype, value in metric.properties:
                if datatype != STRING or not isinstance(value, bytes):
                    yield f"{metric.name}: property {key} of type {datatype}"


# ---- data


@clause("topics-ndata-mqtt", "payloads-ndata-qos", "payloads-ndata-retain")
def _data_flags(recording: Recording) -> Iterator[str]:
    yield from wrong_flags(recording.messages("NDATA"), 0)


@clause("topics-ndata-timestamp", "payloads-ndata-timestamp")
def _data_time(recording: Recording) -> Iterator[str]:
    yield from _sent_now(recording.messages("NDATA"))


@clause(
    "topics-ndata-seq-num",
    "payloads-ndata-seq",
    "payloads-ndata-seq-inc",
    "payloads-sequence-num-always-included",
    "payloads-sequence-num-incrementing",
)
def _data_seq(recording: Recording) -> Iterator[str]:
    for connection in recording.connections:
        last: int | None = None
        for message in connection.of("NBIRTH", "NDATA"):
            seq = message.read.seq
            if message.type == "NDATA" and (last is None or seq != (last + 1) % 256):
                yield f"NDATA with seq {seq} after {last}"
            last = seq


@clause("payloads-ndata-order")
def _data_after_birth(recording: Recording) -> Iterator[str]:
    for connection in recording.connections:
        types = [message.type for message in connection.of("NBIRTH", "NDATA", "NDEATH")]
        dead = [place for place, message_type in enumerate(types) if message_type == "NDEATH"]
        if types[:1] == ["NDATA"] or any("NDATA" in types[place:] for place in dead):
            yield f"NDATA before a birth or after a death: {types}"


@clause("payloads-alias-data-cmd-requirement", "payloads-metric-datatype-not-req")
def _data_aliases(recording: Recording) -> Iterator[str]:
    for message in recording.messages("NDATA"):
        for metric in message.read.metrics:
            if metric.alias is None or metric.name is not None or metric.datatype is not None:
                yield f"alias {metric.alias}, name {metric.name}, datatype {metric.datatype}"


@clause(
    "topics-nbirth-metric-reqs",
    "operational-behavior-data-publish-nbirth",
    "topics-ndata-payload",
)
def _data_was_born(recording: Recording) -> Iterator[str]:
    for connection in recording.connections:
        known: dict[int | None, int | None] = {}
        for message in connection.of("NBIRTH", "NDATA"):
            if message.type == "NBIRTH":
                known = {metric.alias: metric.datatype for metric in message.read.metrics}
                continue
            if not message.read.metrics:
                yield "NDATA without a metric"
            for metric in message.read.metrics:
                wanted = KIND_OF.get(known.get(metric.alias) or 0)
                if metric.null is not (metric.kind is None) or (not metric.null and metric.kind != wanted):
                    yield f"alias {metric.alias}: a value of kind {metric.kind}, born as {wanted}"


@clause("payloads-name-birth-data-requirement", "payloads-metric-timestamp-in-UTC")
def _metric_times(recording: Recording) -> Iterator[str]:
    for message in recording.messages("NBIRTH", "NDATA"):
        for metric in message.read.metrics:
            if metric.timestamp is None or metric.timestamp > message.at_ms + CLOCK_MS:
                yield f"{message.type}: alias {metric.alias} with timestamp {metric.timestamp}"


@clause("operational-behavior-data-publish-nbirth-order")
def _chronological(recording: Recording) -> Iterator[str]:
    for message in recording.messages("NBIRTH", "NDATA"):
        times = [metric.timestamp or 0 for metric in message.read.metrics if not metric.historical]
        if times != sorted(times):
            yield f"{message.type}: metrics of {times}"
