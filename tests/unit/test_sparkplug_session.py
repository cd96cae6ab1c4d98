"""Sparkplug B: births and deaths, the primary host, commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.core.canonical import canonical_json
from appliance.core.errors import DecodeError
from appliance.formats.sparkplug import REBIRTH, DataType, Metric, Payload, decode_host_state, state_topic
from appliance.formats.sparkplug_metrics import BDSEQ_METRIC, METRICS
from appliance.uplink.dialect import HangUp, Receipt, Renewed, Say
from appliance.uplink.sparkplug import REBIRTH_BURST
from appliance.uplink.sparkplug_births import BirthCounter
from appliance.uplink.sparkplug_payload import decode_payload, encode_payload
from tests.support.sparkplug_driver import BODIES, EPOCH, GROUP, HOST, NAMESPACE, NODE, Driver
from tests.support.sparkplug_recording import bdseq_of
from tests.support.sparkplug_wire import read_payload

REBIRTH_COMMAND = encode_payload(Payload(1, None, (Metric(REBIRTH, datatype=DataType.BOOLEAN, value=True),)))


@pytest.fixture
def node(tmp_path: Path) -> Driver:
    """Born, its primary host online."""
    driver = Driver(tmp_path)
    driver.connect()
    driver.host_says(True)
    return driver


def types(driver: Driver) -> list[str]:
    return [publish.topic.split("/")[2] for publish in driver.published if publish.topic.startswith("spBv1.0")]


# ---- births and deaths


def test_the_birth_says_all_that_there_is(node: Driver) -> None:
    birth = read_payload(node.published[0].payload)
    assert {metric.name for metric in birth.metrics} == {metric.name for metric in (BDSEQ_METRIC, *METRICS)} | {REBIRTH}
    assert (node.published[0].topic, birth.seq) == (f"spBv1.0/{GROUP}/NBIRTH/{NODE}", 0)
    units = {metric.name: metric.properties for metric in birth.metrics if metric.properties}
    assert units["Verdict/Latency"] == (("engUnit", DataType.STRING, b"us"),)


def test_the_birth_says_the_last_live_values_again_but_no_historical_ones(node: Driver) -> None:
    node.send(node.spooled("data", "verdict", BODIES["verdict"][1]))
    node.send(node.spooled(*("alarm", "alarm"), BODIES["alarm"][1]), "backlog")
    node.command(REBIRTH_COMMAND)
    values = {metric.name: metric.value for metric in read_payload(node.published[-1].payload).metrics}
    assert (values["Verdict/Label"], values["Alarm/Name"], values["Message/Sequence"]) == ("90", None, None)


def test_will_and_birth_have_the_same_number_and_each_connection_the_next(node: Driver) -> None:
    for expected in range(1, 258):
        node.connect()
        node.host_says(True)
        will = node.dialect.will()
        assert bdseq_of(read_payload(will.payload)) == (expected + 1) % 256
        node.dialect.unsent()
        assert bdseq_of(read_payload(node.published[-1].payload)) == expected % 256


def test_a_connection_that_was_never_made_takes_no_number(node: Driver) -> None:
    node.fail_to_connect()
    node.fail_to_connect()
    node.connect()
    node.host_says(True)
    assert bdseq_of(read_payload(node.published[-1].payload)) == 1


def test_a_number_that_could_not_be_kept_is_not_taken_and_the_one_before_is_not_given_back(tmp_path: Path) -> None:
    counter = BirthCounter(tmp_path / "there" / "bdseq")
    with pytest.raises(FileNotFoundError):
        counter.take()
    counter.unused()
    (tmp_path / "there").mkdir()
    assert counter.take() == 0
    (tmp_path / "there").rename(tmp_path / "gone")
    with pytest.raises(FileNotFoundError):
        counter.take()
    counter.unused()
    (tmp_path / "gone").rename(tmp_path / "there")
    assert counter.take() == 1
    counter.unused()
    counter.unused()
    assert [counter.take(), counter.take()] == [1, 2]


@pytest.mark.parametrize(
    ("content", "following"),
    [(b"7\n", 8), (b"255\n", 0), (b"256\n", 0), (b"", 0), (b"seven\n", 0), (b"-1\n", 0), (b"\xff" * 100, 0)],
)
def test_the_number_rises_across_restarts(tmp_path: Path, content: bytes, following: int) -> None:
    path = tmp_path / "bdseq"
    path.write_bytes(content)
    assert BirthCounter(path).take() == following
    assert path.read_bytes() == b"%d\n" % following
    assert BirthCounter(path).take() == following + 1


def test_the_will_is_a_death_with_qos_1(node: Driver) -> None:
    will = node.dialect.will()
    assert (will.topic, will.qos, will.retain) == (f"spBv1.0/{GROUP}/NDEATH/{NODE}", 1, False)
    assert (will.content_type, will.properties) == ("", ())


def test_leaving_says_a_death_once(node: Driver) -> None:
    assert [publish.topic for publish in node.dialect.closing()] == [f"spBv1.0/{GROUP}/NDEATH/{NODE}"]
    assert node.dialect.closing() == ()
    assert node.dialect.holds


def test_before_a_birth_there_is_no_death(tmp_path: Path) -> None:
    assert Driver(tmp_path).dialect.closing() == ()


# ---- the primary host


def test_without_a_primary_host_the_birth_comes_at_once(tmp_path: Path) -> None:
    node = Driver(tmp_path, host="")
    node.connect()
    assert (types(node), node.dialect.holds) == (["NBIRTH"], False)
    assert node.dialect.subscriptions()[0] == f"spBv1.0/{GROUP}/NCMD/{NODE}"
    assert not any("STATE" in topic for topic in node.dialect.subscriptions())


def test_nothing_is_said_before_the_primary_host_is_online(tmp_path: Path) -> None:
    node = Driver(tmp_path)
    node.connect()
    assert (types(node), node.dialect.holds) == ([], True)
    node.host_says(False)
    node.host_says(True, host="another")
    node.command(REBIRTH_COMMAND)
    assert (types(node), node.dialect.holds) == ([], True)
    node.host_says(True)
    assert (types(node), node.dialect.holds) == (["NBIRTH"], False)
    node.host_says(True)
    assert types(node) == ["NBIRTH"]


def test_when_the_host_goes_offline_the_session_ends_with_a_death(node: Driver) -> None:
    assert node.host_says(False) == (HangUp(f"the primary host {HOST} is offline"),)
    assert (types(node), node.dialect.holds, node.connected) == (["NBIRTH", "NDEATH"], True, False)
    node.connect()
    node.host_says(False)
    assert (node.connected, node.dialect.holds) == (True, True)
    node.host_says(True)
    assert types(node) == ["NBIRTH", "NDEATH", "NBIRTH"]


def test_with_several_brokers_an_offline_host_sends_us_on(tmp_path: Path) -> None:
    node = Driver(tmp_path, walks=True)
    node.connect()
    node.host_says(False)
    assert (types(node), node.connected) == ([], False)


def test_a_state_older_than_the_last_one_counts_for_nothing(node: Driver) -> None:
    earlier = node.clock.ms - 1
    assert node.host_says(False, at_ms=earlier) == ()
    assert (types(node), node.dialect.holds) == (["NBIRTH"], False)
    node.connect()
    assert node.host_says(True, at_ms=earlier) == ()
    assert node.dialect.holds
    node.host_says(True, at_ms=earlier + 1)
    assert types(node) == ["NBIRTH", "NBIRTH"]


def test_each_broker_has_its_own_states(tmp_path: Path) -> None:
    """The host connected to the second broker before it went offline at the first."""
    node = Driver(tmp_path, walks=True)
    node.connect("first")
    online = node.clock.ms
    node.host_says(True)
    node.clock.forward(60)
    node.host_says(False)
    node.connect("second")
    node.host_says(True, at_ms=online)
    assert types(node) == ["NBIRTH", "NDEATH", "NBIRTH"]
    assert not node.dialect.holds


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"", "STATE: Input data was truncated"),
        (b"ONLINE", "STATE: JSON is malformed: invalid character (byte 0)"),
        (b"\xff", "STATE: JSON is malformed: invalid character (byte 0)"),
        (b"[]", "STATE: Expected `object`, got `array`"),
        (b'{"timestamp":1}', "STATE: Object missing required field `online`"),
        (b'{"online":true}', "STATE: Object missing required field `timestamp`"),
        (b'{"online":1,"timestamp":1}', "STATE: Expected `bool`, got `int` - at `$.online`"),
        (b'{"online":true,"timestamp":-1}', "STATE: Expected `int` >= 0 - at `$.timestamp`"),
        (b'{"online":true,"timestamp":1.5}', "STATE: Expected `int`, got `float` - at `$.timestamp`"),
        (b" " * 1025, "STATE: 1025 bytes, at most 1024 are allowed"),
    ],
)
def test_a_bad_state_is_refused(tmp_path: Path, payload: bytes, message: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_host_state(payload)
    assert caught.value.message == message
    node = Driver(tmp_path)
    node.connect()
    assert node.hear(state_topic(HOST), payload) == ()
    assert node.dialect.holds


def test_a_state_may_say_more(tmp_path: Path) -> None:
    assert decode_host_state(b'{"online":true,"timestamp":5,"bdSeq":3}').timestamp == 5


# ---- commands


def test_a_rebirth_is_said_at_once_with_the_same_number(node: Driver) -> None:
    node.send(node.verdict())
    [reaction] = node.command(REBIRTH_COMMAND)
    assert isinstance(reaction, Say)
    birth = read_payload(node.published[-1].payload)
    assert (birth.seq, bdseq_of(birth)) == (0, 0)
    assert read_payload(node.send(node.verdict()).payload).seq == 1  # type: ignore[union-attr]


def test_rebirths_are_limited(node: Driver) -> None:
    answers = [len(node.command(REBIRTH_COMMAND)) for _ in range(REBIRTH_BURST + 3)]
    assert answers == [1] * REBIRTH_BURST + [0] * 3
    node.clock.forward(1)
    assert [len(node.command(REBIRTH_COMMAND)) for _ in range(2)] == [1, 0]


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (encode_payload(Payload(1, None, (Metric(REBIRTH, value=False),))), "not asked for"),
        (encode_payload(Payload(1, None, (Metric(REBIRTH, value="true"),))), "no boolean"),
        (encode_payload(Payload(1, None, (Metric("Node Control/Reboot", value=True),))), "not ours"),
        (encode_payload(Payload(1, None, (Metric(alias=0, value=True),))), "no name"),
        (b"", "empty"),
        (b"\x12\x05\x0a\xff\xff\xff\xff", "cut off"),
        (b"\x12\x02\x0a\xff", "no UTF-8"),
        (b"\x12\x00" * 257, "257 metrics"),
        (b"\x0b" * 16_000, "nested groups"),
        (REBIRTH_COMMAND + b"\x2a\x81\x80\x01" + bytes(16_385), "too large"),
    ],
)
def test_a_command_that_is_none_does_nothing(node: Driver, command: bytes, why: str) -> None:
    assert node.command(command) == (), why
    assert types(node) == ["NBIRTH"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (bytes(16_385), "Sparkplug payload: 16385 bytes, at most 16384 are allowed"),
        (b"\x12\x00" * 257, "Sparkplug payload: 257 metrics, at most 256 are allowed"),
        (b"\x12\x05", "Sparkplug payload: not protobuf of the specification's types"),
    ],
)
def test_a_bad_payload_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_payload(data)
    assert caught.value.message == message


def test_what_the_site_answers_by_json_still_comes(node: Driver) -> None:
    receipt = canonical_json({"schema": 1, "device": NODE, "epoch": EPOCH, "stream": "data", "ranges": [[1, 3]]})
    assert node.hear(f"{NAMESPACE}/{NODE}/receipt", receipt) == (Receipt(EPOCH, "data", 1, 3),)
    assert node.hear(f"{NAMESPACE}/{NODE}/certificate", b"x") == (Renewed(b"x"),)
    assert node.hear("spBv1.0/plant-4/NCMD/line-4", REBIRTH_COMMAND) == ()
