"""The uplink's rules: the spool, the window, the desk."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path

import msgspec
import pytest

from appliance.core.errors import DecodeError, EdgesealError
from appliance.formats.update_report import UpdateReport, decode_update_report, encode_update_report
from appliance.formats.uplink_message import (
    Accepted,
    AskStatus,
    PublishUpdateReport,
    PublishVerdict,
    Refused,
    Status,
    encode_uplink_message,
)
from appliance.formats.verdict import Verdict, encode_verdict
from appliance.uplink.desk import Desk
from appliance.uplink.outbox import ROW_OVERHEAD, Outbox, Spooled
from appliance.uplink.window import Window
from builder.host.paths import source_root

INFERENCE_UID = 703
OTHER_UID = 701
UPDATE_UID = 704
VERDICT = Verdict(
    device="cell-7",
    boot_id="0" * 32,
    start_us=1,
    sequence=1,
    frame_sequence="1",
    frame_sha256="a" * 64,
    label="90",
    score_ppm=900_000,
    model="orientation",
    model_sha256="b" * 64,
    execution_provider="cpu",
    latency_us=1,
    monotonic_us=2,
)
REPORT = UpdateReport(
    device="cell-7",
    boot_id="0b6f" * 8,
    monotonic_us=2,
    transaction="0123456789abcdef",
    version=8,
    running=7,
    outcome="fell-back",
    reason="after 300 s no verdict has reached the uplink",
)
COST = len(encode_verdict(VERDICT)) + ROW_OVERHEAD


def publish(**changes: object) -> bytes:
    return encode_uplink_message(PublishVerdict(id=9, verdict=msgspec.structs.replace(VERDICT, **changes)))


def desk(tmp_path: Path, *, budget: int = 1 << 20) -> Desk:
    outbox = Outbox(tmp_path / "spool", budget=budget)
    return Desk(
        outbox,
        device="cell-7",
        publishers=frozenset({INFERENCE_UID}),
        reporters=frozenset({UPDATE_UID}),
        readers=frozenset({0}),
    )


def report(**changes: object) -> bytes:
    return encode_uplink_message(PublishUpdateReport(id=9, report=msgspec.structs.replace(REPORT, **changes)))


def test_only_committed_messages_survive(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "spool", budget=1 << 20)
    assert [outbox.add(b"a"), outbox.add(b"b")] == [1, 2]
    outbox.commit()
    assert outbox.add(b"c") == 3
    outbox.close()
    again = Outbox(tmp_path / "spool", budget=1 << 20)
    assert again.after(0, limit=10) == [Spooled(1, b"a"), Spooled(2, b"b")]
    assert (again.rows, again.used, again.epoch) == (2, 2 + 2 * ROW_OVERHEAD, outbox.epoch)


def test_a_sequence_is_never_given_twice(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "spool", budget=1 << 20)
    outbox.add(b"a")
    outbox.remove([1, 1, 77])
    outbox.commit()
    outbox.close()
    again = Outbox(tmp_path / "spool", budget=1 << 20)
    assert (again.rows, again.used) == (0, 0)
    assert again.add(b"b") == 2


def test_every_commit_reaches_the_disk(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "spool", budget=1 << 20)
    assert outbox._database.execute("PRAGMA synchronous").fetchone() == (2,)
    assert outbox._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_the_budget_is_kept_and_freed(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "spool", budget=2 * (ROW_OVERHEAD + 10))
    assert [outbox.add(bytes(10)), outbox.add(bytes(10)), outbox.add(b"")] == [1, 2, None]
    outbox.remove([1])
    assert outbox.add(bytes(10)) == 3
    outbox.commit()
    assert [row.sequence for row in outbox.after(0, limit=9)] == [2, 3]


def test_an_unreadable_spool_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / "spool").write_bytes(b"not a database, but long enough to be looked at" * 100)
    outbox = Outbox(tmp_path / "spool", budget=1 << 20)
    assert outbox.replaced == "file is not a database, kept as spool.rejected-1"
    assert (tmp_path / "spool.rejected-1").read_bytes().startswith(b"not a database")
    assert outbox.add(b"a") == 1
    outbox.commit()


def test_a_spool_that_cannot_be_opened_is_not_put_aside(tmp_path: Path) -> None:
    with pytest.raises(EdgesealError, match=r"cannot open the spool .*/nowhere/spool: unable to open database file"):
        Outbox(tmp_path / "nowhere" / "spool", budget=1 << 20)


def test_the_window_sends_again_after_a_loss() -> None:
    window = Window()
    assert (window.connected, window.room) == (False, 0)
    window.opened(2)
    window.sent(1)
    window.sent(2)
    assert window.room == 0
    window.acknowledged(1)
    window.acknowledged(1)
    assert (window.room, window.last_sent) == (1, 2)
    window.lost()
    assert (window.connected, window.room) == (False, 0)
    window.opened(1)
    assert (window.room, window.last_sent) == (1, 0)


def test_a_verdict_is_spooled_in_canonical_form(tmp_path: Path) -> None:
    taken = desk(tmp_path)
    assert taken.take(INFERENCE_UID, publish()) == Accepted(id=9, sequence=1)
    assert taken._outbox.after(0, limit=1) == [Spooled(1, encode_verdict(VERDICT))]


def test_how_an_update_ended_goes_to_a_topic_of_its_own(tmp_path: Path) -> None:
    taken = desk(tmp_path)
    assert taken.take(UPDATE_UID, report()) == Accepted(id=9, sequence=1)
    assert taken.accepted == 0, "those are verdicts"
    assert taken._outbox.after(0, limit=1) == [Spooled(1, encode_update_report(REPORT), "update")]


def test_a_spool_that_knew_only_verdicts_is_taken_over_and_can_be_given_back(tmp_path: Path) -> None:
    older = "CREATE TABLE message (sequence INTEGER PRIMARY KEY AUTOINCREMENT, payload BLOB NOT NULL) STRICT"
    with contextlib.closing(sqlite3.connect(tmp_path / "spool")) as database, database:
        database.execute(older)
        database.execute("INSERT INTO message (payload) VALUES (x'61')")
    for _ in range(2):
        outbox = Outbox(tmp_path / "spool", budget=1 << 20)
        assert outbox.after(0, limit=1) == [Spooled(1, b"a", "verdict")]
        outbox.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "spool")) as database, database:
        database.execute("INSERT INTO message (payload) VALUES (x'62')")
        assert database.execute("SELECT sequence, payload FROM message").fetchall() == [(1, b"a"), (2, b"b")]


@pytest.mark.parametrize(
    ("uid", "data", "refused"),
    [
        (OTHER_UID, publish(), Refused(id=9, reason="not-allowed", detail="uid 701 may not publish verdicts")),
        (0, publish(), Refused(id=9, reason="not-allowed", detail="uid 0 may not publish verdicts")),
        (
            INFERENCE_UID,
            publish(device="cell-8"),
            Refused(id=9, reason="not-allowed", detail="the verdict names another device"),
        ),
        (INFERENCE_UID, report(), Refused(id=9, reason="not-allowed", detail="uid 703 may not report updates")),
        (UPDATE_UID, publish(), Refused(id=9, reason="not-allowed", detail="uid 704 may not publish verdicts")),
        (
            UPDATE_UID,
            report(device="cell-8"),
            Refused(id=9, reason="not-allowed", detail="the report names another device"),
        ),
        (
            INFERENCE_UID,
            encode_uplink_message(AskStatus(id=4)),
            Refused(id=4, reason="not-allowed", detail="uid 703 may not ask for the status"),
        ),
        (
            INFERENCE_UID,
            b"[]",
            Refused(id=0, reason="malformed", detail="uplink message: Expected `object`, got `array`"),
        ),
        (
            INFERENCE_UID,
            publish(label="l" * 63) + b" " * 2304,
            Refused(id=0, reason="too-large", detail="a message has at most 2304 bytes"),
        ),
    ],
    ids=[
        "another service",
        "root",
        "another device",
        "report",
        "verdict",
        "another device of the report",
        "status",
        "malformed",
        "too large",
    ],
)
def test_refusals(tmp_path: Path, uid: int, data: bytes, refused: Refused) -> None:
    taken = desk(tmp_path)
    assert taken.take(uid, data) == refused
    status = taken.take(0, encode_uplink_message(AskStatus(id=1)))
    assert status == Status(id=1, connected=False, spooled=0, spooled_bytes=0, accepted=0, acknowledged=0, refused=1)


def test_what_was_accepted_is_counted(tmp_path: Path) -> None:
    """A trial of an update waits for the first one; a refused one does not count."""
    taken = desk(tmp_path, budget=COST)
    assert taken.accepted == 0
    taken.take(INFERENCE_UID, publish())
    taken.take(INFERENCE_UID, publish())
    status = taken.take(0, encode_uplink_message(AskStatus(id=1)))
    assert isinstance(status, Status)
    assert (status.accepted, status.refused) == (1, 1)


def test_a_full_spool_refuses(tmp_path: Path) -> None:
    taken = desk(tmp_path, budget=COST)
    assert isinstance(taken.take(INFERENCE_UID, publish()), Accepted)
    assert taken.take(INFERENCE_UID, publish()) == Refused(id=9, reason="full", detail=f"the spool holds {COST} bytes")


def test_a_spool_without_room_on_the_disk_raises(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "spool", budget=1 << 30)
    outbox._database.execute("PRAGMA max_page_count = 20")
    with pytest.raises(EdgesealError, match="the spool cannot be written: database or disk is full"):
        for _ in range(1000):
            outbox.add(bytes(2000))


def test_the_report_vectors() -> None:
    for vector in json.loads((source_root() / "tests/vectors/update-report.json").read_text())["reports"]:
        decoded = decode_update_report(vector["canonical"].encode())
        assert msgspec.to_builtins(decoded) == vector["value"]
        assert encode_update_report(decoded).decode() == vector["canonical"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "update report: Input data was truncated"),
        (encode_update_report(REPORT)[:-1], "update report: not in canonical form"),
        (b" " * 2049, "update report: 2049 bytes, at most 2048 are allowed"),
        (
            encode_update_report(REPORT).replace(b"fell-back", b"flew"),
            "update report: Invalid enum value 'flew' - at `$.outcome`",
        ),
    ],
    ids=["cut", "no newline", "too large", "outcome"],
)
def test_what_is_no_report(data: bytes, message: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_update_report(data)
    assert str(caught.value) == message
