"""What the audit service promises, over kill -9, restarts, boots and a clock that jumps."""

from __future__ import annotations

import contextlib
import random
import threading
from pathlib import Path

import pytest

from appliance.core.errors import DecodeError
from appliance.formats.audit_event import Recorded
from appliance.formats.checkpoint import decode_checkpoint
from appliance.formats.device import AuditConfig
from appliance.formats.signed_note import VerifierKey, decode_vkey, open_note
from tests.integration.audit.service_lab import FIRST_BOOT, SECOND_BOOT, THIRD_BOOT, AuditLab, Raw, packet
from tests.integration.services_harness import wait_until
from tests.support.audit_log import check_signature

KILLS = 50
YEAR_S = 366 * 86_400


def test_everything_acknowledged_survives_fifty_kills(tmp_path: Path) -> None:
    lab, dice = AuditLab(tmp_path), random.Random(6)
    acknowledged: dict[int, str] = {}
    for round_number in range(KILLS):
        service = lab.start()
        raw = Raw(lab.socket)
        killer = threading.Timer(dice.uniform(0.0, 0.1), service.kill)
        killer.start()
        with contextlib.suppress(OSError, DecodeError):  # an empty answer: it was killed
            for number in range(100_000):
                name = f"{round_number}-{number}"
                security = packet("boot-judged", reason=name, seconds=number)
                answer = raw.say(security if dice.random() < 0.5 else packet("service-started", service=name))
                assert isinstance(answer, Recorded)
                acknowledged[answer.sequence] = name
        raw.socket.close()
        killer.join()
    with lab.running():
        pass
    entries = lab.entries()
    assert len(acknowledged) > KILLS
    for index, name in acknowledged.items():
        fields = entries[index].event.fields
        assert name in (fields.get("service"), fields.get("reason"))
    assert not list(tmp_path.glob("tlog.rejected-*"))
    assert len(lab.told("boot-started")) == 1
    assert len(lab.told("log-opened")) == KILLS + 1


def test_each_boot_is_an_epoch_of_keys_that_the_one_before_hands_over(tmp_path: Path) -> None:
    lab = AuditLab(tmp_path)
    seeds = []
    for boot in (FIRST_BOOT, SECOND_BOOT, THIRD_BOOT):
        lab.boot(boot)
        with lab.running() as client:
            client.record("service-started", service=boot[0])
        seeds.append((lab.directory / "state" / "epoch.key").read_bytes())
    first, second, third = lab.told("epoch-began")
    assert [entry.event.fields["epoch"] for entry in (first, second, third)] == [1, 2, 3]
    assert first.event.fields["handover"] == ""
    log_key = decode_vkey((lab.log / "vkey").read_text().splitlines()[0])
    for before, entry in ((first, second), (second, third)):
        key = decode_vkey(str(before.event.fields["vkey"]))
        opened = open_note(str(entry.event.fields["handover"]).encode(), [log_key, key], check_signature)
        assert [one.key for one in opened.verified] == [log_key, key]
        handover = decode_checkpoint(opened.text)
        assert (handover.size, handover.extensions) == (
            entry.index,
            (f"epoch {entry.event.fields['epoch']} {entry.event.fields['vkey']}",),
        )
    present = decode_vkey(str(third.event.fields["vkey"]))
    assert signers(lab, [log_key, present]) == [log_key, present]
    assert len(set(seeds)) == 3
    found = b"".join(path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file())
    assert seeds[2] in found
    assert seeds[0] not in found
    assert seeds[1] not in found


def test_a_restart_in_the_same_boot_begins_no_epoch(tmp_path: Path) -> None:
    lab = AuditLab(tmp_path, AuditConfig(epoch="day"))
    for _ in range(2):
        with lab.running():
            pass
    assert len(lab.told("epoch-began")) == 1
    assert [entry.event.fields["ending"] for entry in lab.told("log-opened")] == ["never, this log is new", "cleanly"]


def test_a_day_of_running_is_an_epoch(tmp_path: Path) -> None:
    lab = AuditLab(tmp_path, AuditConfig(epoch="day"))
    with lab.running() as client:
        client.record("service-started", service="today")
        lab.let_pass(86_400)
        wait_until(lambda: len(lab.told("epoch-began")) == 2, "the next epoch")
        client.record("service-started", service="tomorrow")
    second = lab.told("epoch-began")[1]
    assert second.event.fields["epoch"] == 2
    assert second.boot == 1
    present = decode_vkey(str(second.event.fields["vkey"]))
    assert signers(lab, [present]) == [present]


@pytest.mark.parametrize(("years", "forward"), [(10, True), (-10, False)])
def test_a_clock_that_is_moved_by_ten_years(tmp_path: Path, years: int, forward: bool) -> None:
    lab = AuditLab(tmp_path)
    with lab.running() as client:
        client.record("service-started", service="before")
        lab.move_clock(years * YEAR_S)
        wait_until(lambda: lab.told("clock-stepped"), "the step in the log")
        client.record("service-started", service="after")
    [step] = lab.told("clock-stepped")
    assert step.event.fields["forward"] == forward
    assert abs(int(step.event.fields["milliseconds"]) - abs(years) * YEAR_S * 1000) < 60_000
    entries = lab.entries()
    assert [entry.monotonic_us for entry in entries] == sorted(entry.monotonic_us for entry in entries)


def test_a_boot_whose_clock_is_behind_the_one_before(tmp_path: Path) -> None:
    lab = AuditLab(tmp_path)
    with lab.running():
        pass
    lab.boot(SECOND_BOOT)
    lab.move_clock(-10 * YEAR_S)
    with lab.running():
        pass
    [behind] = lab.told("clock-behind")
    assert behind.boot == 2
    assert int(behind.event.fields["milliseconds"]) > 9 * YEAR_S * 1000


def test_keys_that_are_lost_begin_a_new_log_that_commits_to_the_old_one(tmp_path: Path) -> None:
    lab = AuditLab(tmp_path)
    (tmp_path / "log").write_bytes(b"one\ntwo\ntorn")
    with lab.running():
        pass
    old_note = (lab.log / "checkpoint").read_text()
    (tmp_path / "state" / "log.key").unlink()
    with lab.running():
        pass
    began, _, replaced, *_ = lab.entries()
    assert (began.event.kind, replaced.event.kind) == ("log-began", "log-replaced")
    assert began.event.fields["previous"] == old_note
    assert began.event.fields["reason"] == "cannot read the key log.key: No such file or directory"
    assert began.event.fields["old_log"] == "27dd8ed44a83ff94d557f9fd0412ed5a8cbca69ea04922d88c01184a07300a5a"
    assert replaced.event.fields["file"] == "tlog.rejected-1"
    assert (tmp_path / "tlog.rejected-1" / "checkpoint").read_text() == old_note
    assert str(began.event.fields["origin"]) not in old_note


def test_a_device_with_another_name_begins_a_new_log(tmp_path: Path) -> None:
    lab = AuditLab(tmp_path)
    with lab.running():
        pass
    (tmp_path / "credentials" / "edgeseal.device-id").write_text("line-4-cell-1")
    with lab.running():
        pass
    began = lab.entries()[0].event.fields
    assert str(began["origin"]).startswith("edgeseal.audit/line-4-cell-1/")
    assert began["reason"] == "the device is called line-4-cell-1 now"


def signers(lab: AuditLab, keys: list[VerifierKey]) -> list[VerifierKey]:
    """Which of `keys` signed the published checkpoint."""
    return [one.key for one in open_note((lab.log / "checkpoint").read_bytes(), keys, check_signature).verified]
