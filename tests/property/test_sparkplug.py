"""Sparkplug B: any order of events keeps every assertion; any bytes from the broker are survived."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from appliance.core.errors import DecodeError
from appliance.formats.sparkplug import REBIRTH, DataType, Metric, Payload, decode_host_state, node_topic, state_topic
from appliance.uplink.sparkplug_payload import decode_payload, encode_payload
from tests.support.sparkplug_clauses import faults
from tests.support.sparkplug_driver import BODIES, GROUP, HOST, NODE, Driver

REBIRTH_COMMAND = encode_payload(Payload(1, None, (Metric(REBIRTH, datatype=DataType.BOOLEAN, value=True),)))

EVENTS: dict[str, Callable[[Driver], object]] = {
    "connect": Driver.connect,
    "connect elsewhere": lambda node: node.connect("another"),
    "fail to connect": Driver.fail_to_connect,
    "lose": Driver.lose,
    "leave": Driver.leave,
    "online": lambda node: node.host_says(True),
    "online again": lambda node: node.host_says(True, at_ms=node.clock.ms - 3000),
    "offline": lambda node: node.host_says(False),
    "late offline": lambda node: node.host_says(False, at_ms=node.clock.ms - 3000),
    "another host": lambda node: node.host_says(True, host="another"),
    "rebirth": lambda node: node.command(REBIRTH_COMMAND),
    "nonsense": lambda node: node.command(b"\x12\x05"),
    "restart": Driver.restart,
    "live": lambda node: node.send(node.verdict(), "live"),
    "backlog": lambda node: node.send(node.verdict(), "backlog", age_ms=None),
    "alarm": lambda node: node.send(node.spooled("alarm", "alarm", BODIES["alarm"][1]), "alarm"),
    "gap": lambda node: node.send(node.spooled("alarm", "gap", BODIES["gap"][1]), "alarm"),
    "audit": lambda node: node.send(node.spooled("audit", "audit", b"{}\n"), "audit"),
    "many": lambda node: [node.send(node.verdict()) for _ in range(300)],
}

METRICS = st.builds(
    Metric,
    name=st.none() | st.text(max_size=20),
    alias=st.none() | st.integers(0, 2**64 - 1),
    timestamp=st.none() | st.integers(0, 2**64 - 1),
    datatype=st.none() | st.integers(0, 2**32 - 1),
    value=st.none() | st.booleans() | st.text(max_size=20) | st.integers(0, 2**64 - 1),
    historical=st.booleans(),
    unit=st.none() | st.text(max_size=5),
)
PAYLOADS = st.builds(
    Payload,
    timestamp=st.none() | st.integers(0, 2**64 - 1),
    seq=st.none() | st.integers(0, 2**64 - 1),
    metrics=st.lists(METRICS, max_size=8).map(tuple),
)


@given(st.lists(st.sampled_from(sorted(EVENTS)), max_size=40), st.sampled_from([HOST, ""]), st.booleans())
@example(
    ["connect", "online", "live", "rebirth", "many", "offline", "connect", "online", "backlog", "leave"], HOST, False
)
def test_any_session_keeps_every_assertion(names: list[str], host: str, walks: bool) -> None:
    with tempfile.TemporaryDirectory() as directory:
        node = Driver(Path(directory), host=host, walks=walks)
        for name in names:
            EVENTS[name](node)
            node.clock.forward(1)
        assert faults(node.recording) == []


@given(PAYLOADS)
def test_a_payload_survives(payload: Payload) -> None:
    assert decode_payload(encode_payload(payload)) == payload


@given(st.binary(max_size=200))
@example(b"\x12\x02\x0a\xff")
@example(b"\x0b" * 200)
@example(b"\x12\x04\x4a\x02\x0a\x00")
@example(b"\x12\x05\x4a\x03\x12\x01\xff")
def test_any_bytes_are_a_payload_or_refused(data: bytes) -> None:
    try:
        decode_payload(data)
    except DecodeError:
        return


@given(PAYLOADS, st.data())
def test_a_damaged_payload_is_a_payload_or_refused(payload: Payload, data: st.DataObject) -> None:
    good = bytearray(encode_payload(payload))
    for place in data.draw(st.lists(st.integers(0, max(0, len(good) - 1)), max_size=4)):
        if good:
            good[place] = data.draw(st.integers(0, 255))
    try:
        decode_payload(bytes(good[: data.draw(st.integers(0, len(good)))]))
    except DecodeError:
        return


@given(
    st.binary(max_size=200) | st.sampled_from([b"[" * 1000, b'{"online":' * 90, b'{"online":true,"timestamp":1e400}'])
)
def test_any_bytes_are_a_state_or_refused(data: bytes) -> None:
    try:
        decode_host_state(data)
    except DecodeError:
        return


@given(
    st.sampled_from([node_topic(GROUP, "NCMD", NODE), state_topic(HOST), "acme/plant-4/line-3/receipt", "spBv1.0"]),
    st.binary(max_size=100),
)
def test_whatever_the_broker_says_nothing_is_raised(topic: str, payload: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        node = Driver(Path(directory))
        node.connect()
        node.host_says(True)
        node.hear(topic, payload)
