"""Who says what: identities are the kernel's, and no sender silences another."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.formats.audit_event import NotRecorded, Recorded
from appliance.formats.device import AuditConfig
from tests.integration.audit.service_lab import AuditLab, Raw, packet
from tests.integration.services_harness import wait_until

FORGER = """
import os, socket, sys
os.setgroups([]); os.setgid({uid}); os.setuid({uid})
sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
sock.connect({socket!r})
for data in {packets!r}:
    sock.sendall(data)
    print(sock.recv(4096).decode(), flush=True)
"""
FLOODER = """
import os, socket, sys
os.setgroups([]); os.setgid({uid}); os.setuid({uid})
sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
sock.connect({socket!r})
refused = 0
for number in range({rounds}):
    for _ in range(32):
        sock.send({packet!r})
    for _ in range(32):
        refused += b'"rate"' in sock.recv(4096)
print(refused, flush=True)
"""
HOARDER = """
import os, socket
os.setgroups([]); os.setgid({uid}); os.setuid({uid})
held, closed = [], 0
for _ in range(100):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.connect({socket!r})
    try:
        sock.send(b"{{}}")
        closed += not sock.recv(4096)
    except OSError:
        closed += 1
    held.append(sock)
print(closed, "of 100 were closed", flush=True)
input()
"""
INFERENCE = 703


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory that other users can walk to; pytest's own cannot be."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_sender_that_claims_to_be_another_service(open_place: Path) -> None:
    """It may say what it wants in a field; who said it is the kernel's word, and nobody else's."""
    lab = AuditLab(open_place)
    honest = packet("service-started", service="edgeseal-update")
    claims = honest.replace(b'"schema":1', b'"schema":1,"sender":{"pid":1,"uid":704,"unit":"edgeseal-update.service"}')
    packets = [honest, claims, packet("log-closed"), packet("epoch-began", epoch=9, vkey="x", handover="")]
    with lab.running():
        lab.socket.chmod(0o666)
        program = FORGER.format(uid=INFERENCE, socket=str(lab.socket), packets=packets)
        child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        said, _ = child.communicate(timeout=60)
    recorded, unknown, closed, epoch = said.splitlines()
    assert '"recorded"' in recorded
    assert unknown == (
        '{"kind":"refused","reason":"malformed","detail":"audit event: Object contains unknown field `sender`"}'
    )
    assert closed == '{"kind":"refused","reason":"not-allowed","detail":"only the log itself says log-closed"}'
    assert '"not-allowed"' in epoch
    [entry] = lab.told("service-started")
    assert (entry.sender.uid, entry.sender.pid) == (INFERENCE, child.pid)
    assert lab.kinds().count("log-closed") == lab.kinds().count("epoch-began") == 1


def test_a_flood_of_one_sender_leaves_room_for_another(open_place: Path) -> None:
    """What the flood lost is counted to the last event; a security event of another gets through at once."""
    rate, burst, rounds = 50, 100, 400
    lab = AuditLab(open_place, AuditConfig(sender_rate=rate, sender_burst=burst))
    slowest = 0.0
    with lab.running() as client:
        lab.socket.chmod(0o666)
        program = FLOODER.format(
            uid=INFERENCE, socket=str(lab.socket), rounds=rounds, packet=packet("service-started", service="flood")
        )
        flood = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        begun = time.monotonic()
        count = 0
        while flood.poll() is None:
            before = time.monotonic()
            client.record("boot-judged", reason="not drowned", seconds=count)
            slowest = max(slowest, time.monotonic() - before)
            count += 1
            time.sleep(0.05)
        lasted = time.monotonic() - begun
        assert flood.stdout is not None
        refused = int(flood.stdout.read())
    kept = lab.kinds().count("service-started")
    assert refused + kept == rounds * 32
    assert refused > 0
    assert kept <= burst + rate * (lasted + 1)
    suppressed = [entry.event.fields for entry in lab.told("events-suppressed")]
    assert {fields["sender"] for fields in suppressed} == {f"user {INFERENCE}"} or all(
        str(fields["sender"]).endswith((".service", ".scope")) for fields in suppressed
    )
    assert sum(int(fields["count"]) for fields in suppressed) == refused
    assert len(lab.told("boot-judged")) == count > 0
    assert slowest < 2.0


def test_a_senders_own_chatter_does_not_hide_its_security_events(tmp_path: Path) -> None:
    lab = AuditLab(tmp_path, AuditConfig(sender_rate=1, sender_burst=10))
    with lab.running():
        raw = Raw(lab.socket)
        answers = [raw.say(packet("service-started", service="chatter")) for _ in range(15)]
        assert [isinstance(answer, Recorded) for answer in answers].count(True) in (10, 11)
        refused = answers[-1]
        assert refused == NotRecorded(reason="rate", detail="this sender says more than its rate allows")
        assert isinstance(raw.say(packet("boot-judged", reason="heard", seconds=1)), Recorded)
        wait_until(lambda: lab.told("events-suppressed"), "the gap in the log")
        raw.socket.close()


def test_answers_keep_their_order_and_wait_for_what_is_durable(tmp_path: Path) -> None:
    """Pipelined: refusals between events of both kinds, all answered in the order of the questions."""
    lab = AuditLab(tmp_path)
    with lab.running():
        raw = Raw(lab.socket)
        asked = [
            packet("service-started", service="a"),
            b"{}",
            packet("boot-judged", reason="b", seconds=1),
            b"x" * 5000,
        ]
        for _ in range(20):
            for data in asked:
                raw.socket.sendall(data)
        answers = [raw.answer() for _ in range(80)]
        raw.socket.close()
    kinds = ["recorded" if isinstance(answer, Recorded) else answer.reason for answer in answers]
    assert kinds == ["recorded", "malformed", "recorded", "too-large"] * 20
    indexes = [answer.sequence for answer in answers if isinstance(answer, Recorded)]
    assert indexes == sorted(indexes)
    assert len(lab.entries()) > indexes[-1]


def test_one_user_cannot_take_all_connections(open_place: Path) -> None:
    lab = AuditLab(open_place)
    with lab.running() as client:
        lab.socket.chmod(0o666)
        program = HOARDER.format(uid=INFERENCE, socket=str(lab.socket))
        child = subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "84 of 100 were closed\n"
        client.record("boot-judged", reason="another user", seconds=1)
        child.communicate("done")


def test_many_connections_at_once(tmp_path: Path) -> None:
    lab = AuditLab(tmp_path)
    recorded: list[int] = []
    with lab.running():

        def say(name: str) -> None:
            raw = Raw(lab.socket)
            for _ in range(50):
                answer = raw.say(packet("service-started", service=name))
                assert isinstance(answer, Recorded)
                recorded.append(answer.sequence)
            raw.socket.close()

        threads = [threading.Thread(target=say, args=(str(number),)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(set(recorded)) == 600
    entries = lab.entries()
    assert {entries[index].event.kind for index in recorded} == {"service-started"}
