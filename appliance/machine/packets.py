"""SEQPACKET sockets between the services: a server that collects a round of packets, and a client that asks."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from appliance.core.errors import EdgesealError

MAX_CONNECTIONS = 64
PACKETS_PER_ROUND = 64  # of one connection, so that none starves the others
_FIRST_PASSED_DESCRIPTOR = 3
_CREDENTIALS = struct.Struct("3i")


@dataclass(frozen=True)
class Peer:
    """Who is at the other end, as the kernel says. unit: systemd's name for it at connect time, or empty."""

    pid: int
    uid: int
    unit: str


class Connection:
    """One producer."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock
        self.peer = _peer_of(sock)

    def reply(self, data: bytes) -> bool:
        """Send an answer; False when the other end does not read its answers or has gone."""
        try:
            self.socket.send(data, socket.MSG_NOSIGNAL)
        except OSError:
            return False
        return True


@dataclass(frozen=True)
class Packet:
    """One packet. data is cut to one byte more than the server's limit, so that too large ones show."""

    connection: Connection
    data: bytes


class PacketServer:
    """Serves one listening socket from one thread.

    max_packet: bytes. A connection that sends nothing costs nothing; beyond MAX_CONNECTIONS new ones are closed, and
    beyond `per_user` those of one user.
    """

    def __init__(self, listener: socket.socket, *, max_packet: int, per_user: int = MAX_CONNECTIONS) -> None:
        listener.setblocking(False)
        self._listener = listener
        self._max_packet = max_packet
        self._per_user = per_user
        self._connections: set[Connection] = set()
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ, None)

    def watch(self, descriptor: int, drain: Callable[[], None]) -> None:
        """Also end a round when `descriptor` is readable; drain() empties it."""
        self._selector.register(descriptor, selectors.EVENT_READ, drain)

    def round(self, timeout: float) -> list[Packet]:
        """Wait up to `timeout` seconds for something and return all packets that are there."""
        packets: list[Packet] = []
        for key, _ in self._selector.select(timeout):
            if key.data is None:
                self._accept()
            elif isinstance(key.data, Connection):
                packets += self._receive(key.data)
            else:
                key.data()
        return packets

    def answer(self, connection: Connection, data: bytes) -> None:
        """Send an answer; a connection that does not take it is closed."""
        if connection in self._connections and not connection.reply(data):
            self._close(connection)

    def close(self) -> None:
        """Close all connections; the listening socket stays with systemd."""
        for connection in list(self._connections):
            self._close(connection)
        self._selector.close()

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            sock, _ = self._listener.accept()
            if len(self._connections) >= MAX_CONNECTIONS:
                sock.close()
                return
            connection = Connection(sock)
            if sum(one.peer.uid == connection.peer.uid for one in self._connections) >= self._per_user:
                sock.close()
                return
            self._connections.add(connection)
            self._selector.register(sock, selectors.EVENT_READ, connection)

    def _receive(self, connection: Connection) -> list[Packet]:
        packets = []
        for _ in range(PACKETS_PER_ROUND):
            try:
                data = connection.socket.recv(self._max_packet + 1)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self._close(connection)
                break
            packets.append(Packet(connection, data))
        return packets

    def _close(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._selector.unregister(connection.socket)
        connection.socket.close()


class PacketClient:
    """Asks a server, one question at a time, and connects anew after a failure."""

    def __init__(self, path: str, *, timeout_s: float) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None

    def ask(self, data: bytes) -> bytes:
        """Send a packet and return the answer. Raises OSError; whether the packet was taken is then unknown."""
        try:
            return self._ask(data)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _ask(self, data: bytes) -> bytes:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._socket.settimeout(self._timeout_s)
            self._socket.connect(self._path)
        self._socket.sendall(data)
        answer = self._socket.recv(1 << 16)
        if not answer:
            raise ConnectionResetError(f"{self._path}: the service hung up")
        return answer


def passed_socket() -> socket.socket:
    """The one listening socket that systemd passed (sd_listen_fds). Raises EdgesealError."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
        raise EdgesealError("no socket was passed to this service", hint="start it by its .socket unit")
    return socket.socket(fileno=_FIRST_PASSED_DESCRIPTOR)


def _peer_of(sock: socket.socket) -> Peer:
    pid, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return Peer(pid=pid, uid=uid, unit=unit_of(pid))


def unit_of(pid: int) -> str:
    """The systemd unit in whose control group a process is, or an empty string."""
    try:
        text = Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return ""
    for line in text.splitlines():
        hierarchy, _, path = line.partition("::")
        last = path.rpartition("/")[2]
        if hierarchy == "0" and last.endswith((".service", ".scope")):
            return last[:256]
    return ""
