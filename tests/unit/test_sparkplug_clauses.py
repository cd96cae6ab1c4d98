"""The assertions of Sparkplug: a session keeps them, and the checker can fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.formats.sparkplug import REBIRTH, DataType, Metric, Payload
from appliance.uplink.sparkplug_payload import decode_payload, encode_payload
from tests.support.sparkplug_clauses import CHECKS, faults
from tests.support.sparkplug_driver import GROUP, HOST, NODE, Driver
from tests.support.sparkplug_recording import Connect, Ended, Heard, Message, Record, Recording, Said, Subscribe

REBIRTH_COMMAND = encode_payload(Payload(1, None, (Metric(REBIRTH, datatype=DataType.BOOLEAN, value=True),)))

Records = list[Record]
Change = Callable[[Records], Records]


@pytest.fixture
def session(tmp_path: Path) -> Recording:
    """Two connections with births, data in every lane, a rebirth, a host that goes and comes back, and an end."""
    node = Driver(tmp_path)
    node.connect()
    node.host_says(True)
    node.send(node.verdict())
    node.send(node.verdict())
    node.command(REBIRTH_COMMAND)
    node.send(node.verdict())
    node.clock.forward(5)
    node.host_says(False)
    node.connect()
    node.clock.forward(5)
    node.host_says(True)
    node.send(node.verdict(), "backlog", age_ms=None)
    node.leave()
    return node.recording


@pytest.mark.parametrize("clause", sorted(CHECKS))
def test_a_session_keeps_the_assertion(session: Recording, clause: str) -> None:
    assert list(CHECKS[clause](session)) == []


# ---- the checker can fail


def _of(records: Records, kind: str, number: int = 0) -> int:
    """The place of the number-th message that the node said of this type."""
    return [place for place, record in enumerate(records) if isinstance(record, Said) and record.message.type == kind][
        number
    ]


def said(kind: str, change: Callable[[Message], Message], number: int = 0) -> Change:
    def mutate(records: Records) -> Records:
        place = _of(records, kind, number)
        record = records[place]
        assert isinstance(record, Said)
        return [*records[:place], Said(change(record.message)), *records[place + 1 :]]

    return mutate


def payload(kind: str, change: Callable[[Payload], Payload], number: int = 0) -> Change:
    return said(
        kind, lambda message: replace(message, payload=encode_payload(change(decode_payload(message.payload)))), number
    )


def first_metric(kind: str, **changed: object) -> Change:
    def change(read: Payload) -> Payload:
        return replace(read, metrics=(replace(read.metrics[0], **changed), *read.metrics[1:]))  # type: ignore[arg-type]

    return payload(kind, change)


def named_metric(which: str, **changed: object) -> Change:
    def change(read: Payload) -> Payload:
        metrics = [replace(one, **changed) if one.name == which else one for one in read.metrics]  # type: ignore[arg-type]
        return replace(read, metrics=tuple(metrics))

    return payload("NBIRTH", change)


def will(change: Callable[[Message], Message], number: int = 0) -> Change:
    def mutate(records: Records) -> Records:
        places = [place for place, record in enumerate(records) if isinstance(record, Connect)]
        made = records[places[number]]
        assert isinstance(made, Connect)
        assert made.will is not None
        changed = replace(made, will=change(made.will))
        return [*records[: places[number]], changed, *records[places[number] + 1 :]]

    return mutate


def without(unwanted: Callable[[Record], bool]) -> Change:
    return lambda records: [record for record in records if not unwanted(record)]


def _said_kind(record: Record, kind: str) -> bool:
    return isinstance(record, Said) and record.message.type == kind


def _data_after_death(records: Records) -> Records:
    place = _of(records, "NDEATH")
    return [*records[: place + 1], records[_of(records, "NDATA")], *records[place + 1 :]]


def _audit_before_birth(records: Records) -> Records:
    place = _of(records, "NBIRTH")
    return [*records[:place], Said(Message("acme/plant-4/line-3/audit", b"{}", 1, False, 0)), *records[place:]]


def _property_of_another_type(message: Message) -> Message:
    wrong = (
        b"\x12\x1a" + b"\x0a\x01x\x10\x63\x18\x01\x20\x0c\x38\x01" + b"\x4a\x0d\x0a\x04unit\x12\x05\x08\x03\x42\x01s"
    )
    return replace(message, payload=message.payload + wrong)


def _late_state_obeyed(records: Records) -> Records:
    """The offline state is older than the one before, and the node left all the same."""
    return [
        Heard(replace(record.message, payload=b'{"online":false,"timestamp":1}'))
        if isinstance(record, Heard) and b"false" in record.message.payload
        else record
        for record in records
    ]


MUTATIONS: dict[str, tuple[str, Change]] = {
    "a device below the node": (
        "topics-ndata-topic",
        said("NDATA", lambda message: replace(message, topic=f"{message.topic}/camera")),
    ),
    "names that differ in case": ("case-sensitivity-metric-names", named_metric("Verdict/Model", name="verdict/label")),
    "a session that is kept": (
        "principles-persistence-clean-session-50",
        lambda records: [replace(one, expiry=60) if isinstance(one, Connect) else one for one in records],
    ),
    "an audit part before the birth": ("principles-birth-certificates-order", _audit_before_birth),
    "no commands": (
        "message-flow-edge-node-ncmd-subscribe",
        without(lambda one: isinstance(one, Subscribe) and "NCMD" in one.topic),
    ),
    "no state": (
        "operational-behavior-primary-application-state-with-multiple-servers-state-subs",
        without(lambda one: isinstance(one, Subscribe) and "STATE" in one.topic),
    ),
    "no will": (
        "payloads-ndeath-will-message",
        lambda records: [replace(one, will=None) if isinstance(one, Connect) else one for one in records],
    ),
    "a will elsewhere": (
        "message-flow-edge-node-birth-publish-will-message-topic",
        will(lambda message: replace(message, topic="spBv1.0/plant-4/NDEATH/line-4")),
    ),
    "a will with QoS 0": ("payloads-ndeath-will-message-qos", will(lambda message: replace(message, qos=0))),
    "a death with seq": ("payloads-ndeath-seq", payload("NDEATH", lambda read: replace(read, seq=3))),
    "a number left out": (
        "topics-nbirth-bdseq-increment",
        will(lambda message: replace(message, payload=encode_payload(_with_bdseq(message.payload, 2))), 1),
    ),
    "a birth of another will": (
        "payloads-nbirth-bdseq-repeat",
        payload("NBIRTH", lambda read: _with_bdseq(encode_payload(read), 9)),
    ),
    "no death before the end": (
        "operational-behavior-edge-node-intentional-disconnect-ndeath",
        without(lambda one: _said_kind(one, "NDEATH")),
    ),
    "a DISCONNECT that forgets the will": (
        "payloads-ndeath-will-message-publisher-disconnect-mqtt50",
        lambda records: [Ended(0) if isinstance(one, Ended) else one for one in records],
    ),
    "a birth with QoS 1": ("topics-nbirth-mqtt", said("NBIRTH", lambda message: replace(message, qos=1))),
    "a birth with seq 1": ("topics-nbirth-seq-num", payload("NBIRTH", lambda read: replace(read, seq=1))),
    "a birth of no time": ("topics-nbirth-timestamp", payload("NBIRTH", lambda read: replace(read, timestamp=None))),
    "a birth without a datatype": ("payloads-metric-datatype-req", named_metric("Verdict/Label", datatype=None)),
    "a birth with a value of another type": ("topics-nbirth-metrics", named_metric("Verdict/Label", value=3)),
    "a birth that commands": ("payloads-nbirth-rebirth-req", named_metric(REBIRTH, value=True)),
    "a rebirth with an alias": (
        "operational-behavior-data-commands-rebirth-name-aliases",
        named_metric(REBIRTH, alias=7),
    ),
    "an alias twice": ("payloads-alias-uniqueness", named_metric("Verdict/Label", alias=101)),
    "a property of another type": (
        "payloads-metric-propertyvalue-type-value",
        said("NBIRTH", _property_of_another_type),
    ),
    "retained data": ("topics-ndata-mqtt", said("NDATA", lambda message: replace(message, retain=True))),
    "data of another time": ("topics-ndata-timestamp", payload("NDATA", lambda read: replace(read, timestamp=1))),
    "a number of data twice": ("topics-ndata-seq-num", payload("NDATA", lambda read: replace(read, seq=1), 1)),
    "data after the death": ("payloads-ndata-order", _data_after_death),
    "data with names": ("payloads-alias-data-cmd-requirement", first_metric("NDATA", name="Message/Epoch")),
    "data with datatypes": ("payloads-metric-datatype-not-req", first_metric("NDATA", datatype=12)),
    "data that was never born": ("topics-nbirth-metric-reqs", first_metric("NDATA", alias=999)),
    "a metric of no time": ("payloads-name-birth-data-requirement", first_metric("NDATA", timestamp=None)),
    "metrics out of order": ("operational-behavior-data-publish-nbirth-order", first_metric("NDATA", timestamp=2**41)),
    "a birth before the host": (
        "message-flow-edge-node-birth-publish-phid-wait",
        without(lambda one: isinstance(one, Heard) and "STATE" in one.message.topic),
    ),
    "a host that left, and we did not": (
        "operational-behavior-edge-node-termination-host-offline",
        without(lambda one: isinstance(one, Ended) or _said_kind(one, "NDEATH")),
    ),
    "a late state that was obeyed": (
        "operational-behavior-edge-node-termination-host-offline-timestamp",
        _late_state_obeyed,
    ),
    "a rebirth that did not come": (
        "operational-behavior-data-commands-rebirth-action-2",
        lambda records: [one for place, one in enumerate(records) if place != _of(records, "NBIRTH", 1)],
    ),
    "a rebirth that nobody asked for": (
        "operational-behavior-data-commands-rebirth-action-1",
        without(lambda one: isinstance(one, Heard) and "NCMD" in one.message.topic),
    ),
}


def _with_bdseq(data: bytes, number: int) -> Payload:
    read = decode_payload(data)
    metrics = [replace(one, value=number) if one.name == "bdSeq" else one for one in read.metrics]
    return replace(read, metrics=tuple(metrics))


@pytest.mark.parametrize("name", MUTATIONS)
def test_the_checker_can_fail(session: Recording, name: str) -> None:
    clause, mutate = MUTATIONS[name]
    broken = Recording(GROUP, NODE, HOST, tuple(mutate(list(session.records))))
    assert list(CHECKS[f"tck-id-{clause}"](broken)) != []


def test_a_level_with_a_wildcard_is_found(session: Recording) -> None:
    broken = Recording("plant+4", NODE, HOST, session.records)
    assert "tck-id-topic-structure-namespace-valid-group-id: level 'plant+4'" in faults(broken)


def test_every_check_has_a_mutation() -> None:
    proven = {CHECKS[f"tck-id-{clause}"] for clause, _ in MUTATIONS.values()}
    proven.add(CHECKS["tck-id-topic-structure-namespace-valid-group-id"])
    assert {check.__name__ for check in CHECKS.values() if check not in proven} == set()
