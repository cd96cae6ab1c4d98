"""A slow or missing audit log holds nothing up."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from appliance.machine.audit_client import AuditClient
from appliance.network.teller import WAITING, Teller


class SlowAudit(AuditClient):
    """Answers when it is let to."""

    def __init__(self) -> None:
        super().__init__("/nonexistent")
        self.go = threading.Event()
        self.recorded: list[str] = []

    def try_record(self, kind: str, result: str = "success", **fields: str | int | bool) -> None:
        assert self.go.wait(30)
        self.recorded.append(f"{kind} {result} {fields}")


def test_events_are_recorded_in_order_and_the_rest_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    audit = SlowAudit()
    teller = Teller(audit)
    for number in range(WAITING + 10):
        teller.tell("slot-filled", slot=str(number), addresses="")
    assert audit.recorded == []
    audit.go.set()
    teller.stop()
    assert audit.recorded[:2] == [
        "slot-filled success {'slot': '0', 'addresses': ''}",
        "slot-filled success {'slot': '1', 'addresses': ''}",
    ]
    said = capfd.readouterr().err.splitlines()
    assert len(audit.recorded) + len(said) == WAITING + 10
    assert (
        said[-1]
        == f"<3>the audit log does not keep up, not recorded: slot-filled {{'slot': '{WAITING + 9}', 'addresses': ''}}"
    )


def test_without_an_audit_log_it_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    teller = Teller(AuditClient(str(tmp_path / "audit.sock")))
    teller.tell("service-started", service="edgeseal-network")
    teller.stop()
    assert "cannot record service-started: the audit log is not reachable" in capfd.readouterr().err
