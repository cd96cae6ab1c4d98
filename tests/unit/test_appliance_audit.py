"""The log's writer: what is durable, what is refused, what a start finds."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from appliance.audit.log_file import LogFile
from appliance.audit.writer import RESERVED_BYTES, Submission, Writer
from appliance.core.clock import Moment
from appliance.formats.audit_event import AuditEvent, NotRecorded, Recorded, encode_event
from appliance.formats.audit_log import MAX_LINE_BYTES, LogEntry, Sender, verify_lines
from appliance.formats.device import DeviceConfig, FrameSource, InferenceConfig, UplinkConfig

CONFIG = DeviceConfig(
    product="label-check",
    profile="line-3",
    version=7,
    development=False,
    inference=InferenceConfig(model="orientation", source=FrameSource(kind="virtio")),
    uplink=UplinkConfig(topic="plant/line-3"),
)
SENDER = Sender(uid=703, pid=42, unit="edgeseal-inference.service")
FIRST_BOOT = "1" * 32
SECOND_BOOT = "2" * 32


def event(name: str = "edgeseal-inference") -> Submission:
    return Submission(
        SENDER, encode_event(AuditEvent(kind="service-started", result="success", fields={"service": name}))
    )


def open_writer(path: Path, *, boot: str = FIRST_BOOT, budget: int = 1 << 20) -> Writer:
    writer = Writer(LogFile(path), lambda: Moment(boot, 1_000, 2_000), budget=budget, unit="edgeseal-audit.service")
    writer.start(CONFIG)
    return writer


def entries(path: Path) -> list[LogEntry]:
    return verify_lines(path.read_bytes().splitlines(keepends=True))


def kinds(path: Path) -> list[str]:
    return [entry.event.kind for entry in entries(path)]


def test_a_new_log_begins_with_the_boot(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "log")
    assert writer.take([event()]) == [Recorded(sequence=3)]
    writer.stop()
    assert kinds(tmp_path / "log") == ["boot-started", "log-opened", "service-started", "log-closed"]
    boot, opened, started, _ = entries(tmp_path / "log")
    assert boot.event.sentence() == "The device booted version 7 of label-check."
    assert opened.event.sentence() == (
        "The log was opened at entry 1; the writer before this one ended never, this log is new."
    )
    assert (started.sender, started.category) == (SENDER, "control-system")
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_a_restart_in_the_same_boot_is_no_boot(tmp_path: Path) -> None:
    open_writer(tmp_path / "log").stop()
    open_writer(tmp_path / "log").stop()
    open_writer(tmp_path / "log", boot=SECOND_BOOT).stop()
    assert kinds(tmp_path / "log") == [
        *("boot-started", "log-opened", "log-closed"),
        *("log-opened", "log-closed"),
        *("boot-started", "log-opened", "log-closed"),
    ]
    assert [
        entry.event.fields["ending"] for entry in entries(tmp_path / "log") if entry.event.kind == "log-opened"
    ] == [
        *("never, this log is new", "cleanly", "cleanly"),
    ]


@pytest.mark.parametrize("cut", [1, 10, 100])
def test_a_torn_last_line_is_cut_off_and_said(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "log"
    writer = open_writer(path)
    writer.take([event("kept"), event("torn")])
    data = path.read_bytes()
    path.write_bytes(data[:-cut])
    open_writer(path).stop()
    found = kinds(path)
    assert found == ["boot-started", "log-opened", "service-started", "log-torn-tail", "log-opened", "log-closed"]
    torn = entries(path)[3].event
    assert torn.fields["bytes"] == len(data.splitlines(keepends=True)[-1]) - cut
    assert entries(path)[4].event.fields["ending"] == "unclean"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"label-check", b"label-chess", "audit log: entry 2 does not continue the entry before it"),
        (b'"uid":', b'"gid":', "log entry: Object contains unknown field `gid` - at `$.sender`"),
    ],
    ids=["edited", "broken"],
)
def test_a_log_that_does_not_verify_is_put_aside_whole(tmp_path: Path, old: bytes, new: bytes, reason: str) -> None:
    path = tmp_path / "log"
    open_writer(path).stop()
    changed = path.read_bytes().replace(old, new, 1)
    path.write_bytes(changed)
    open_writer(path).stop()
    assert (tmp_path / "log.rejected-1").read_bytes() == changed
    first = entries(path)[0].event
    assert (first.kind, first.result) == ("log-replaced", "failure")
    assert first.fields == {"file": "log.rejected-1", "reason": reason}


def test_only_the_tail_of_a_long_log_is_read_at_start(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = open_writer(path, budget=8 << 20)
    writer.take([event(str(number)) for number in range(1500)])
    writer.stop()
    assert path.stat().st_size > 512 << 10
    writer = open_writer(path, budget=8 << 20)
    writer.stop()
    assert len(entries(path)) == 1500 + 3 + 2


def test_what_is_refused_and_why(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "log")
    before = (tmp_path / "log").read_bytes()
    own = encode_event(AuditEvent(kind="log-closed", result="success"))
    assert writer.take([Submission(SENDER, own), Submission(SENDER, b"{}"), Submission(SENDER, b"x" * 4097)]) == [
        NotRecorded(reason="not-allowed", detail="only the log itself says log-closed"),
        NotRecorded(reason="malformed", detail="audit event: Object missing required field `kind`"),
        NotRecorded(reason="too-large", detail="an event has at most 4096 bytes"),
    ]
    assert (tmp_path / "log").read_bytes() == before


def test_a_full_log_refuses_and_says_so_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    budget = RESERVED_BYTES + MAX_LINE_BYTES + 4000
    writer = open_writer(path, budget=budget)
    answers = writer.take([event(str(number)) for number in range(20)])
    refused = [answer for answer in answers if isinstance(answer, NotRecorded)]
    assert 0 < len(refused) < 20
    assert isinstance(answers[-1], NotRecorded)
    assert answers[-1].reason == "full"
    writer.stop()
    assert kinds(path).count("log-full") == 1
    assert kinds(path)[-2:] == ["events-refused", "log-closed"]
    assert entries(path)[-2].event.fields["count"] == len(refused)
    for _ in range(200):  # a log never grows beyond its budget, not even by its own entries
        open_writer(path, budget=budget).stop()
    assert path.stat().st_size <= budget


def test_an_entry_is_durable_before_it_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = open_writer(tmp_path / "log")
    seen: list[bytes] = []
    monkeypatch.setattr("os.fdatasync", lambda _: seen.append((tmp_path / "log").read_bytes()))
    writer.take([event("one"), event("two")])
    assert len(seen) == 1
    assert len(verify_lines(seen[0].splitlines(keepends=True))) == 4
    assert msgspec.json.decode(seen[0].splitlines()[-1])["event"]["fields"] == {"service": "two"}
