"""How updates ended: kept until the uplink has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.core.clock import Moment
from appliance.core.errors import EdgesealError
from appliance.formats.alarm import Alarm
from appliance.formats.update_report import UpdateReport
from appliance.formats.update_state import Trial
from appliance.formats.uplink_message import Accepted, Refused
from appliance.update.reports import MOST, Reports


class Answers:
    """An uplink that answers as it is told."""

    def __init__(self, *answers: Accepted | Refused | Exception) -> None:
        self.answers = list(answers)
        self.taken: list[int] = []
        self.alarms: list[tuple[str, bool, str]] = []

    def report(self, report: UpdateReport) -> Accepted | Refused:
        """The next answer."""
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        self.taken.append(report.version)
        return answer

    def alarm(self, alarm: Alarm) -> Accepted:
        """Always taken."""
        self.alarms.append((alarm.name, alarm.active, alarm.text))
        return Accepted(id=1, stream="alarm", sequence=1)


TAKEN = Accepted(id=1, sequence=1)


@pytest.mark.parametrize(
    ("first", "kept"),
    [
        (TAKEN, 0),
        (ConnectionResetError("gone"), 2),
        (EdgesealError("no sense"), 2),
        (Refused(id=1, reason="full", detail="the spool holds 9 bytes"), 2),
        (Refused(id=1, reason="unwritable", detail="the spool cannot be written: disk I/O error"), 2),
        (Refused(id=1, reason="not-allowed", detail="the report names another device"), 0),
    ],
    ids=["taken", "unreachable", "nonsense", "full", "no disk", "refused for good"],
)
def test_a_report_waits_until_it_is_taken(tmp_path: Path, first: Accepted | Refused | Exception, kept: int) -> None:
    uplink = Answers(first, TAKEN)
    reports = Reports(tmp_path / "reports", uplink, device=lambda: "cell-7", clock=lambda: Moment("0" * 32, 1, 0))
    for version in (9, 10):
        reports.keep(trial(version), "confirmed", running=version, reason="good")
    reports.send()
    assert len(list((tmp_path / "reports").iterdir())) == kept
    assert kept or uplink.taken[-1] == 10, "the older one first"


def test_a_fall_back_is_an_alarm_that_the_next_confirmed_version_ends(tmp_path: Path) -> None:
    uplink = Answers(TAKEN, Refused(id=1, reason="malformed", detail="no"), TAKEN)
    reports = Reports(tmp_path / "reports", uplink, device=lambda: "cell-7", clock=lambda: Moment("0" * 32, 1, 0))
    reports.keep(trial(8), "fell-back", running=7, reason="sick")
    reports.keep(trial(9), "fell-back", running=7, reason="refused, so nobody hears of it")
    reports.keep(trial(10), "confirmed", running=10, reason="good")
    reports.send()
    assert uplink.alarms == [
        ("update-fell-back", True, "version 8: sick"),
        ("update-fell-back", False, "version 10: good"),
    ]


def test_a_report_that_a_cut_left_damaged_holds_nothing_up(tmp_path: Path) -> None:
    uplink = Answers(TAKEN)
    reports = Reports(tmp_path / "reports", uplink, device=lambda: "cell-7", clock=lambda: Moment("0" * 32, 1, 0))
    reports.keep(trial(2), "confirmed", running=2, reason="")
    (tmp_path / "reports/0000000001-x.json").write_bytes(b"{")
    reports.send()
    assert (list((tmp_path / "reports").iterdir()), uplink.taken) == ([], [2])


def test_the_oldest_reports_go_when_nobody_takes_them(tmp_path: Path) -> None:
    reports = Reports(tmp_path / "r", Answers(), device=lambda: "cell-7", clock=lambda: Moment("0" * 32, 1, 0))
    for version in range(1, MOST + 3):
        reports.keep(trial(version), "fell-back", running=1, reason="sick")
    names = sorted(path.name[:10] for path in (tmp_path / "r").iterdir())
    assert (len(names), names[0], names[-1]) == (MOST, "0000000003", "0000000018")


def test_what_a_power_cut_left_of_a_write_goes(tmp_path: Path) -> None:
    (tmp_path / ".0000000002-x.json.k3j2").write_bytes(b"half")
    Reports(tmp_path, Answers(), device=lambda: "cell-7", clock=lambda: Moment("0" * 32, 1, 0))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_costs_the_report_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "reports").write_bytes(b"in the way")
    reports = Reports(tmp_path / "reports", Answers(), device=lambda: "cell-7", clock=lambda: Moment("0" * 32, 1, 0))
    reports.keep(trial(2), "confirmed", running=2, reason="good")
    assert "an update report is lost" in capsys.readouterr().err


def trial(version: int) -> Trial:
    return Trial(
        transaction="0123456789abcdef",
        release="a" * 64,
        version=version,
        security_epoch=0,
        slot="b",
        step="activated",
        confirm="offline",
    )
