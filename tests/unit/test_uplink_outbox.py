"""The spool's file: what survives, what is removed, and what becomes of one that is damaged."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from appliance.core.clock import Moment
from appliance.core.errors import EdgesealError
from appliance.formats.gap import Gap, encode_gap
from appliance.uplink.outbox import Outbox
from appliance.uplink.spoolfile import SpoolDamagedError, SpoolUnwritableError
from appliance.uplink.spoolwrite import ROW_OVERHEAD

NOW = Moment(boot_id="0b6f" * 8, monotonic_us=1_000_000, wall_us=1_700_000_000_000_000)


def test_only_committed_messages_survive(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "spool", NOW)
    assert [outbox.add("data", "k", b"a", NOW), outbox.add("data", "k", b"b", NOW)] == [1, 2]
    assert outbox.add("alarm", "k", b"c", NOW) == 1, "each stream counts by itself"
    outbox.commit(NOW)
    assert outbox.add("data", "k", b"c", NOW) == 3
    outbox.close()
    again = Outbox(tmp_path / "spool", NOW)
    assert [one.body for one in again.read("data", 1, 9, 9)] == [b"a", b"b"]
    assert (again.rows, again.used, again.epoch) == (3, 3 + 3 * ROW_OVERHEAD, outbox.epoch)


def test_a_sequence_is_never_given_twice(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "spool", NOW)
    outbox.add("data", "k", b"a", NOW)
    outbox.commit(NOW)
    outbox.remove("data", 1, 77)
    outbox.commit(NOW)
    outbox.close()
    again = Outbox(tmp_path / "spool", NOW)
    assert (again.rows, again.used) == (0, 0)
    assert again.add("data", "k", b"b", NOW) == 2


def test_every_commit_reaches_the_disk(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "spool", NOW)
    assert outbox._database.execute("PRAGMA synchronous").fetchone() == (2,)
    assert outbox._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_what_was_removed_is_not_read_although_it_is_still_in_the_file(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "spool", NOW)
    for _ in range(5):
        outbox.add("data", "k", b"a", NOW)
    outbox.commit(NOW)
    outbox.remove("data", 2, 3)
    assert [one.sequence for one in outbox.read("data", 1, 9, 9)] == [1, 4, 5]
    assert (outbox.rows, outbox.removed) == (5, 2)
    outbox.commit(NOW)
    assert (outbox.rows, outbox.removed) == (3, 0)


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to be looked at" * 100, b"SQLite format 3\0" * 99]
)
def test_an_unreadable_spool_is_put_aside(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "spool").write_bytes(content)
    outbox = Outbox(tmp_path / "spool", NOW)
    assert outbox.replaced == "file is not a database, kept as spool.rejected-1"
    assert (tmp_path / "spool.rejected-1").read_bytes() == content
    assert outbox.add("data", "k", b"a", NOW) == 1
    outbox.commit(NOW)


def test_a_spool_of_a_version_that_nobody_knows_is_put_aside(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "spool")) as database, database:
        database.execute("CREATE TABLE message (id INTEGER)")
    assert Outbox(tmp_path / "spool", NOW).replaced == "a spool of version 0, not 2, kept as spool.rejected-1"


def test_only_the_last_damaged_spool_is_kept(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / "spool").write_bytes(b"%d" % number * 5000)
        Outbox(tmp_path / "spool", NOW).close()
    assert sorted(path.name for path in tmp_path.glob("*rejected*")) == ["spool.rejected-4"]


def test_damage_that_shows_later_begins_a_new_epoch_and_says_what_is_gone(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "spool", NOW)
    for _ in range(3):
        outbox.add("data", "k", b"a", NOW)
    outbox.commit(NOW)
    epoch = outbox.epoch
    outbox.recover(SpoolDamagedError("database disk image is malformed"), NOW)
    assert outbox.replaced == "database disk image is malformed, kept as spool.rejected-1"
    assert outbox.epoch != epoch
    assert list(outbox.gaps) == [Gap(epoch=epoch, stream="data", first=1, last=3, reason="corrupt")]
    assert outbox.add("data", "k", b"b", NOW) == 1
    outbox.commit(NOW)
    outbox.close()
    assert list(Outbox(tmp_path / "spool", NOW).gaps) == [
        Gap(epoch=epoch, stream="data", first=1, last=3, reason="corrupt")
    ]


def test_a_spool_that_cannot_be_opened_is_not_put_aside(tmp_path: Path) -> None:
    with pytest.raises(EdgesealError, match=r"cannot open the spool .*/nowhere/spool: unable to open database file"):
        Outbox(tmp_path / "nowhere" / "spool", NOW)


def test_a_spool_without_room_on_the_disk_refuses_and_recovers(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "spool", NOW)
    outbox.add("data", "k", b"first", NOW)
    outbox.commit(NOW)
    outbox._database.execute("PRAGMA max_page_count = 20")
    with pytest.raises(SpoolUnwritableError, match="the spool cannot be written: database or disk is full") as caught:
        for _ in range(1000):
            outbox.add("data", "k", bytes(2000), NOW)
        outbox.commit(NOW)
    assert caught.value.reason == "full"
    assert (outbox.rows, outbox.counts("data").next, outbox.has_added) == (1, 2, False)
    assert [one.body for one in outbox.read("data", 1, 9, 9)] == [b"first"], "what is there can still be sent"
    outbox._database.execute("PRAGMA max_page_count = 2000")
    assert outbox.add("data", "k", b"second", NOW) == 2
    outbox.commit(NOW)
    assert outbox.rows == 2


def test_gap_records_that_became_messages_do_not_come_back(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox", NOW)
    for _ in range(3):
        outbox.add("data", "k", b"a", NOW)
    outbox.commit(NOW)
    outbox.give_up("data", [(1, 2)], "dropped")
    outbox.commit(NOW)
    assert len(outbox.gaps.take(16)) == 1
    outbox.commit(NOW)
    outbox.close()
    assert list(Outbox(tmp_path / "outbox", NOW).gaps) == []


def test_gap_records_whose_commit_failed_wait_again(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox", NOW)
    for _ in range(3):
        outbox.add("data", "k", b"a", NOW)
    outbox.commit(NOW)
    outbox.give_up("data", [(1, 2)], "dropped")
    outbox.commit(NOW)
    [gap] = outbox.gaps.take(16)
    outbox.add("alarm", "gap", encode_gap(gap), NOW)
    outbox._database.execute("PRAGMA max_page_count = 1")
    outbox.add("alarm", "alarm", bytes(30_000), NOW)
    with pytest.raises(SpoolUnwritableError):
        outbox.commit(NOW)
    assert (list(outbox.gaps), outbox.counts("alarm").next) == ([gap], 1)


def test_damage_that_shows_at_the_start_says_that_the_rest_of_the_old_epoch_is_gone(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox", NOW)
    outbox.add("data", "k", b"a", NOW)
    outbox.commit(NOW)
    outbox.close()
    (tmp_path / "outbox").write_bytes(b"x" * 9000)
    again = Outbox(tmp_path / "outbox", NOW)
    assert [(gap.epoch, gap.stream, gap.first, gap.last, gap.reason) for gap in again.gaps] == [
        (outbox.epoch, stream, 1, None, "corrupt") for stream in ("alarm", "data", "audit")
    ]
    again.commit(NOW)
    again.close()
    assert len(list(Outbox(tmp_path / "outbox", NOW).gaps)) == 3


def test_a_schema_whose_names_are_no_text_is_damage(tmp_path: Path) -> None:
    """SQLite names it in its error message, and Python cannot decode that."""
    outbox = Outbox(tmp_path / "outbox", NOW)
    outbox.add("data", "k", b"a", NOW)
    outbox.commit(NOW)
    outbox.close()
    data = (tmp_path / "outbox").read_bytes()
    damaged = data.replace(b"gapgap", b"\xff\xfe\xffgap").replace(b"CREATE TABLE gap", b"CREATE XABLE gap")
    (tmp_path / "outbox").write_bytes(damaged)
    again = Outbox(tmp_path / "outbox", NOW)
    assert again.replaced is not None
    assert again.replaced.endswith("kept as outbox.rejected-1")
