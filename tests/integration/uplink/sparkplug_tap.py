"""Listens between the uplink and its broker: ends TLS on both sides, passes packets on and records what they say."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.support.sparkplug_recording import Connect, Ended, Heard, Message, Record, Said, Subscribe

CONNECT, PUBLISH, SUBSCRIBE, DISCONNECT = 1, 3, 8, 14
SESSION_EXPIRY = 0x11
_SIZES = {0x11: 4, 0x21: 2, 0x27: 4, 0x22: 2, 0x19: 1, 0x17: 1}  # properties of CONNECT that have a fixed size


class Tap:
    """records: of all connections, in order, of several taps perhaps.

    A broker that is away is away here too: nothing gets as far as CONNECT.
    """

    def __init__(self, directory: Path, credentials: Path, broker_port: int, records: list[Record]) -> None:
        """directory: has the broker's certificate; credentials: has the device's."""
        self.records = records
        self._broker_port = broker_port
        self._ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ours.load_cert_chain(directory / "broker.pem", directory / "broker.key")
        self._theirs = ssl.create_default_context(cafile=str(directory / "ca.pem"))
        self._theirs.load_cert_chain(credentials / "edgeseal.client-certificate", credentials / "edgeseal.client-key")
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=16)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _run(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        with raw, contextlib.suppress(OSError):
            broker = socket.create_connection(("127.0.0.1", self._broker_port), timeout=10)
            broker.settimeout(None)
            with (
                self._theirs.wrap_socket(broker, server_hostname="127.0.0.1") as broker_side,
                self._ours.wrap_socket(raw, server_side=True) as device_side,
            ):
                back = threading.Thread(target=_pump, args=(broker_side, device_side, self._from_broker), daemon=True)
                back.start()
                _pump(device_side, broker_side, self._from_device)
                if not isinstance(self.records[-1], Ended):
                    self.records.append(Ended(None))
                _end(broker_side)
                back.join(10)

    def _from_device(self, packet: bytes, body: bytes) -> None:
        kind = packet[0] >> 4
        if kind == CONNECT:
            self.records.append(replace(read_connect(body), broker=str(self.port)))
        elif kind == SUBSCRIBE:
            self.records += read_subscribe(body)
        elif kind == PUBLISH:
            self.records.append(Said(read_publish(packet[0], body)))
        elif kind == DISCONNECT:
            self.records.append(Ended(body[0] if body else 0))

    def _from_broker(self, packet: bytes, body: bytes) -> None:
        if packet[0] >> 4 == PUBLISH:
            self.records.append(Heard(read_publish(packet[0], body)))


def _pump(source: ssl.SSLSocket, sink: ssl.SSLSocket, tell: Callable[[bytes, bytes], None]) -> None:
    """Packet by packet, recorded before it is passed on, until one side ends."""
    with contextlib.suppress(OSError):
        while (packet := _packet(source)) is not None:
            tell(*packet)
            sink.sendall(packet[0])
    _end(sink)


def _end(sock: ssl.SSLSocket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _packet(sock: ssl.SSLSocket) -> tuple[bytes, bytes] | None:
    """(the whole packet, its body) or None at the end."""
    head = _exactly(sock, 2)
    while head and head[-1] & 128:
        head += _exactly(sock, 1)
    if not head:
        return None
    length = sum((byte & 127) << 7 * place for place, byte in enumerate(head[1:]))
    body = _exactly(sock, length)
    return (head + body, body) if len(body) == length else None


def _exactly(sock: ssl.SSLSocket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            return b""
        data += more
    return data


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def read_connect(body: bytes) -> Connect:
    """MQTT 5.0, 3.1."""
    assert body[:6] == b"\0\4MQTT"
    version, flags = body[6], body[7]
    properties, rest = _counted(body[10:])
    _, rest = _binary(rest)  # the client's id
    will = None
    if flags & 4:
        _, rest = _counted(rest)
        topic, rest = _binary(rest)
        payload, rest = _binary(rest)
        will = Message(topic.decode(), payload, flags >> 3 & 3, bool(flags & 32), _now_ms())
    return Connect(will, version, bool(flags & 2), _session_expiry(properties))


def read_subscribe(body: bytes) -> list[Subscribe]:
    """MQTT 5.0, 3.8."""
    _, rest = _counted(body[2:])
    found = []
    while rest:
        topic, rest = _binary(rest)
        found.append(Subscribe(topic.decode(), rest[0] & 3))
        rest = rest[1:]
    return found


def read_publish(first: int, body: bytes) -> Message:
    """MQTT 5.0, 3.3."""
    topic, rest = _binary(body)
    qos = first >> 1 & 3
    _, payload = _counted(rest[2:] if qos else rest)
    return Message(topic.decode(), payload, qos, bool(first & 1), _now_ms())


def _session_expiry(properties: bytes) -> int:
    while properties:
        kind, size = properties[0], _SIZES[properties[0]]
        if kind == SESSION_EXPIRY:
            return int.from_bytes(properties[1 : 1 + size], "big")
        properties = properties[1 + size :]
    return 0


def _binary(data: bytes) -> tuple[bytes, bytes]:
    """(two-byte length and so many bytes, the rest)."""
    size = int.from_bytes(data[:2], "big")
    return data[2 : 2 + size], data[2 + size :]


def _counted(data: bytes) -> tuple[bytes, bytes]:
    """(variable length and so many bytes, the rest)."""
    size = place = 0
    while True:
        size |= (data[place] & 127) << 7 * place
        place += 1
        if data[place - 1] < 128:
            return data[place : place + size], data[place + size :]
