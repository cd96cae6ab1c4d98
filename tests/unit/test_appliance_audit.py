"""The log's writer: what is taken, what is refused, what is durable, what it says of itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.audit.clockwatch import ClockWatch, behind
from appliance.audit.facts import System, boot_event, booted_slot, configuration_events
from appliance.audit.keyring import Keyring, make_keyring, open_keyring
from appliance.audit.limits import MAX_SENDERS, Limits, name_of
from appliance.audit.signing import Signing
from appliance.audit.store import TileLog
from appliance.audit.writer import RESERVED_BYTES, Submission, Writer
from appliance.core.clock import Moment, TimeQuality
from appliance.core.errors import DecodeError, EdgesealError
from appliance.formats.audit_event import AuditEvent, NotRecorded, Recorded, encode_event
from appliance.formats.audit_log import MAX_ENTRY_BYTES, LogEntry, Sender, decode_entry
from appliance.machine.tpm import Tpm

BOOT = "1" * 32
SENDER = Sender(uid=703, pid=42, unit="edgeseal-inference.service")
OTHER = Sender(uid=704, pid=43, unit="edgeseal-update.service")
ME = Sender(uid=701, pid=1, unit="edgeseal-audit.service")
NOW = Moment(BOOT, 1_000, 2_000)


def submission(name: str = "edgeseal-inference", sender: Sender = SENDER) -> Submission:
    return Submission(
        sender, encode_event(AuditEvent(kind="service-started", result="success", fields={"service": name}))
    )


def keyring(directory: Path) -> Keyring:
    directory.mkdir()
    return make_keyring(directory, "edgeseal.audit/line-3", NOW)


def open_writer(directory: Path, *, budget: int | None = None, rate: int = 1000) -> Writer:
    keys = keyring(directory / "state")
    log = TileLog.create(directory / "tlog", directory / "state" / "store", keys.origin)
    limits = Limits(rate=rate, burst=rate)
    return Writer(log, Signing(keys, None), lambda: NOW, limits, me=ME, boot=1, budget=budget)


def entries(writer: Writer) -> list[LogEntry]:
    return [decode_entry(data, index=index) for index, data in enumerate(writer.log.entries(0, writer.log.size))]


def test_an_event_is_the_kernels_word_and_the_senders(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    taken = writer.take(submission())
    writer.commit()
    assert (taken.answer, taken.urgent) == (Recorded(sequence=0), False)
    [entry] = entries(writer)
    assert (entry.sender, entry.category, entry.boot, entry.boot_id) == (SENDER, "control-system", 1, BOOT)
    assert writer.log.signed is not None
    assert writer.log.signed.size == 1


def test_a_security_event_is_urgent(tmp_path: Path) -> None:
    data = encode_event(AuditEvent(kind="boot-judged", result="success", fields={"reason": "good", "seconds": 1}))
    assert open_writer(tmp_path).take(Submission(SENDER, data)).urgent


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (
            encode_event(AuditEvent(kind="log-closed", result="success")),
            NotRecorded(reason="not-allowed", detail="only the log itself says log-closed"),
        ),
        (b"{}", NotRecorded(reason="malformed", detail="audit event: Object missing required field `kind`")),
        (b"x" * 4097, NotRecorded(reason="too-large", detail="an event has at most 4096 bytes")),
    ],
    ids=["the log's own", "malformed", "too large"],
)
def test_what_is_refused_and_why(tmp_path: Path, data: bytes, answer: NotRecorded) -> None:
    writer = open_writer(tmp_path)
    assert writer.take(Submission(SENDER, data)).answer == answer
    assert writer.log.size == 0


def test_a_full_log_refuses_says_so_once_and_counts(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    writer.room_again(writer.log.disk_bytes + RESERVED_BYTES + MAX_ENTRY_BYTES - 1)
    answers = [writer.take(submission()).answer for _ in range(3)]
    assert {answer.reason for answer in answers if isinstance(answer, NotRecorded)} == {"full"}
    assert writer.full
    writer.room_again(None)
    assert not writer.full
    assert [entry.event.kind for entry in entries(writer)] == ["log-full", "events-refused"]
    assert entries(writer)[1].event.fields["count"] == 3
    assert isinstance(writer.take(submission()).answer, Recorded)


def test_what_is_over_the_rate_is_counted_per_sender(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, rate=2)
    answers = [writer.take(submission()).answer for _ in range(5)]
    assert [isinstance(answer, Recorded) for answer in answers] == [True, True, False, False, False]
    assert answers[-1] == NotRecorded(reason="rate", detail="this sender says more than its rate allows")
    assert isinstance(writer.take(submission(sender=OTHER)).answer, Recorded)
    assert not writer.tell_suppressed(NOW)
    assert writer.tell_suppressed(Moment(BOOT, 2_000_000, 0))
    assert entries(writer)[-1].event.fields == {"sender": "edgeseal-inference.service", "count": 3}


def test_buckets_fill_again_and_security_has_its_own() -> None:
    limits = Limits(rate=10, burst=1)
    assert [limits.admit(SENDER, 1, security=False) for _ in range(2)] == [True, False]
    assert limits.admit(SENDER, 1, security=True)
    assert not limits.admit(SENDER, 90_000, security=False)
    assert limits.admit(SENDER, 200_000, security=False)
    assert limits.to_tell(200_000, at_once=True) == [("edgeseal-inference.service", 2)]
    assert limits.to_tell(200_000, at_once=True) == []


def test_senders_beyond_number_are_forgotten_but_not_what_they_lost() -> None:
    limits = Limits(rate=1, burst=1)
    assert [limits.admit(OTHER, 1, security=False) for _ in range(2)] == [True, False]
    for uid in range(1000, 1000 + 2 * MAX_SENDERS):
        assert limits.admit(Sender(uid=uid, pid=1, unit=""), 2, security=False)
    assert limits.to_tell(3, at_once=True) == [("edgeseal-update.service", 1)]
    assert name_of(Sender(uid=1000, pid=1, unit="")) == "user 1000"


YEARS_US = 10 * 366 * 86_400_000_000


def moment(seconds: float, *, moved_us: int = 0, quality: TimeQuality = "unknown") -> Moment:
    return Moment(BOOT, int(seconds * 1e6), 1_700_000_000_000_000 + int(seconds * 1e6) + moved_us, quality)


@pytest.mark.parametrize("moved_us", [600_000, -600_000, YEARS_US, -YEARS_US])
def test_a_step_of_the_clock_is_seen_once(moved_us: int) -> None:
    watch = ClockWatch(moment(0))
    assert watch.look(moment(5)) == []
    [event] = watch.look(moment(10, moved_us=moved_us))
    assert event.kind == "clock-stepped"
    assert event.fields["milliseconds"] == abs(moved_us) // 1000
    assert event.fields["forward"] == (moved_us > 0)
    assert watch.look(moment(15, moved_us=moved_us)) == []


def test_slewing_is_no_step() -> None:
    watch = ClockWatch(moment(0))
    assert watch.look(moment(5, moved_us=2_500)) == []


def test_a_change_of_the_time_source_is_told() -> None:
    watch = ClockWatch(moment(0))
    [event] = watch.look(moment(1, quality="synchronised"))
    assert event.sentence() == "The time source was unknown, it is synchronised."


def test_a_clock_that_is_behind() -> None:
    assert behind(moment(5).wall_us, moment(5)) is None
    event = behind(moment(5).wall_us + YEARS_US, moment(5))
    assert event is not None
    assert event.fields["milliseconds"] == YEARS_US // 1000


def test_what_was_booted(tmp_path: Path) -> None:
    (tmp_path / "cmdline").write_text(f"quiet roothash={'ab' * 32} ro")
    system = System(command_line=tmp_path / "cmdline", root=tmp_path, blocks=tmp_path / "none")
    event = boot_event(system, None)
    assert event.sentence() == (
        f"Slot unknown was booted, root hash {'ab' * 32}; nothing measured it: there is no TPM."
    )
    (tmp_path / "cmdline").write_text("roothash=short")
    broken = boot_event(system, Tpm(lambda _: b"short", pause=lambda _: None))
    assert broken.fields == {"slot": "unknown", "root_hash": "unknown", "reason": "TPM: an answer of 5 bytes"}


def test_the_slot_is_that_of_the_partition_below_the_root(tmp_path: Path) -> None:
    device = tmp_path.stat().st_dev
    slaves = tmp_path / "blocks" / f"{os.major(device)}:{os.minor(device)}" / "slaves"
    for name in ("root-b", "root-b-verity"):
        (slaves / name).mkdir(parents=True)
        (slaves / name / "uevent").write_text(f"DEVTYPE=partition\nPARTNAME={name}\n")
    assert booted_slot(System(root=tmp_path, blocks=tmp_path / "blocks")) == "b"


def test_credentials_are_told_by_digest_and_secrets_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "device.json").write_bytes(b"{}")
    for name in ("device-id", "client-key", "client-certificate"):
        (tmp_path / f"edgeseal.{name}").write_bytes(b"")
    told = [event.sentence() for event in configuration_events(tmp_path / "device.json", tmp_path)]
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert told == [
        "The device configuration with SHA-256 44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a is in"
        " force.",
        f"The site's credential edgeseal.client-certificate with SHA-256 {empty} is in force.",
        f"The site's credential edgeseal.device-id with SHA-256 {empty} is in force.",
    ]


def test_keys_over_a_cut_at_every_step(tmp_path: Path) -> None:
    """Whatever the cut leaves, there is a key that signs; an old one does not come back after its successor signed."""
    later = Moment("2" * 32, 5, 5)
    keys = keyring(tmp_path / "state")
    old = keys.vkeys[1]
    handover = keys.begin(7, bytes(32), later)
    assert keys.vkeys[1] == handover.vkey != old

    dropped = reopened(tmp_path)
    with pytest.raises(EdgesealError, match="a change of the epoch was cut and has not been looked at"):
        dropped.signers()
    dropped.recover(lambda _index: None)  # the entry was not durable
    assert (dropped.vkeys[1], dropped.epoch) == (old, 1)
    assert not (tmp_path / "state" / "epoch-next.key").exists()

    again = dropped.begin(7, bytes(32), later)
    finished = reopened(tmp_path)
    finished.recover(lambda index: again.vkey if index == 7 else None)
    assert (finished.vkeys[1], finished.epoch) == (again.vkey, 2)
    assert finished.is_due(later, "boot") is False

    third = finished.begin(9, bytes(32), Moment("3" * 32, 5, 5))
    (tmp_path / "state" / "epoch-next.key").replace(tmp_path / "state" / "epoch.key")  # cut after the rename
    renamed = reopened(tmp_path)
    renamed.recover(lambda _index: third.vkey)
    assert (renamed.vkeys[1], renamed.epoch) == (third.vkey, 3)


def reopened(directory: Path) -> Keyring:
    keys = open_keyring(directory / "state")
    assert keys is not None
    return keys


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("log.key", bytes(32), "the key log.key is destroyed or damaged: 32 bytes"),
        ("log.key", b"short", "the key log.key is destroyed or damaged: 5 bytes"),
        ("keys.json", b"{}", "the state of the log's keys is damaged: state of the audit log: Object missing required"),
    ],
)
def test_damaged_keys(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    keyring(tmp_path / "state")
    (tmp_path / "state" / name).write_bytes(data)
    with pytest.raises((EdgesealError, DecodeError)) as caught:
        reopened(tmp_path)
    assert str(caught.value).startswith(message)


def test_a_day_of_running_begins_an_epoch(tmp_path: Path) -> None:
    keys = keyring(tmp_path / "state")
    day = Moment(BOOT, NOW.monotonic_us + 86_400_000_000, 0)
    assert [keys.is_due(day, "boot"), keys.is_due(day, "day"), keys.is_due(NOW, "day")] == [False, True, False]
    assert keys.is_due(Moment("2" * 32, 0, 0), "day")
