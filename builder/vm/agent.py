"""The host's end of the test agent's channel. Spec: docs/specs/agent-channel.md (v1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.core.errors import EdgesealError
from appliance.formats.agent import (
    Answer,
    Connect,
    Hello,
    Python,
    Read,
    Request,
    Run,
    Write,
    agent_splitter,
    decode_from_device,
    encode_agent_message,
)
from builder.vm.channel import Channel
from builder.vm.deadline import Deadline

_EXTRA_S = 30.0  # beyond the guest's own deadline


@dataclass(frozen=True)
class Finished:
    """A program's end in the guest. rc: exit status, or minus a signal's number."""

    argv: tuple[str, ...]
    rc: int
    stdout: str
    stderr: str


class AgentRestartedError(EdgesealError):
    """The agent said hello while an answer was awaited: the machine or the agent was started anew."""


class Agent:
    """One connection; requests go one after the other. hello: the last one that came."""

    def __init__(self, path: Path, *, within_s: float, check: Callable[[], object]) -> None:
        self.hello: Hello | None = None
        self._check = check
        self._next_id = 1
        self._splitter = agent_splitter()
        self._channel = Channel(path, what="agent's channel", within_s=within_s, check=check)

    def wait_for_hello(self, *, within_s: float, other_than: str | None = None) -> Hello:
        """Until the agent is up. other_than: a boot id that does not count. Raises EdgesealError at the deadline."""
        deadline = Deadline(within_s)
        while self.hello is None or self.hello.boot_id == other_than:
            if deadline.passed:
                raise EdgesealError(f"the test agent did not say hello within {within_s:.0f} s")
            self._receive()
        return self.hello

    def run(self, argv: Sequence[str], *, timeout_s: int = 60) -> Finished:
        """Run a program as root to its end. Raises EdgesealError when it cannot be started or is too slow."""
        answer = self._ask(Run(id=self._id(), argv=tuple(argv), timeout_s=timeout_s), timeout_s)
        if not answer.ok or answer.rc is None:
            said = answer.error.strip().rsplit("\n", 1)[-1]
            raise EdgesealError(f"in the machine, {' '.join(argv)}: {said}")
        return Finished(tuple(argv), answer.rc, _text(answer.stdout), _text(answer.stderr))

    def connect(self, *, unit: str, uid: int, address: str, port: int, timeout_s: int = 5) -> str:
        """Try TCP in a unit's control group, as a user: `connected`, `no answer` or the kernel's refusal."""
        request = Connect(id=self._id(), unit=unit, uid=uid, address=address, port=port, timeout_s=timeout_s)
        answer = self._ask(request, timeout_s + _EXTRA_S)
        if not answer.ok:
            raise EdgesealError(f"in the machine, {unit}: {answer.error.strip().rsplit(chr(10), 1)[-1]}")
        return str(answer.result)

    def python(self, source: str, *, timeout_s: int = 120) -> Any:
        """Run source in the agent and return what it left in `result`. Raises EdgesealError with its traceback."""
        answer = self._ask(Python(id=self._id(), source=source), timeout_s)
        if not answer.ok:
            raise EdgesealError(f"in the machine:\n{answer.error.strip()}")
        return answer.result

    def python_without_answer(self, source: str) -> None:
        """Run source that ends the machine. Nothing else may be asked until the machine has said hello again."""
        self._channel.send(encode_agent_message(Python(id=self._id(), source=source)), within_s=_EXTRA_S)

    def read(self, path: str) -> bytes:
        """A file of the device. Raises EdgesealError."""
        answer = self._ask(Read(id=self._id(), path=path), 60)
        if not answer.ok:
            raise EdgesealError(f"in the machine, {path}: {answer.error.strip().rsplit(chr(10), 1)[-1]}")
        return answer.data_b64

    def write(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        """Write a file of the device. Raises EdgesealError."""
        answer = self._ask(Write(id=self._id(), path=path, data_b64=data, mode=mode), 60)
        if not answer.ok:
            raise EdgesealError(f"in the machine, {path}: {answer.error.strip().rsplit(chr(10), 1)[-1]}")

    def poll(self) -> None:
        """Take in what has come, at most half a second long: a hello is remembered."""
        self._receive()

    def close(self) -> None:
        """Hang up."""
        self._channel.close()

    def _ask(self, request: Request, timeout_s: float) -> Answer:
        self._channel.send(encode_agent_message(request), within_s=_EXTRA_S)
        deadline = Deadline(timeout_s + _EXTRA_S)
        while not deadline.passed:
            message = self._receive()
            if isinstance(message, Hello):
                raise AgentRestartedError("the machine was started anew before it answered")
            if message is not None and message.id == request.id:
                return message
        raise EdgesealError(f"the test agent did not answer within {deadline.seconds:.0f} s")

    def _receive(self) -> Hello | Answer | None:
        body = self._splitter.take()
        if body is None:
            self._splitter.feed(self._channel.receive())
            body = self._splitter.take()
        if body is None:
            return None
        message = decode_from_device(body)
        if isinstance(message, Hello):
            self.hello = message
        return message

    def _id(self) -> int:
        self._next_id += 1
        return self._next_id


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
