"""QEMU's machine protocol (docs/interop/qmp-spec.rst of QEMU), as much of it as we need: commands and events."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from appliance.core.errors import EdgesealError
from builder.vm.channel import Channel
from builder.vm.deadline import Deadline, wait_until

_ANSWER_S = 120.0


@dataclass(frozen=True)
class Event:
    """Something that happened in the emulator, such as RESET or SHUTDOWN."""

    name: str
    data: dict[str, Any] = field(default_factory=dict)


class Qmp:
    """One control connection. events: all that came, oldest first."""

    def __init__(self, path: Path, *, within_s: float, check: Callable[[], object]) -> None:
        self.events: list[Event] = []
        self._check = check
        self._buffer = b""
        self._channel = Channel(path, what="emulator's control socket", within_s=within_s, check=check)
        wait_until(lambda: self._next(), what="the emulator greets", within_s=within_s, check=check)
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: Any) -> Any:
        """The command's result. Raises EdgesealError with QEMU's own words when it fails."""
        message = {"execute": command, "arguments": arguments} if arguments else {"execute": command}
        self._channel.send(json.dumps(message).encode() + b"\n", within_s=_ANSWER_S)
        deadline = Deadline(_ANSWER_S)
        while not deadline.passed:
            answer = self._next()
            if answer is None or "event" in answer:
                continue
            if "error" in answer:
                raise EdgesealError(f"the emulator refused {command}: {answer['error'].get('desc')}")
            return answer.get("return")
        raise EdgesealError(f"the emulator did not answer {command} within {_ANSWER_S:.0f} s")

    def hand_over(self, descriptor: int, name: str) -> None:
        """Give the emulator an open file, for later commands to name. Raises EdgesealError."""
        self._channel.hand_over(descriptor)
        self.execute("getfd", fdname=name)

    def wait_for_event(self, name: str, *, within_s: float, since: int = 0) -> Event:
        """The first event of that name from number `since` on. Raises EdgesealError at the deadline."""

        def found() -> Event | None:
            hit = next((event for event in self.events[since:] if event.name == name), None)
            if hit is None:
                self._next()
            return hit

        return wait_until(found, what=f"event {name} of the emulator", within_s=within_s)

    def poll(self) -> None:
        """Read what has come."""
        self._next()

    def close(self) -> None:
        """Hang up."""
        self._channel.close()

    def _next(self) -> dict[str, Any] | None:
        """The next message, or None when none came within half a second. Events are kept as well."""
        if b"\n" not in self._buffer:
            self._buffer += self._channel.receive()
        if b"\n" not in self._buffer:
            return None
        line, self._buffer = self._buffer.split(b"\n", 1)
        message: dict[str, Any] = json.loads(line)
        if "event" in message:
            self.events.append(Event(message["event"], message.get("data", {})))
        return message
