"""How updates ended, told to the plant: kept on the disk until the uplink has them in its own spool."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from appliance.core.clock import Clock
from appliance.core.durable import write_durable
from appliance.core.errors import DecodeError, EdgesealError
from appliance.formats.alarm import Alarm
from appliance.formats.update_report import Outcome, UpdateReport, decode_update_report, encode_update_report
from appliance.formats.update_state import Trial
from appliance.formats.uplink_message import Accepted, Refused
from appliance.machine.notify import say

MOST = 16
"""Reports that wait at one time; of more, the oldest go."""


class Uplink(Protocol):
    """What is used of an UplinkClient."""

    def report(self, report: UpdateReport) -> Accepted | Refused:
        """See UplinkClient."""

    def alarm(self, alarm: Alarm) -> Accepted | Refused:
        """See UplinkClient."""


class Reports:
    """directory: where they wait. device: the site's name of it, asked when there is something to tell."""

    def __init__(self, directory: Path, uplink: Uplink, *, device: Callable[[], str], clock: Clock) -> None:
        self._directory = directory
        self._uplink = uplink
        self._device = device
        self._clock = clock
        self._told: str | None = None
        for rest in directory.glob(".*.json.*"):  # of a write that a power cut ended
            rest.unlink()

    def keep(self, trial: Trial, outcome: Outcome, *, running: int, reason: str) -> None:
        """An update has ended. A disk that is full costs the report, never the device: the audit log has it, too."""
        now = self._clock()
        report = UpdateReport(
            device=self._device(),
            boot_id=now.boot_id,
            monotonic_us=now.monotonic_us,
            transaction=trial.transaction,
            version=trial.version,
            running=running,
            outcome=outcome,
            reason=reason[:300] or "no reason is known",
        )
        try:
            self._write(f"{trial.version:010}-{trial.transaction}.json", encode_update_report(report))
        except OSError as error:
            say(f"<3>an update report is lost: {error}")

    def send(self) -> None:
        """Hand over what waits; what cannot be handed over now waits on."""
        for path in self._waiting():
            try:
                report = decode_update_report(path.read_bytes())
                answer = self._uplink.report(report)
            except (OSError, EdgesealError) as error:
                if not isinstance(error, DecodeError):
                    self._wait(str(error))
                    return
                say(f"<3>a report is thrown away: {error}")
            else:
                if isinstance(answer, Refused) and answer.reason in ("full", "unwritable"):
                    self._wait(answer.detail)
                    return
                if isinstance(answer, Refused):
                    say(f"<3>the uplink refuses a report: {answer.detail}")
                else:
                    with contextlib.suppress(OSError, EdgesealError):  # the report says the same
                        self._uplink.alarm(_alarm_of(report))
            path.unlink()

    def _wait(self, reason: str) -> None:
        if reason != self._told:
            say(f"<4>an update report waits for the uplink: {reason}")
        self._told = reason

    def _write(self, name: str, data: bytes) -> None:
        self._directory.mkdir(mode=0o700, exist_ok=True)
        write_durable(self._directory / name, data)
        for old in self._waiting()[:-MOST]:
            old.unlink()

    def _waiting(self) -> list[Path]:
        return sorted(self._directory.glob("*.json")) if self._directory.is_dir() else []


def _alarm_of(report: UpdateReport) -> Alarm:
    """Active when the device fell back; the next version that is confirmed ends it."""
    return Alarm(
        device=report.device,
        boot_id=report.boot_id,
        name="update-fell-back",
        active=report.outcome == "fell-back",
        text=f"version {report.version}: {report.reason}"[:256],
        monotonic_us=report.monotonic_us,
    )
