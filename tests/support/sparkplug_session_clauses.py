"""Assertions about sessions, topics and wills. Written from the specification."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from tests.support.sparkplug_clause import INT64, clause, wrong_flags
from tests.support.sparkplug_recording import (
    Ended,
    Message,
    Recording,
    Said,
    Subscribe,
    bdseq_of,
    metric_of,
)

# ---- names and topics


@clause(
    "topic-structure",
    "topic-structure-namespace-a",
    "topic-structure-namespace-device-id-non-associated-message-types",
    "topics-nbirth-topic",
    "topics-ndata-topic",
    "topics-ndeath-topic",
    "message-flow-edge-node-birth-publish-nbirth-topic",
)
def _topics(recording: Recording) -> Iterator[str]:
    allowed = {recording.topic(message_type) for message_type in ("NBIRTH", "NDATA", "NDEATH")}
    for connection in recording.connections:
        for message in connection.said:
            if message.topic.startswith("spB") and message.topic not in allowed:
                yield f"topic {message.topic}"


@clause(
    "topic-structure-namespace-valid-group-id",
    "topic-structure-namespace-valid-edge-node-id",
    "intro-group-id-string",
    "intro-group-id-chars",
    "intro-edge-node-id-string",
    "intro-edge-node-id-chars",
)
def _levels(recording: Recording) -> Iterator[str]:
    for level in (recording.group, recording.node):
        if not level or set(level) & set("+/#\0"):
            yield f"level {level!r}"


@clause("case-sensitivity-metric-names")
def _names_differ(recording: Recording) -> Iterator[str]:
    for message in recording.messages("NBIRTH"):
        names = [metric.name.lower() for metric in message.read.metrics if metric.name is not None]
        if len(set(names)) != len(names):
            yield "two names that differ in case only"


# ---- the session


@clause("principles-persistence-clean-session-50")
def _clean(recording: Recording) -> Iterator[str]:
    for connection in recording.connections:
        made = connection.connect
        if (made.version, made.clean_start, made.expiry) != (5, True, 0):
            yield f"version {made.version}, clean start {made.clean_start}, expiry {made.expiry}"


@clause("principles-birth-certificates-order", "message-flow-edge-node-birth-publish-connect")
def _birth_first(recording: Recording) -> Iterator[str]:
    for connection in recording.connections:
        if connection.said and connection.said[0].type != "NBIRTH":
            yield f"{connection.said[0].topic} before the birth"


@clause("message-flow-edge-node-ncmd-subscribe")
def _commands_subscribed(recording: Recording) -> Iterator[str]:
    yield from _subscribed(recording, recording.topic("NCMD"))


@clause("operational-behavior-primary-application-state-with-multiple-servers-state-subs")
def _state_subscribed(recording: Recording) -> Iterator[str]:
    if recording.host:
        yield from _subscribed(recording, recording.state_topic)


def _subscribed(recording: Recording, topic: str) -> Iterator[str]:
    for connection in recording.connections:
        before = itertools.takewhile(lambda record: not isinstance(record, Said), connection.records)
        if connection.said and Subscribe(topic, 1) not in list(before):
            yield f"no subscription of {topic} with QoS 1 before the first message"


# ---- will and death


@clause("message-flow-edge-node-birth-publish-will-message", "payloads-ndeath-will-message")
def _has_will(recording: Recording) -> Iterator[str]:
    for connection in recording.connections:
        if connection.connect.will is None:
            yield "CONNECT without a will"


def _wills(recording: Recording) -> list[Message]:
    return [connection.connect.will for connection in recording.connections if connection.connect.will is not None]


@clause("message-flow-edge-node-birth-publish-will-message-topic")
def _will_topic(recording: Recording) -> Iterator[str]:
    for will in _wills(recording):
        if will.topic != recording.topic("NDEATH"):
            yield f"will on {will.topic}"


@clause(
    "message-flow-edge-node-birth-publish-will-message-qos",
    "message-flow-edge-node-birth-publish-will-message-will-retained",
    "payloads-ndeath-will-message-qos",
    "payloads-ndeath-will-message-retain",
)
def _will_flags(recording: Recording) -> Iterator[str]:
    yield from wrong_flags(_wills(recording), 1)


@clause(
    "message-flow-edge-node-birth-publish-will-message-payload",
    "topics-ndeath-payload",
    "topics-ndeath-seq",
    "payloads-ndeath-seq",
)
def _death_payload(recording: Recording) -> Iterator[str]:
    for message in (*_wills(recording), *recording.messages("NDEATH")):
        shape = [(metric.name, metric.datatype, metric.kind) for metric in message.read.metrics]
        if shape != [("bdSeq", INT64, "long")] or message.read.seq is not None:
            yield f"NDEATH with seq {message.read.seq} and {shape}"


@clause(
    "message-flow-edge-node-birth-publish-will-message-payload-bdSeq",
    "topics-nbirth-bdseq-increment",
)
def _bdseq_rises(recording: Recording) -> Iterator[str]:
    numbers = [bdseq_of(will.read) for will in _wills(recording)]
    if numbers != [number % 256 for number in range(len(numbers))]:
        yield f"bdSeq {numbers}"


@clause(
    "topics-nbirth-bdseq-included",
    "topics-nbirth-bdseq-matching",
    "message-flow-edge-node-birth-publish-nbirth-payload-bdSeq",
    "payloads-nbirth-bdseq",
    "payloads-nbirth-bdseq-repeat",
    "payloads-ndeath-bdseq",
    "operational-behavior-data-commands-rebirth-action-3",
)
def _bdseq_matches(recording: Recording) -> Iterator[str]:
    for connection in recording.connections:
        will = connection.connect.will
        wanted = None if will is None else bdseq_of(will.read)
        for message in connection.of("NBIRTH", "NDEATH"):
            metric = metric_of(message.read, "bdSeq")
            if metric is None or (metric.datatype, metric.kind, metric.value) != (INT64, "long", wanted):
                yield f"{message.type} with bdSeq {metric}, the will has {wanted}"


@clause("operational-behavior-edge-node-intentional-disconnect-ndeath", "payloads-ndeath-will-message-publisher")
def _dies_before_it_leaves(recording: Recording) -> Iterator[str]:
    for connection in recording.connections:
        left = any(isinstance(record, Ended) and record.reason is not None for record in connection.records)
        own = connection.of("NBIRTH", "NDATA", "NDEATH")
        if left and own and own[-1].type != "NDEATH":
            yield "DISCONNECT without an NDEATH"


@clause(
    "payloads-ndeath-will-message-publisher-disconnect-mqtt50",
    "operational-behavior-edge-node-intentional-disconnect-packet",
)
def _disconnect_reason(recording: Recording) -> Iterator[str]:
    for connection in recording.connections:
        for record in connection.records:
            if isinstance(record, Ended) and record.reason not in (None, 4):
                yield f"DISCONNECT with reason {record.reason}"
