"""One TLS connection as paho wants a socket, with buffers of its own: few system calls, and nothing grows."""

from __future__ import annotations

import collections
import contextlib
import os
import select
import socket
import ssl
import time
from collections.abc import Callable

from appliance.uplink.frames import Frames, puback

FULL = 32 << 10
"""Bytes that may wait for the socket before we take more to send; an alarm waits behind at most so much."""
_NOT_SENT = 16 << 10  # what the kernel takes before the wire has room (TCP_NOTSENT_LOWAT)
_READ = 64 << 10
_RECORD = 16 << 10
_PUBACK = 0x40


class StoppedError(Exception):
    """We were asked to stop while we waited."""


class Wire:
    """A connected TLS socket. Methods recv, send, close, fileno, setblocking are paho's; the rest is ours.

    answers: number and reason code of each PUBACK that was read; paho, which needs 30 times as long for them, never
    sees those. Whoever takes them clears the list.
    taken, sent: bytes that paho handed over, and those of them that the kernel has, since the beginning.
    heard_at, sent_at: monotonic seconds when bytes last came and went. ended: the broker has closed its side.
    """

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self._sock = sock
        self._frames = Frames()
        self._in: collections.deque[bytes] = collections.deque()
        self._current = b""
        self._at = 0
        self._out = bytearray()
        self.ended = False
        self.answers: list[tuple[int, int]] = []
        self.taken = 0
        self.sent = 0
        self.heard_at = self.sent_at = time.monotonic()

    @property
    def waiting(self) -> int:
        """Bytes that wait for the kernel."""
        return len(self._out)

    @property
    def unread(self) -> bool:
        """There is a packet for paho, or the end."""
        return self.ended or bool(self._in) or self._at < len(self._current)

    @property
    def hidden(self) -> bool:
        """There are bytes that select() does not see, inside TLS."""
        return self._sock.pending() > 0

    def fill(self) -> None:
        """Read what is there, up to a bound. Raises ProtocolError, OSError."""
        got = 0
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            while got < _READ:
                data = self._sock.recv(_RECORD)
                if not data:
                    self.ended = True
                    return
                got += len(data)
                self.heard_at = time.monotonic()
                for packet in self._frames.feed(data):
                    self._sort(packet)

    def _sort(self, packet: bytes) -> None:
        if packet[0] != _PUBACK:
            self._in.append(packet)
        elif packet[1] == 2:
            self.answers.append((packet[2] << 8 | packet[3], 0))
        else:
            self.answers.append(puback(packet))

    def flush(self) -> None:
        """Hand the kernel what it takes. Raises OSError."""
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            while self._out:
                count = self._sock.send(memoryview(self._out)[: 4 * _RECORD])
                del self._out[:count]
                self.sent += count
                self.sent_at = time.monotonic()

    def recv(self, size: int) -> bytes:
        """Up to `size` bytes of complete packets; empty at the end. Raises BlockingIOError when there are none."""
        if self._at >= len(self._current):
            if not self._in:
                if self.ended:
                    return b""
                raise BlockingIOError
            self._current, self._at = self._in.popleft(), 0
        data = self._current[self._at : self._at + size]
        self._at += len(data)
        return data

    def send(self, data: bytes | bytearray) -> int:
        """Take all of it; flush() sends it."""
        self._out += data
        self.taken += len(data)
        return len(data)

    def finish(self, seconds: float) -> None:
        """Send what waits, and wait for the broker to close. Raises OSError.

        A socket that is closed with bytes unread takes back what it sent last.
        """
        end = time.monotonic() + seconds
        while not self.ended and time.monotonic() < end:
            self.flush()
            if not self._out:
                self._sock.shutdown(socket.SHUT_WR)
                self._drop_until(end)
                return
            select.select([], [self], [], 0.1)

    def close(self) -> None:
        """Close the socket, without a word."""
        self._sock.close()

    def _drop_until(self, end: float) -> None:
        while (left := end - time.monotonic()) > 0 and select.select([self], [], [], left)[0]:
            with contextlib.suppress(ssl.SSLWantReadError):
                if not self._sock.recv(_RECORD):
                    return

    def fileno(self) -> int:
        """For select()."""
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:
        """It never blocks."""


def dial(
    host: str,
    port: int,
    context: ssl.SSLContext,
    *,
    deadline: float,
    user_timeout_s: float,
    stopping: Callable[[], bool],
) -> ssl.SSLSocket:
    """A TLS connection, its handshake done, not blocking; the broker's certificate and name are checked.

    deadline: of time.monotonic(), for all of it but the look-up of the name. user_timeout_s: how long the kernel waits
    for the broker to confirm bytes. stopping: asked several times a second. Raises OSError (TimeoutError, SSLError),
    StoppedError.
    """
    failure: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        plain = socket.socket(family, kind, protocol)
        try:
            _prepare(plain, user_timeout_s)
            _connect(plain, address, deadline, stopping)
        except OSError as error:
            plain.close()
            failure = error
            continue
        except StoppedError:
            plain.close()
            raise
        return _handshake(plain, host, context, deadline, stopping)
    raise failure or OSError(f"{host} has no address")


def _prepare(sock: socket.socket, user_timeout_s: float) -> None:
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(user_timeout_s * 1000))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _NOT_SENT)


def _connect(sock: socket.socket, address: object, deadline: float, stopping: Callable[[], bool]) -> None:
    with contextlib.suppress(BlockingIOError):
        sock.connect(address)  # type: ignore[arg-type]  # as getaddrinfo gave it
    _wait(sock, deadline, stopping, write=True)
    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))


def _handshake(
    plain: socket.socket, host: str, context: ssl.SSLContext, deadline: float, stopping: Callable[[], bool]
) -> ssl.SSLSocket:
    try:
        sock = context.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
    except BaseException:
        plain.close()
        raise
    try:
        while True:
            try:
                sock.do_handshake()
            except ssl.SSLWantReadError:
                _wait(sock, deadline, stopping, write=False)
            except ssl.SSLWantWriteError:
                _wait(sock, deadline, stopping, write=True)
            else:
                return sock
    except BaseException:
        sock.close()
        raise


def _wait(sock: socket.socket, deadline: float, stopping: Callable[[], bool], *, write: bool) -> None:
    while True:
        if stopping():
            raise StoppedError
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the broker did not answer in time")
        readers, writers = ([], [sock]) if write else ([sock], [])
        ready = select.select(readers, writers, [], min(left, 0.2))
        if ready[0] or ready[1]:
            return
