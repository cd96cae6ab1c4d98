"""The outermost frame of every service: signals in, one line of error out, an exit status."""

from __future__ import annotations

import contextlib
import select
import signal
import socket
from collections.abc import Callable

from appliance.core.errors import EdgesealError
from appliance.machine.notify import say


class StopFlag:
    """True once systemd asked the service to stop (SIGTERM). Its descriptor becomes readable then, to end a wait."""

    def __init__(self) -> None:
        self._set = False
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno())
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)

    def __bool__(self) -> bool:
        return self._set

    def fileno(self) -> int:
        """For select."""
        return self._reader.fileno()

    def drain(self) -> None:
        """Empty the descriptor; the flag stays."""
        with contextlib.suppress(BlockingIOError):
            self._reader.recv(64)

    def wait(self, seconds: float) -> None:
        """Sleep, but not longer than until the stop."""
        if not self._set:
            select.select([self._reader], [], [], seconds)

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._set = True


def run_service(service: Callable[[], None]) -> int:
    """Run `service` and return the exit status. Errors that are not ours keep their traceback: they are bugs."""
    try:
        service()
    except EdgesealError as error:
        say(f"<3>error: {error}")
        if error.hint is not None:
            say(f"<3>hint: {error.hint}")
        return error.exit_code
    return 0
