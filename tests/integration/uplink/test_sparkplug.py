"""Sparkplug B end to end: the real uplink, a real broker, a primary host; every packet recorded and checked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.formats.alarm import Alarm
from appliance.formats.uplink_message import Accepted
from appliance.machine.uplink_client import UplinkClient
from tests.integration.services_harness import wait_until
from tests.integration.uplink.sparkplug_harness import NODE, Station
from tests.integration.uplink_harness import make_verdict
from tests.support import sparkplug_judge
from tests.support.sparkplug_clauses import faults
from tests.support.sparkplug_recording import Connect, Ended, Message, Said, bdseq_of

SEQUENCE, LANE, EPOCH = 12, 14, 10  # aliases of the identity


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    made = Station(tmp_path)
    yield made
    made.close()


def hand_in(client: UplinkClient, first: int, count: int) -> list[int]:
    """Sequence numbers that the uplink promised."""
    answers = [client.publish(make_verdict(number, NODE)) for number in range(first, first + count)]
    assert all(isinstance(answer, Accepted) for answer in answers), answers
    return [answer.sequence for answer in answers if isinstance(answer, Accepted)]


def sequences(messages: list[Message]) -> list[int]:
    """Of the messages in NDATA."""
    return [metric.value for message in messages for metric in message.read.metrics if metric.alias == SEQUENCE]  # type: ignore[misc]


def historical(messages: list[Message]) -> list[bool]:
    return [message.read.metrics[0].historical for message in messages]


def test_birth_data_and_death_keep_every_assertion(station: Station) -> None:
    station.broker.start()
    station.host.go_online()
    with station.uplink() as (service, client):
        station.wait_for(1, "NBIRTH")
        promised = hand_in(client, 1, 300)
        data = station.wait_for(300, "NDATA")
        wait_until(lambda: client.status().spooled == 0, "an empty spool")
        assert service.stop() == 0
    station.wait_for(1, "NDEATH")
    assert sequences(data) == promised == list(range(1, 301))
    assert historical(data) == [False] * 300
    assert [message.read.seq for message in data] == [number % 256 for number in range(1, 301)]
    assert faults(station.recording) == []
    assert Ended(4) in station.tap.records
    told = sparkplug_judge.decode(
        [(message.topic, message.payload) for message in station.host.of("NBIRTH", "NDATA", "NDEATH")]
    )
    assert [one["metrics"]["Verdict/Sequence"]["value"] for one in told if one["type"] == "NDATA"] == promised
    assert {one["metrics"]["bdSeq"]["value"] for one in told if one["type"] in ("NBIRTH", "NDEATH")} == {0}


def test_without_the_primary_host_nothing_leaves_and_later_everything_comes_as_historical(station: Station) -> None:
    station.broker.start()
    with station.uplink() as (service, client):
        wait_until(lambda: client.status().connected, "a connection")
        hand_in(client, 1, 50)
        assert not [record for record in station.tap.records if isinstance(record, Said)]
        assert client.status().spooled == 50
        station.host.go_online()
        assert historical(station.wait_for(50, "NDATA")) == [True] * 50
        hand_in(client, 51, 1)
        assert historical(station.wait_for(51, "NDATA"))[50:] == [False]
        station.host.go_offline()
        wait_until(lambda: station.recording.messages("NDEATH"), "a death certificate")
        hand_in(client, 52, 20)
        assert client.status().spooled == 20
        station.host.go_online()
        data = station.wait_for(71, "NDATA")
        assert historical(data)[51:] == [True] * 20
        assert service.stop() == 0
    assert sequences(data) == list(range(1, 72))
    assert faults(station.recording) == []
    births = [bdseq_of(message.read) for message in station.recording.messages("NBIRTH")]
    assert births == [0, 1]


def test_kill_9_brings_the_death_of_the_birth_before_and_loses_nothing_that_was_held(station: Station) -> None:
    station.broker.start()
    station.host.go_online()
    with station.uplink() as (service, client):
        station.wait_for(1, "NBIRTH")
        hand_in(client, 1, 5)
        station.wait_for(5, "NDATA")
        wait_until(lambda: client.status().spooled == 0, "an empty spool")
        station.host.go_offline()
        wait_until(lambda: station.recording.messages("NDEATH"), "a death certificate")
        wait_until(lambda: len(station.recording.connections) == 2, "the next connection")
        hand_in(client, 6, 30)
        service.kill()
    with station.uplink() as (service, client):
        assert client.status().spooled == 30
        station.host.go_online()
        data = station.wait_for(35, "NDATA")
        station.wait_for(1, "NBIRTH")
        births = len(station.host.of("NBIRTH"))
        deaths = len(station.host.of("NDEATH"))
        service.kill()
        station.wait_for(deaths + 1, "NDEATH")
    last_birth = station.host.of("NBIRTH")[births - 1]
    death = station.host.of("NDEATH")[-1]
    assert bdseq_of(death.read) == bdseq_of(last_birth.read)
    assert (death.qos, death.retain) == (1, False)
    assert sequences(data) == list(range(1, 36))
    assert historical(data)[5:] == [True] * 30
    assert faults(station.recording) == []


def test_killed_again_and_again_while_the_host_is_away_nothing_is_lost_or_doubled(station: Station) -> None:
    station.broker.start()
    promised: list[int] = []
    for _ in range(6):
        with station.uplink() as (service, client):
            promised += hand_in(client, len(promised) + 1, 50)
            service.kill()
    with station.uplink() as (service, client):
        station.host.go_online()
        data = station.wait_for(300, "NDATA")
        assert service.stop() == 0
    assert sequences(data) == promised == list(range(1, 301))
    assert historical(data) == [True] * 300
    # Killed after a number was kept and before CONNECT: it is left out, as nobody can know that it was not used.
    assert [fault for fault in faults(station.recording) if ": bdSeq [" not in fault] == []
    made = [record.will for record in station.tap.records if isinstance(record, Connect)]
    numbers = [bdseq_of(will.read) or 0 for will in made if will is not None]
    assert numbers == sorted(set(numbers))


def test_a_host_that_vanishes_is_offline_by_its_will(station: Station) -> None:
    station.broker.start()
    station.host.go_online()
    with station.uplink() as (service, client):
        station.wait_for(1, "NBIRTH")
        station.host.crash()
        wait_until(lambda: station.recording.messages("NDEATH"), "a death certificate")
        hand_in(client, 1, 3)
        assert client.status().spooled == 3
        station.host.go_online()
        assert historical(station.wait_for(3, "NDATA")) == [True] * 3
        assert service.stop() == 0
    assert faults(station.recording) == []


def test_a_rebirth_that_the_host_asks_for(station: Station) -> None:
    station.broker.start()
    station.host.go_online()
    with station.uplink() as (service, client):
        station.wait_for(1, "NBIRTH")
        hand_in(client, 1, 3)
        station.wait_for(3, "NDATA")
        station.host.command(sparkplug_judge.command("Node Control/Rebirth", True, 1))
        births = station.wait_for(2, "NBIRTH")
        hand_in(client, 4, 1)
        data = station.wait_for(4, "NDATA")
        assert service.stop() == 0
    assert [bdseq_of(message.read) for message in births] == [0, 0]
    labels = [metric.value for message in births for metric in message.read.metrics if metric.name == "Verdict/Label"]
    assert labels == [None, "90"]
    assert [message.read.seq for message in data] == [1, 2, 3, 1]
    assert faults(station.recording) == []


def test_a_broker_that_restarts_gets_a_new_birth_with_the_next_number(station: Station) -> None:
    station.broker.start()
    station.host.go_online()
    with station.uplink() as (service, client):
        station.wait_for(1, "NBIRTH")
        hand_in(client, 1, 5)
        station.wait_for(5, "NDATA")
        wait_until(lambda: client.status().spooled == 0, "an empty spool")
        station.broker.stop()
        wait_until(lambda: not client.status().connected, "the loss")
        hand_in(client, 6, 40)
        station.broker.start()
        data = station.wait_for(45, "NDATA")
        assert service.stop() == 0
    assert sequences(data) == list(range(1, 46))
    assert historical(data) == [False] * 5 + [True] * 40
    assert [record for record in station.tap.records if isinstance(record, Connect)][1:] != []
    assert faults(station.recording) == []


def test_alarms_are_metrics_at_once_and_never_historical(station: Station) -> None:
    station.broker.start()
    with station.uplink() as (service, client):
        hand_in(client, 1, 20)
        alarm = Alarm(
            device=NODE, boot_id="0" * 32, name="frame-source-lost", active=True, text="/dev/video0", monotonic_us=1
        )
        assert isinstance(client.alarm(alarm), Accepted)
        station.host.go_online()
        first = station.wait_for(21, "NDATA")[0]
        assert service.stop() == 0
    told = {metric.alias: metric.value for metric in first.read.metrics}
    assert (told[LANE], told[300], historical([first])) == ("alarm", "frame-source-lost", [False])
    assert faults(station.recording) == []


def test_with_receipts_a_message_stays_until_the_historian_has_it(tmp_path: Path) -> None:
    """QoS 0 promises nothing; `delivery: historian` does."""
    station = Station(tmp_path, delivery="historian", receipt_s=5)
    try:
        station.broker.start()
        station.host.go_online()
        with station.uplink() as (service, client):
            station.wait_for(1, "NBIRTH")
            promised = hand_in(client, 1, 3)
            first = station.wait_for(3, "NDATA")
            assert client.status().spooled == 3
            epoch = next(metric.value for metric in first[0].read.metrics if metric.alias == EPOCH)
            station.host.receipt(str(epoch), [[1, 2]])
            wait_until(lambda: client.status().spooled == 1, "two receipts")
            again = station.wait_for(4, "NDATA")[3:]
            station.host.receipt(str(epoch), [[3, 3]])
            wait_until(lambda: client.status().spooled == 0, "the last receipt")
            assert service.stop() == 0
        assert (promised, sequences(again)) == ([1, 2, 3], [3])
        assert faults(station.recording) == []
    finally:
        station.close()


def test_with_two_brokers_the_node_follows_its_primary_host(tmp_path: Path) -> None:
    station = Station(tmp_path, brokers=2)
    first, second = station.brokers
    try:
        first.start()
        station.host.go_online()
        with station.uplink() as (service, client):
            station.wait_for(1, "NBIRTH")
            hand_in(client, 1, 5)
            station.wait_for(5, "NDATA")
            second.start()
            station.other_host.go_online()
            station.host.go_offline()
            wait_until(lambda: station.other_host.of("NBIRTH"), "a birth at the second broker")
            hand_in(client, 6, 5)
            wait_until(lambda: len(station.other_host.of("NDATA")) == 5, "data at the second broker")
            assert service.stop() == 0
        assert sequences(station.host.of("NDATA") + station.other_host.of("NDATA")) == list(range(1, 11))
        assert [bdseq_of(birth.read) for birth in station.other_host.of("NBIRTH")] == [1]
        records = [type(record) for record in station.tap.records]
        ends = [place for place, kind in enumerate(records) if kind is Ended]
        begins = [place for place, kind in enumerate(records) if kind is Connect]
        assert sorted(begins + ends) == [place for pair in zip(begins, ends, strict=True) for place in pair]
        assert faults(station.recording) == []
    finally:
        station.close()
