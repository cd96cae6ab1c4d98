"""The device's doors: programs, sockets, credentials, systemd, and the test agent behind them."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from appliance.agent.requests import carry_out
from appliance.agent.service import find_port, session
from appliance.core.errors import DecodeError, EdgesealError, InputError
from appliance.formats.agent import (
    Answer,
    Hello,
    Python,
    Read,
    Run,
    Write,
    agent_splitter,
    decode_from_device,
    encode_agent_message,
)
from appliance.machine.audit_client import AuditClient
from appliance.machine.clock import system_clock
from appliance.machine.config import load_device_config
from appliance.machine.credentials import Credentials
from appliance.machine.entry import StopFlag, run_service
from appliance.machine.exec import run
from appliance.machine.notify import Notifier
from appliance.machine.packets import MAX_CONNECTIONS, PacketClient, PacketServer, passed_socket, unit_of

PYTHON = sys.executable


@pytest.fixture
def listener(tmp_path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made.bind(str(tmp_path / "sock"))
    made.listen(128)
    return made


def connected(listener: socket.socket) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.connect(listener.getsockname())
    client.settimeout(30)
    return client


def test_a_program_runs_with_a_fixed_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "/var/evil.so")
    output = run([PYTHON, "-I", "-c", "import os; print(sorted(os.environ))"], reason="look", timeout_s=60)
    assert b"LD_PRELOAD" not in output
    assert b"'LC_ALL', 'PATH'" in output


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["/nonexistent"], "cannot do it: /nonexistent: No such file or directory"),
        ([PYTHON, "-c", "raise SystemExit('it is wet')"], f"cannot do it: {PYTHON} exited 1: it is wet"),
        ([PYTHON, "-c", "print('secret'); raise SystemExit(3)"], f"cannot do it: {PYTHON} exited 3: it said nothing"),
    ],
)
def test_a_program_that_fails(command: list[str], message: str) -> None:
    with pytest.raises(EdgesealError) as caught:
        run(command, reason="do it", timeout_s=60)
    assert str(caught.value) == message


def test_packets_name_their_sender(listener: socket.socket) -> None:
    server = PacketServer(listener, max_packet=8)
    client = connected(listener)
    client.send(b"hello")
    client.send(b"far too long")
    assert server.round(30) == []
    packets = server.round(30)
    assert [packet.data for packet in packets] == [b"hello", b"far too l"]
    peer = packets[0].connection.peer
    assert (peer.pid, peer.uid) == (os.getpid(), os.getuid())
    server.answer(packets[0].connection, b"yes")
    assert client.recv(100) == b"yes"
    server.close()
    assert client.recv(100) == b""


def test_a_client_that_does_not_read_its_answers_is_closed(listener: socket.socket) -> None:
    server = PacketServer(listener, max_packet=8)
    client = connected(listener)
    client.send(b"ask")
    server.round(30)
    [packet] = server.round(30)
    for _ in range(10_000):
        server.answer(packet.connection, bytes(4096))
    assert packet.connection.socket.fileno() == -1
    client.close()


def test_there_is_a_limit_on_connections(listener: socket.socket) -> None:
    server = PacketServer(listener, max_packet=8)
    clients = [connected(listener) for _ in range(MAX_CONNECTIONS + 1)]
    for _ in clients:
        server.round(30)
    assert clients[-1].recv(1) == b""
    clients[0].close()
    server.round(30)
    again = connected(listener)
    again.send(b"ok")
    server.round(30)
    assert [packet.data for packet in server.round(30)] == [b"ok"]
    server.close()


def test_a_client_says_when_the_service_hangs_up(listener: socket.socket, tmp_path: Path) -> None:
    client = PacketClient(str(tmp_path / "sock"), timeout_s=30)
    thread = threading.Thread(target=lambda: listener.accept()[0].close())
    thread.start()
    with pytest.raises(ConnectionError):
        client.ask(b"anyone?")
    thread.join()
    with pytest.raises(FileNotFoundError):
        PacketClient(str(tmp_path / "nobody"), timeout_s=1).ask(b"x")


def test_an_audit_log_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    client = AuditClient(str(tmp_path / "nobody"))
    with pytest.raises(EdgesealError, match="cannot record service-started: the audit log is not reachable"):
        client.record("service-started", service="x")
    client.try_record("service-started", service="x")
    assert capsys.readouterr().err.startswith("<3>audit: cannot record service-started")


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("0::/system.slice/edgeseal-uplink.service\n", "edgeseal-uplink.service"),
        ("12:pids:/x\n0::/user.slice/session-1.scope\n", "session-1.scope"),
        ("0::/\n", ""),
        ("1:name=systemd:/system.slice/forged.service\n", ""),
    ],
)
def test_the_unit_of_a_process(text: str, unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda _: text)
    assert unit_of(1) == unit


def test_a_process_that_has_gone_has_no_unit() -> None:
    assert unit_of(2**22 + 1) == ""


def test_without_a_passed_socket_a_service_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", "1")
    monkeypatch.setenv("LISTEN_FDS", "1")
    with pytest.raises(EdgesealError, match="no socket was passed to this service"):
        passed_socket()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "credential edgeseal.device-id is missing"),
        (b"", "credential edgeseal.device-id: not one printable line"),
        (b"a\nb", "credential edgeseal.device-id: not one printable line"),
        ("ä".encode(), "credential edgeseal.device-id: not plain ASCII text"),
        (b"x" * 65_537, "credential edgeseal.device-id: 65537 bytes, at most 65536"),
    ],
)
def test_a_credential_that_cannot_be_used(tmp_path: Path, data: bytes | None, message: str) -> None:
    if data is not None:
        (tmp_path / "edgeseal.device-id").write_bytes(data)
    with pytest.raises(EdgesealError) as caught:
        Credentials(tmp_path).text("device-id")
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["line/3", "#", "-x", "x" * 64])
def test_a_device_id_is_one_topic_level(tmp_path: Path, name: str) -> None:
    (tmp_path / "edgeseal.device-id").write_text(name)
    with pytest.raises(DecodeError) as caught:
        Credentials(tmp_path).device_id()
    assert str(caught.value) == f"device id `{name}`: not one topic level"


def test_credentials_lose_their_white_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "edgeseal.device-id").write_bytes(b"cell-7\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert Credentials.from_environment().device_id() == "cell-7"
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    with pytest.raises(EdgesealError, match="the site gave no credentials"):
        Credentials.from_environment()


def test_systemd_is_told(tmp_path: Path) -> None:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    notifier = Notifier(str(tmp_path / "notify"))
    notifier.ready("here")
    notifier.alive("1 done")
    notifier.alive("2 done")
    notifier.stopping()
    told = [manager.recv(100) for _ in range(3)]
    assert told == [b"READY=1\nSTATUS=here", b"WATCHDOG=1\nSTATUS=1 done", b"STOPPING=1"]
    Notifier(None).ready("nobody listens")


def test_a_stop_signal_ends_a_wait() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    stop = StopFlag()
    try:
        assert not stop
        signal.raise_signal(signal.SIGTERM)
        stop.wait(3600)
        assert stop
        stop.drain()
        stop.drain()
    finally:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])


def test_errors_of_ours_are_one_line_and_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise InputError("it is wet", hint="dry it")

    assert run_service(lambda: None) == 0
    assert run_service(fail) == 2
    assert capsys.readouterr().err == "<3>error: it is wet\n<3>hint: dry it\n"


def test_a_missing_configuration_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(EdgesealError, match=r"^cannot read .*/device.json: No such file or directory$"):
        load_device_config(tmp_path / "device.json")


def test_the_clock_goes_on() -> None:
    clock = system_clock()
    first, second = clock(), clock()
    assert first.boot_id == second.boot_id
    assert len(first.boot_id) == 32
    assert 0 < first.monotonic_us <= second.monotonic_us
    assert first.wall_us > 0


def test_the_agent_carries_out_requests(tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    assert carry_out(Write(id=1, path=path, data_b64=b"abc", mode=0o640)) == Answer(id=1, ok=True)
    assert Path(path).stat().st_mode & 0o777 == 0o640
    assert carry_out(Read(id=2, path=path)) == Answer(id=2, ok=True, data_b64=b"abc")
    answer = carry_out(Run(id=3, argv=(PYTHON, "-c", "print('out'); raise SystemExit(5)")))
    assert answer == Answer(id=3, ok=True, rc=5, stdout=b"out\n")
    assert carry_out(Python(id=4, source="result = {'sum': 1 + 1}")) == Answer(id=4, ok=True, result={"sum": 2})


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (Read(id=1, path="/nonexistent"), "FileNotFoundError: [Errno 2] No such file or directory: '/nonexistent'"),
        (Python(id=1, source="1 / 0"), "ZeroDivisionError: division by zero"),
        (Python(id=1, source="raise SystemExit(1)"), "SystemExit: 1"),
        (Run(id=1, argv=("/nonexistent",)), "FileNotFoundError: [Errno 2] No such file or directory: '/nonexistent'"),
    ],
    ids=["file", "exception", "exit", "program"],
)
def test_what_the_agent_cannot_do_is_an_answer(request_: Any, error: str) -> None:
    answer = carry_out(request_)
    assert not answer.ok
    assert answer.error.strip().splitlines()[-1] == error


def test_a_session_of_the_agent() -> None:
    host, device = socket.socketpair()
    thread = threading.Thread(
        target=session, args=(device.fileno(), Hello(boot_id="0" * 32, image_version="7", slot="root-a"))
    )
    thread.start()
    for request in (Python(id=1, source="result = object()"), Python(id=2, source="result = 'x' * 100_000")):
        host.sendall(encode_agent_message(request))
    splitter = agent_splitter()
    received: list[Hello | Answer] = []
    while len(received) < 3:
        splitter.feed(host.recv(1 << 16))
        received += [decode_from_device(body) for body in iter(splitter.take, None)]
    host.shutdown(socket.SHUT_WR)
    thread.join(60)
    assert not thread.is_alive()
    hello, first, second = received
    assert isinstance(hello, Hello)
    assert isinstance(first, Answer)
    assert first.error.startswith("the answer cannot be sent: ")
    assert isinstance(second, Answer)
    assert (second.id, second.result) == (2, "x" * 100_000)


def test_nonsense_ends_the_session_of_the_agent() -> None:
    host, device = socket.socketpair()
    host.sendall(b"\0\0\0\2{}")
    with pytest.raises(DecodeError):
        session(device.fileno(), Hello(boot_id="0" * 32, image_version="7", slot=""))


def test_the_agents_port_is_found_by_its_name(tmp_path: Path) -> None:
    for name, text in {"vport1p1": "edgeseal.frames.0", "vport1p2": "edgeseal.agent.0"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "name").write_text(f"{text}\n")
    assert find_port(tmp_path) == Path("/dev/vport1p2")
    assert find_port(tmp_path / "vport1p1") is None
