"""The uplink as a real process: in at its socket, out at a real broker."""

from __future__ import annotations

import contextlib
import resource
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from appliance.core.clock import Moment
from appliance.formats.device import DataLaneConfig
from appliance.formats.gap import decode_gap
from appliance.formats.receipt import HistorianReceipt, encode_receipt
from appliance.formats.uplink_message import Accepted, Refused
from appliance.formats.verdict import decode_verdict, encode_verdict
from appliance.machine.uplink_client import AlarmBell
from tests.integration.uplink_harness import (
    CONFIG,
    DEVICE,
    Pipeline,
    UplinkPlant,
    accepted,
    ending,
    make_verdict,
    plant_at,
    wait_until,
)

MOMENT = Moment("0" * 32, 1, 1)
VERSION_1 = """
CREATE TABLE message (sequence INTEGER PRIMARY KEY AUTOINCREMENT, payload BLOB NOT NULL,
  kind TEXT NOT NULL DEFAULT 'verdict') STRICT;
CREATE TABLE spool (one INTEGER PRIMARY KEY CHECK (one = 1), epoch TEXT NOT NULL, rows INTEGER NOT NULL,
  bytes INTEGER NOT NULL) STRICT;
"""


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[UplinkPlant]:
    """A plant whose broker is not started yet."""
    with plant_at(tmp_path) as made:
        yield made


def test_a_message_comes_out_as_it_went_in(plant: UplinkPlant) -> None:
    plant.broker.start()
    historian = plant.historian()
    uplink = plant.start()
    with ending(uplink):
        client = plant.client()
        wait_until(lambda: client.status().connected, "a connection")
        answer = client.publish(make_verdict(1))
        assert isinstance(answer, Accepted)
        assert (answer.stream, answer.sequence) == ("data", 1)
        wait_until(lambda: historian.messages, "the verdict")
        wait_until(lambda: client.status().spooled == 0, "an empty spool")
        assert uplink.stop() == 0
    historian.close()
    assert historian.faults == []
    [message] = historian.messages
    assert (message.lane, message.envelope.stream, message.envelope.sequence) == ("live", "data", 1)
    assert plant.audit.kinds()[0] == "service-started"
    assert "broker-connected" in plant.audit.kinds()


def test_a_backlog_goes_in_batches_and_live_data_does_not_wait_for_it(plant: UplinkPlant) -> None:
    uplink = plant.start()
    with ending(uplink):
        pipeline = Pipeline(plant.socket)
        assert accepted(pipeline.publish(3000)) == list(range(1, 3001))
        historian = plant.open(uplink)
        client = plant.client()
        wait_until(lambda: client.status().connected, "a connection")
        assert accepted(pipeline.publish(10)) == list(range(3001, 3011))
        wait_until(lambda: client.status().spooled == 0, "an empty spool")
        wait_until(lambda: len(set(historian.sequences())) == 3010, "all of them")
    historian.close()
    assert historian.faults == []
    assert historian.batches > 0
    for lane in ("live", "backlog"):
        numbers = [one.envelope.sequence for one in historian.messages if one.lane == lane]
        assert numbers == sorted(numbers)


def test_kill_9_loses_nothing_that_was_accepted(plant: UplinkPlant) -> None:
    plant.broker.start()
    historian = plant.historian()
    expected: set[int] = set()
    for turn in range(6):
        uplink = plant.start()
        with ending(uplink):
            expected |= set(accepted(Pipeline(plant.socket).publish(200 + 37 * turn)))
            uplink.kill()
    uplink = plant.start()
    with ending(uplink):
        wait_until(lambda: expected <= set(historian.sequences()), "every accepted verdict")
        assert uplink.stop() == 0
    historian.close()
    assert historian.faults == []
    assert expected == set(range(1, len(expected) + 1)), "no number is left out, none is used twice"
    assert len({one.envelope.epoch for one in historian.messages}) == 1
    bodies: dict[int, bytes] = {}
    for one in historian.messages:
        assert bodies.setdefault(one.envelope.sequence, one.envelope.body) == one.envelope.body


def test_a_spool_that_is_damaged_while_it_is_used_is_replaced_and_the_service_goes_on(plant: UplinkPlant) -> None:
    uplink = plant.start()
    with ending(uplink):
        pipeline, client = Pipeline(plant.socket), plant.client()
        first = client.status().epoch
        accepted(pipeline.publish(16_000))
        assert plant.spool.stat().st_size > 2 << 20, "all of it has been moved from the log into the file"
        with plant.spool.open("r+b") as file:
            for page in range(4, 400):
                file.seek(page * 4096)
                file.write(b"\xff" * 4096)
        historian = plant.open(uplink)
        wait_until(lambda: client.status().epoch != first, "a new spool")
        wait_until(lambda: accepted(pipeline.publish(1)), "a message for it")
        wait_until(lambda: client.status().spooled == 0 and client.status().connected, "an empty spool")
        wait_until(lambda: historian.sequences("alarm"), "the gap record")
        assert uplink.stop() == 0
    historian.close()
    assert historian.faults == []
    [reason] = [event["reason"] for event in plant.audit.of("spool-replaced")]
    assert reason.endswith("kept as outbox.sqlite.rejected-1")
    [gap] = [decode_gap(one.envelope.body) for one in historian.messages if one.envelope.kind == "gap"]
    assert (gap.epoch, gap.stream, gap.first, gap.last, gap.reason) == (first, "data", 1, 16_000, "corrupt")


LIMIT = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, resource.RLIM_INFINITY))
"""


def test_a_disk_that_takes_no_more_refuses_producers_and_sends_what_is_there(plant: UplinkPlant) -> None:
    uplink = plant.start(before=LIMIT)
    with ending(uplink):
        answers = Pipeline(plant.socket).publish(6000)
        kept = [answer.sequence for answer in answers if isinstance(answer, Accepted)]
        refused = {(answer.reason, answer.detail) for answer in answers if isinstance(answer, Refused)}
        assert kept == list(range(1, len(kept) + 1))
        assert 100 < len(kept) < 6000
        assert {reason for reason, _ in refused} <= {"unwritable", "full"}
        assert all(detail.startswith("the spool cannot be written: ") for _, detail in refused)
        wait_until(lambda: plant.audit.of("spool-unwritable"), "the audit event")
        historian = plant.open(uplink)
        wait_until(lambda: set(kept) <= set(historian.sequences()), "what was accepted")
        resource.prlimit(uplink.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert isinstance(plant.client().publish(make_verdict(1)), Accepted)
        wait_until(lambda: plant.audit.kinds().count("spool-recovered") >= 1, "the end of it in the audit log")
        wait_until(lambda: plant.client().status().spooled == 0, "an empty spool")
        assert uplink.stop() == 0
    historian.close()
    assert historian.faults == []


def test_the_spool_of_an_earlier_version_is_emptied_and_stays_usable(plant: UplinkPlant) -> None:
    old = plant.directory / "spool.sqlite"
    with contextlib.closing(sqlite3.connect(old)) as database, database:
        database.executescript(VERSION_1)
        rows = [(encode_verdict(make_verdict(number)),) for number in range(1, 1001)]
        database.executemany("INSERT INTO message (payload) VALUES (?)", rows)
        database.execute("INSERT INTO spool SELECT 1, ?, count(*), sum(length(payload) + 64) FROM message", ("f" * 32,))
    uplink = plant.start()
    with ending(uplink):
        time.sleep(0.3)
        assert plant.client().status().spooled == 0, "nothing moves before it can be sent"
        historian = plant.open(uplink)
        wait_until(lambda: len(historian.messages) >= 500, "a part of it")
        uplink.kill()
    uplink = plant.start()
    with ending(uplink):
        wait_until(lambda: len(set(historian.sequences())) == 1000, "all of it")
        wait_until(lambda: plant.client().status().spooled == 0, "an empty spool")
        assert uplink.stop() == 0
    with contextlib.closing(sqlite3.connect(old)) as database, database:  # the old slot has run again
        assert database.execute("SELECT rows, bytes FROM spool").fetchall() == [(0, 0)]
        body = encode_verdict(make_verdict(1001))
        database.execute("INSERT INTO message (payload) VALUES (?)", (body,))
        database.execute("UPDATE spool SET rows = 1, bytes = ?", (len(body) + 64,))
    uplink = plant.start()
    with ending(uplink):
        wait_until(lambda: len(set(historian.sequences())) == 1001, "the last one")
        wait_until(lambda: {"count": 1} in plant.audit.of("spool-taken-over"), "the audit event")
        assert uplink.stop() == 0
    historian.close()
    assert historian.faults == []
    seen = {one.envelope.sequence: decode_verdict(one.envelope.body).sequence for one in historian.messages}
    assert seen == {number: number for number in range(1, 1002)}
    assert {one.lane for one in historian.messages} == {"backlog"}
    with contextlib.closing(sqlite3.connect(old)) as database:
        assert database.execute("SELECT rows, bytes FROM spool").fetchall() == [(0, 0)]


def test_rows_stay_until_the_historian_says_that_it_has_them(tmp_path: Path) -> None:
    config = msgspec.structs.replace(CONFIG, delivery="historian", receipt_s=5)
    with plant_at(tmp_path, config) as plant:
        plant.broker.start()
        historian = plant.historian()
        uplink = plant.start()
        with ending(uplink):
            client = plant.client()
            wait_until(lambda: client.status().connected, "a connection")
            accepted(Pipeline(plant.socket).publish(10))
            wait_until(lambda: client.status().acknowledged >= 10, "PUBACKs")
            assert client.status().spooled == 10
            epoch = client.status().epoch
            assert epoch is not None
            some = HistorianReceipt(device=DEVICE, epoch=epoch, stream="data", ranges=((1, 4), (6, 10)))
            historian.say(f"example/plant-4/line-3/{DEVICE}/receipt", encode_receipt(some))
            wait_until(lambda: client.status().spooled == 1, "the receipt")
            wait_until(lambda: historian.sequences().count(5) == 2, "the missing one again")
            assert client.status().resent == 1
            rest = HistorianReceipt(device=DEVICE, epoch=epoch, stream="data", ranges=((5, 5),))
            historian.say(f"example/plant-4/line-3/{DEVICE}/receipt", encode_receipt(rest))
            wait_until(lambda: client.status().spooled == 0, "an empty spool")
            assert uplink.stop() == 0
        historian.close()
        assert historian.faults == []


def test_an_alarm_overtakes_and_an_unwanted_message_is_refused_with_a_reason(plant: UplinkPlant) -> None:
    uplink = plant.start()
    with ending(uplink):
        accepted(Pipeline(plant.socket).publish(2000))
        bell = AlarmBell(str(plant.socket), DEVICE)
        bell.set("frame-source-lost", True, "no camera", MOMENT)
        bell.set("frame-source-lost", True, "still no camera", MOMENT)
        bell.set("never-began", False, "so it does not end", MOMENT)
        client = plant.client()
        assert client.publish(msgspec.structs.replace(make_verdict(1), device="cell-8")) == Refused(
            id=1, reason="not-allowed", detail="the verdict names another device"
        )
        historian = plant.open(uplink)
        wait_until(lambda: len(set(historian.sequences())) == 2000, "everything")
        status = client.status()
        assert (status.refusals, status.streams["alarm"].accepted) == ({"not-allowed": 1}, 1)
        assert uplink.stop() == 0
    historian.close()
    assert historian.faults == []
    assert historian.messages[0].lane == "alarm"
    assert [event["reason"] for event in plant.audit.of("uplink-refused")] == ["the verdict names another device"]


def test_a_full_stream_says_so_once_and_under_drop_oldest_a_gap_record_tells_what_went(tmp_path: Path) -> None:
    small = DataLaneConfig(bytes=64 << 10, full="drop-oldest")
    with plant_at(
        tmp_path, msgspec.structs.replace(CONFIG, data=msgspec.structs.replace(small, full="refuse"))
    ) as plant:
        uplink = plant.start()
        with ending(uplink):
            answers = Pipeline(plant.socket).publish(300)
            kept = sum(isinstance(answer, Accepted) for answer in answers)
            assert {answer.reason for answer in answers if isinstance(answer, Refused)} == {"full"}
            wait_until(lambda: plant.audit.of("spool-full"), "the audit event")
            assert uplink.stop() == 0
        plant.configure(msgspec.structs.replace(CONFIG, data=small))
        uplink = plant.start()
        with ending(uplink):
            assert accepted(Pipeline(plant.socket).publish(50)) == list(range(kept + 1, kept + 51))
            historian = plant.open(uplink)
            wait_until(lambda: plant.client().status().connected, "a connection")
            wait_until(lambda: plant.client().status().spooled == 0, "an empty spool")
            wait_until(lambda: historian.sequences()[-1:] == [kept + 50], "the last one")
            dropped = plant.client().status().dropped
            assert uplink.stop() == 0
        historian.close()
    [gap] = [decode_gap(one.envelope.body) for one in historian.messages if one.envelope.kind == "gap"]
    assert (gap.first, gap.last, gap.reason) == (1, dropped, "dropped")
    assert sorted(set(historian.sequences())) == list(range(dropped + 1, kept + 51))
    assert [event["stream"] for event in plant.audit.of("spool-full")] == ["data"]
    assert sum(event["count"] for event in plant.audit.of("messages-dropped")) == dropped
