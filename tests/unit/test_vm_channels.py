"""QMP, the agent's channel and the frame channel, against scripted other ends."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.core.errors import EdgesealError, InputError
from appliance.formats.agent import Answer, Hello, Python, Run, agent_splitter, decode_request, encode_agent_message
from appliance.formats.frame import Frame, FrameDecoder
from builder.vm.agent import Agent, AgentRestartedError
from builder.vm.channel import check_socket_path
from builder.vm.frames import FrameFeeder
from builder.vm.qmp import Qmp
from tests.support.unix_server import unix_server

WAIT_S = 10.0
HELLO = Hello(boot_id="0" * 32, image_version="1", slot="root-a")


def _alive() -> None:
    return None


def _died() -> None:
    raise EdgesealError("the emulator died")


def _qemu(*answers: dict[str, object]) -> Callable[[socket.socket], None]:
    """Greets, takes the handshake, then gives `answers` to the next command."""

    def script(connection: socket.socket) -> None:
        stream = connection.makefile("rwb")
        groups: list[list[dict[str, object]]] = [[{"QMP": {"version": {}}}], [{"return": {}}], list(answers)]
        for group in groups:
            for line in group:
                stream.write(json.dumps(line).encode() + b"\r\n")
            stream.flush()
            stream.readline()  # the command that the next group answers, or the end

    return script


def test_qmp_gives_the_result_and_keeps_events_that_came_between(tmp_path: Path) -> None:
    with unix_server(tmp_path / "q", _qemu({"event": "RESET", "data": {"guest": True}}, {"return": {"status": "x"}})):
        qmp = Qmp(tmp_path / "q", within_s=WAIT_S, check=_alive)
        assert qmp.execute("query-status") == {"status": "x"}
        assert [event.name for event in qmp.events] == ["RESET"]
        assert qmp.wait_for_event("RESET", within_s=WAIT_S).data == {"guest": True}
        qmp.close()


def test_qmp_tells_why_a_command_was_refused(tmp_path: Path) -> None:
    with unix_server(tmp_path / "q", _qemu({"error": {"class": "GenericError", "desc": "no such device"}})):
        qmp = Qmp(tmp_path / "q", within_s=WAIT_S, check=_alive)
        with pytest.raises(EdgesealError, match=r"^the emulator refused eject: no such device$"):
            qmp.execute("eject")
        qmp.close()


def test_a_wait_ends_early_when_the_emulator_has_died(tmp_path: Path) -> None:
    with pytest.raises(EdgesealError, match="the emulator died"):
        Qmp(tmp_path / "nobody", within_s=WAIT_S, check=_died)


def test_a_wait_has_a_deadline(tmp_path: Path) -> None:
    with pytest.raises(EdgesealError, match=r"^the emulator's control socket opens: not within 0 s$"):
        Qmp(tmp_path / "nobody", within_s=0, check=_alive)


def _device(*messages: Hello | Answer, ask: bool = True) -> Callable[[socket.socket], None]:
    """Says hello, reads one request when `ask`, then says `messages`."""

    def script(connection: socket.socket) -> None:
        connection.sendall(encode_agent_message(HELLO))
        splitter = agent_splitter()
        while ask and (body := splitter.take()) is None:
            splitter.feed(connection.recv(4096))
        if ask:
            assert body is not None
            assert isinstance(decode_request(body), Run | Python)
        for message in messages:
            connection.sendall(encode_agent_message(message))
        connection.recv(1)

    return script


def test_the_agent_runs_a_program(tmp_path: Path) -> None:
    with unix_server(tmp_path / "a", _device(Answer(id=2, ok=True, rc=3, stdout=b"out", stderr=b"err"))):
        agent = Agent(tmp_path / "a", within_s=WAIT_S, check=_alive)
        assert agent.wait_for_hello(within_s=WAIT_S) == HELLO
        done = agent.run(["true"])
        assert (done.rc, done.stdout, done.stderr) == (3, "out", "err")
        agent.close()


def test_a_failed_request_says_the_last_line_of_the_traceback(tmp_path: Path) -> None:
    answer = Answer(id=2, ok=False, error="Traceback …\nFileNotFoundError: no such program\n")
    with unix_server(tmp_path / "a", _device(answer)):
        agent = Agent(tmp_path / "a", within_s=WAIT_S, check=_alive)
        agent.wait_for_hello(within_s=WAIT_S)
        with pytest.raises(EdgesealError, match=r"^in the machine, no-such: FileNotFoundError: no such program$"):
            agent.run(["no-such"])
        agent.close()


def test_a_reboot_instead_of_an_answer_is_an_error_of_its_own(tmp_path: Path) -> None:
    second = Hello(boot_id="1" * 32, image_version="2", slot="root-b")
    with unix_server(tmp_path / "a", _device(second)):
        agent = Agent(tmp_path / "a", within_s=WAIT_S, check=_alive)
        agent.wait_for_hello(within_s=WAIT_S)
        with pytest.raises(AgentRestartedError):
            agent.python("1/0")
        assert agent.wait_for_hello(within_s=WAIT_S, other_than=HELLO.boot_id) == second
        agent.close()


def test_a_closed_channel_is_told_apart_from_silence(tmp_path: Path) -> None:
    with unix_server(tmp_path / "a", lambda connection: None):
        agent = Agent(tmp_path / "a", within_s=WAIT_S, check=_alive)
        with pytest.raises(EdgesealError, match=r"^the agent's channel was closed by the emulator$"):
            agent.wait_for_hello(within_s=WAIT_S)


def test_frames_arrive_as_they_are_specified(tmp_path: Path) -> None:
    received: list[Frame] = []
    sent = [Frame(number, 64, 32, bytes([number]) * 64 * 32 * 3) for number in range(3)]

    def script(connection: socket.socket) -> None:
        decoder = FrameDecoder(max_pixels=64 * 32)
        while len(received) < len(sent):
            decoder.feed(connection.recv(1000))
            while (frame := decoder.take()) is not None:
                received.append(frame)

    with unix_server(tmp_path / "f", script):
        feeder = FrameFeeder(tmp_path / "f", within_s=WAIT_S, check=_alive)
        for frame in sent:
            feeder.send(frame, within_s=WAIT_S)
    assert received == sent


def test_a_path_that_no_socket_can_have_is_refused() -> None:
    path = Path("/tmp") / ("x" * 110)
    with pytest.raises(InputError) as refused:
        check_socket_path(path)
    assert str(refused.value) == f"the path {path} is longer than a socket's address may be (107 bytes)"
    assert refused.value.hint == "set TMPDIR to a directory with a short path"
