"""What the log gives up and what it sends: pruning, the action when it is full, parts that were never sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.audit.keyring import make_keyring
from appliance.audit.limits import Limits
from appliance.audit.parts import Parts
from appliance.audit.retention import HALT_AFTER_US, Retention
from appliance.audit.signing import Signing
from appliance.audit.store import TileLog
from appliance.audit.writer import Submission, Writer
from appliance.core.clock import Moment
from appliance.formats.audit_event import AuditEvent, encode_event
from appliance.formats.audit_log import Sender
from appliance.formats.device import AuditConfig

ME = Sender(uid=701, pid=1, unit="edgeseal-audit.service")
NOW = Moment("1" * 32, 1_000, 2_000)


class Place:
    """A log in a directory."""

    def __init__(self, directory: Path, config: AuditConfig | None = None) -> None:
        (directory / "state").mkdir()
        keys = make_keyring(directory / "state", "edgeseal.audit/line-3", NOW)
        self.log = TileLog.create(directory / "tlog", directory / "state" / "store", keys.origin)
        limits = Limits(rate=1, burst=1)
        self.writer = Writer(self.log, Signing(keys, None), lambda: NOW, limits, me=ME, boot=1, budget=None)
        self.config = config or AuditConfig(log_bytes=8 << 20)
        self.halt = directory / "halt"
        self.path = directory / "state" / "uplink.json"
        self.retention = Retention(self.config, directory / "tlog", directory / "state" / "reserve", self.halt)

    def fill(self, events: int) -> None:
        """Published."""
        for number in range(events):
            self.writer.tell(
                AuditEvent(kind="boot-judged", result="success", fields={"reason": "x" * 900, "seconds": number})
            )
        self.writer.commit()
        self.log.publish()

    def parts(self) -> Parts:
        return Parts(self.path, self.log, "line-3")


def test_parts_lead_up_to_one_checkpoint_and_go_on_after_a_restart(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.fill(100)
    parts = place.parts()
    first = parts.next()
    assert first is not None
    assert (first.start, first.size, first.previous, first.is_last) == (0, 100, 0, False)
    parts.accepted(first)
    place.fill(50)  # a newer checkpoint waits until the one before is complete
    again = place.parts()
    ends = []
    while (part := again.next()) is not None:
        again.accepted(part)
        ends.append((part.size, part.is_last))
    assert [size for size, last in ends if last] == [100, 150]
    assert again.sent == 150
    last = place.parts().next()
    assert last is None


def test_what_was_given_up_before_it_could_leave_is_a_gap(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.fill(100)
    parts = place.parts()
    assert parts.next() is not None
    place.fill(1000)
    place.log.prune(512)
    part = parts.next()
    assert part is not None
    assert (part.start, part.size, part.previous) == (512, 1100, 0)


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b'{"origin":"x"}'])
def test_damaged_progress_begins_again(tmp_path: Path, data: bytes) -> None:
    place = Place(tmp_path)
    place.fill(3)
    place.path.write_bytes(data)
    part = place.parts().next()
    assert part is not None
    assert (part.start, part.end, part.size) == (0, 3, 3)


def test_progress_of_another_log_is_not_believed(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.fill(3)
    parts = place.parts()
    part = parts.next()
    assert part is not None
    parts.accepted(part)
    place.path.write_bytes(place.path.read_bytes().replace(b"edgeseal.audit/line-3", b"edgeseal.audit/line-4"))
    assert place.parts().sent == 0


def test_only_what_has_left_is_given_up(tmp_path: Path) -> None:
    place = Place(tmp_path, AuditConfig(log_bytes=8 << 20, full="stop-control-plane"))
    place.fill(7000)
    place.retention.look(place.writer, NOW, 0)
    assert place.log.minimum == 0
    assert not place.writer.has_room
    assert not (tmp_path / "takes-events").exists()
    place.retention.look(place.writer, NOW, 5000)
    assert 0 < place.log.minimum <= 5000


def test_a_full_log_switches_the_device_off_after_a_while(tmp_path: Path) -> None:
    place = Place(tmp_path, AuditConfig(log_bytes=8 << 20, full="halt"))
    place.fill(7000)
    place.retention.look(place.writer, NOW, 0)
    data = encode_event(AuditEvent(kind="service-started", result="success", fields={"service": "x"}))
    place.writer.take(Submission(ME, data))
    for passed, there in ((1, False), (HALT_AFTER_US, False), (HALT_AFTER_US + 1, True)):
        place.retention.look(place.writer, Moment("1" * 32, NOW.monotonic_us + passed, 0), 0)
        assert place.halt.exists() == there
    newest = place.log.entry(place.log.size - 1)
    assert b"the device is switched off" in newest
    assert place.log.published is not None
    assert place.log.published.size == place.log.size


def test_logs_that_were_put_aside_count_and_go_first(tmp_path: Path) -> None:
    place = Place(tmp_path)
    aside = tmp_path / "tlog.rejected-1"
    aside.mkdir()
    (aside / "old").write_bytes(b"x" * (6 << 20))
    place.fill(10)
    place.retention.look(place.writer, NOW, 0)
    assert not aside.exists()
    assert place.log.minimum == 0


def test_a_reserve_is_kept_and_given_back(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.fill(1)
    place.retention.look(place.writer, NOW, 0)
    reserve = tmp_path / "state" / "reserve"
    assert reserve.stat().st_blocks * 512 >= 512 << 10
    place.retention.disk_full()
    assert not reserve.exists()
    place.retention.look(place.writer, NOW, 0)
    assert reserve.exists()
