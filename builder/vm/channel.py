"""A Unix socket of the emulator: connect while it starts, read and write with deadlines."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from pathlib import Path

from appliance.core.errors import EdgesealError, InputError
from builder.vm.deadline import Deadline, wait_until

_LONGEST = 107
_STEP_S = 0.5
_CHUNK = 64 << 10


def check_socket_path(path: Path) -> None:
    """Raises InputError when the address of a Unix socket cannot hold the path."""
    if len(str(path).encode()) > _LONGEST:
        raise InputError(
            f"the path {path} is longer than a socket's address may be ({_LONGEST} bytes)",
            hint="set TMPDIR to a directory with a short path",
        )


class Channel:
    """One connection. what: how it is called in errors. check: raises when the other side has died."""

    def __init__(self, path: Path, *, what: str, within_s: float, check: Callable[[], object]) -> None:
        """Connect as soon as somebody listens. Raises EdgesealError at the deadline."""
        self._what = what
        self._check = check
        self._socket = wait_until(lambda: _connect(path), what=f"the {what} opens", within_s=within_s, check=check)
        self._socket.settimeout(_STEP_S)

    def send(self, data: bytes, *, within_s: float) -> None:
        """Raises EdgesealError at the deadline, or when the other side is gone."""
        deadline = Deadline(within_s)
        view = memoryview(data)
        while view:
            try:
                view = view[self._socket.send(view[:_CHUNK]) :]
            except TimeoutError:
                self._check()
                if deadline.passed:
                    raise EdgesealError(f"the {self._what} took no more data for {within_s:.0f} s") from None
            except OSError as error:
                raise self._closed() from error

    def hand_over(self, descriptor: int) -> None:
        """Send an open file; what comes next is about it. Raises EdgesealError when the other side is gone."""
        try:
            # a space: the file has to travel with a byte, and no message begins or ends with this one
            socket.send_fds(self._socket, [b" "], [descriptor])
        except OSError as error:
            raise self._closed() from error

    def receive(self) -> bytes:
        """Some bytes, or none when none came within half a second. Raises EdgesealError when it was closed."""
        try:
            data = self._socket.recv(_CHUNK)
        except TimeoutError:
            self._check()
            return b""
        except OSError as error:
            raise self._closed() from error
        if not data:
            raise self._closed()
        return data

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            self._socket.close()

    def _closed(self) -> EdgesealError:
        with contextlib.suppress(OSError):
            self._check()
        return EdgesealError(f"the {self._what} was closed by the emulator")


def _connect(path: Path) -> socket.socket | None:
    check_socket_path(path)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(str(path))
    except OSError:
        connection.close()
        return None
    return connection
