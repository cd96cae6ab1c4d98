"""The other services' side of the log: what waits, what does not, and what is counted when the writer is slow."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from pathlib import Path

import pytest

from appliance.core.errors import EdgesealError
from appliance.formats.audit_event import (
    AuditEvent,
    NotRecorded,
    Recorded,
    decode_event,
    encode_audit_answer,
)
from appliance.machine.audit_client import POSTED_AT_MOST, AuditClient


class SlowWriter:
    """Answers nothing until it is let go."""

    def __init__(self, path: Path) -> None:
        self.events: list[AuditEvent] = []
        self.go = threading.Event()
        self.refuse = False
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        self._listener.listen(8)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        while data := connection.recv(8192):
            self.go.wait(60)
            if self.refuse:
                connection.send(encode_audit_answer(NotRecorded(reason="full", detail="the log has used its 1 bytes")))
                continue
            self.events.append(decode_event(data))
            with contextlib.suppress(BrokenPipeError):  # nobody waits for it any more
                connection.send(encode_audit_answer(Recorded(sequence=len(self.events))))


def test_posting_never_waits_and_what_is_over_is_counted(tmp_path: Path) -> None:
    writer, client = SlowWriter(tmp_path / "s"), AuditClient(str(tmp_path / "s"))
    begun = time.monotonic()
    for number in range(POSTED_AT_MOST + 100):
        client.post("service-started", service=str(number))
    assert time.monotonic() - begun < 5
    writer.go.set()
    client.close()
    kept = [event.fields["service"] for event in writer.events if event.kind == "service-started"]
    assert kept == [str(number) for number in range(len(kept))]
    lost = [event for event in writer.events if event.kind == "events-lost"]
    assert sum(int(event.fields["count"]) for event in lost) == POSTED_AT_MOST + 100 - len(kept)
    assert len(kept) in (POSTED_AT_MOST, POSTED_AT_MOST + 1)  # one may be on its way


def test_an_event_whose_answer_nobody_waits_for_is_recorded(tmp_path: Path) -> None:
    writer = SlowWriter(tmp_path / "s")
    client = AuditClient(str(tmp_path / "s"), timeout_s=0.01)
    with pytest.raises(EdgesealError, match="cannot record boot-judged: the audit log is not reachable: timed out"):
        client.record("boot-judged", reason="x", seconds=1)
    client.close()
    writer.go.set()
    end = time.monotonic() + 30
    while not writer.events:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_security_event_is_not_posted(tmp_path: Path) -> None:
    with pytest.raises(EdgesealError, match="boot-judged is a security event, it has to be waited for"):
        AuditClient(str(tmp_path / "none")).post("boot-judged", reason="x", seconds=1)


def test_what_was_refused_is_counted_and_told_later(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    writer, client = SlowWriter(tmp_path / "s"), AuditClient(str(tmp_path / "s"))
    writer.refuse = True
    writer.go.set()
    client.post("service-started", service="refused")
    end = time.monotonic() + 30
    while "cannot record service-started: the log has used its 1 bytes" not in capsys.readouterr().err:
        assert time.monotonic() < end
        time.sleep(0.01)
    writer.refuse = False
    client.post("service-started", service="kept")
    client.close()
    assert [event.kind for event in writer.events] == ["service-started", "events-lost"]
    assert writer.events[1].fields == {"count": 1, "reason": "the log's writer was slow or gone"}
