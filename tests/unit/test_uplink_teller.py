"""What the uplink tells the audit log, and how the other services ring."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from appliance.core.clock import Moment
from appliance.formats.uplink_message import (
    Accepted,
    Refused,
    UplinkAnswer,
    decode_uplink_request,
    encode_uplink_message,
)
from appliance.health import service as health
from appliance.machine.uplink_client import AlarmBell
from appliance.network.teller import Teller as NetworkTeller
from appliance.uplink.teller import WAITING, Teller

NOW = Moment("0b6f" * 8, 5, 0)


class Log:
    """An audit log that can stand still."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str, dict[str, Any]]] = []
        self.goes = threading.Event()

    def try_record(self, kind: str, result: str = "success", **fields: Any) -> None:
        """As the client's."""
        assert self.goes.wait(10)
        self.entries.append((kind, result, fields))

    def close(self) -> None:
        """As the client's."""


def make() -> tuple[Log, Teller]:
    log = Log()
    client: Any = log
    return log, Teller(client)


def test_a_log_that_stands_still_holds_nobody_up(capsys: pytest.CaptureFixture[str]) -> None:
    log, teller = make()
    for number in range(WAITING + 3):
        teller.tell("spool-full", stream="data", bytes=number)
    log.goes.set()
    teller.stop()
    assert WAITING <= len(log.entries) < WAITING + 3
    assert "<3>audit: the log does not answer: spool-full was not recorded" in capsys.readouterr().err


def test_a_state_is_told_once_until_it_is_over() -> None:
    log, teller = make()
    log.goes.set()
    for _ in range(2):
        teller.once("lost", "refused", kind="broker-lost", broker="b", reason="x" * 2000)
        teller.once("full", "data", kind="spool-full", stream="data", bytes=1)
    assert teller.was_told("full", "data")
    teller.forget("lost")
    teller.once("lost", "refused", kind="broker-lost", broker="b", reason="again")
    teller.stop()
    assert [(kind, result, str(fields.get("reason", ""))[:5]) for kind, result, fields in log.entries] == [
        ("broker-lost", "failure", "xxxxx"),
        ("spool-full", "failure", ""),
        ("broker-lost", "failure", "again"),
    ]
    assert len(str(log.entries[0][2]["reason"])) == 1024


def serve(path: Path, answers: list[UplinkAnswer]) -> list[Any]:
    """An uplink's socket with these answers; the requests."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(path))
    listener.listen()
    requests: list[Any] = []

    def work() -> None:
        with listener.accept()[0] as connection:
            for answer in answers:
                requests.append(decode_uplink_request(connection.recv(1 << 16)))
                connection.send(encode_uplink_message(answer))

    threading.Thread(target=work, daemon=True).start()
    return requests


def test_an_alarm_rings_when_its_state_changes_and_again_when_nobody_took_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "uplink.sock"
    bell = AlarmBell(str(path), "cell-7")
    bell.set("ruleset-drift", False, "never began", NOW)
    for _ in range(2):
        bell.set("ruleset-drift", True, "nobody is there", NOW)
    taken, refused = Accepted(id=1, stream="alarm", sequence=1), Refused(id=1, reason="full", detail="no room")
    requests = serve(path, [refused, taken, taken])
    for text in ("refused", "taken", "known"):
        bell.set("ruleset-drift", True, text, NOW)
    bell.set("ruleset-drift", False, "", NOW)
    assert [(one.alarm.active, one.alarm.text) for one in requests] == [
        (True, "refused"),
        (True, "taken"),
        (False, "no reason is known"),
    ]
    assert capsys.readouterr().err == (
        "<4>alarm ruleset-drift: the uplink did not take it: [Errno 2] No such file or directory\n"
    )


def test_drift_of_the_ruleset_is_an_alarm_until_it_is_mended() -> None:
    log = Log()
    log.goes.set()
    client: Any = log
    rung: list[tuple[bool, str]] = []
    teller = NetworkTeller(client, lambda active, text: rung.append((active, text)))
    teller.tell("ruleset-drift", "failure", differences="one rule more", count=1, by="pid 7", untold=0)
    teller.tell("service-started", service="x")
    teller.tell("ruleset-restored", milliseconds=4)
    teller.stop()
    assert rung == [(True, "one rule more"), (False, "the sealed ruleset is in force")]


def test_a_boot_that_was_judged_bad_is_an_alarm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    health._ring("edgeseal-inference.service failed", NOW)
    assert capsys.readouterr().err == "<4>no alarm: the site gave no credentials to this service\n"
    (tmp_path / "edgeseal.device-id").write_text("cell-7")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(health, "UPLINK_SOCKET", str(tmp_path / "uplink.sock"))
    requests = serve(tmp_path / "uplink.sock", [Accepted(id=1, stream="alarm", sequence=1)])
    health._ring("edgeseal-inference.service failed", NOW)
    [request] = requests
    assert (request.alarm.device, request.alarm.name, request.alarm.active, request.alarm.text) == (
        "cell-7",
        "boot-judged-bad",
        True,
        "edgeseal-inference.service failed",
    )
