"""A broker on raw TLS sockets that does what a test says, byte by byte."""

from __future__ import annotations

import contextlib
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.integration.services_harness import Authority
from tests.integration.uplink.pki import Kind, certify

CONNACK = b"\x20\x03\x00\x00\x00"
PINGREQ, DISCONNECT, PUBLISH, SUBSCRIBE, CONNECT = 12, 14, 3, 8, 1


class Peer:
    """The broker's end of one connection. packets: everything the client sent, in order."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self._sock = sock
        self.packets: list[bytes] = []
        sock.settimeout(20)

    def send(self, data: bytes) -> None:
        """As it is."""
        self._sock.sendall(data)

    def read(self) -> bytes:
        """The client's next packet; empty at the end."""
        head = self._exactly(2)
        while head and head[-1] & 128:
            head += self._exactly(1)
        if not head:
            return b""
        length = sum((byte & 127) << 7 * place for place, byte in enumerate(head[1:]))
        packet = head + self._exactly(length)
        self.packets.append(packet)
        return packet

    def read_until(self, kind: int) -> bytes:
        """Packets up to the first of a type; empty at the end."""
        while (packet := self.read()) and packet[0] >> 4 != kind:
            pass
        return packet

    def accept(self, properties: bytes = b"") -> bytes:
        """Read CONNECT, answer with success."""
        connect = self.read_until(CONNECT)
        self.send(bytes([0x20, 3 + len(properties), 0, 0, len(properties)]) + properties)
        return connect

    def acknowledge(self, publish: bytes, code: int | None = None) -> None:
        """PUBACK for a packet that read() gave."""
        number = publish_number(publish)
        self.send(b"\x40" + bytes([2 if code is None else 3]) + number + (b"" if code is None else bytes([code])))

    def grant(self, subscribe: bytes) -> None:
        """SUBACK with QoS 1 for everything in it."""
        at, count = 5, 0
        while at < len(subscribe):
            at, count = at + 3 + int.from_bytes(subscribe[at : at + 2], "big"), count + 1
        self.send(bytes([0x90, 3 + count]) + subscribe[2:4] + b"\x00" + b"\x01" * count)

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            try:
                more = self._sock.recv(count - len(data))
            except OSError:
                return b""
            if not more:
                return b""
            data += more
        return data


def publish_number(packet: bytes) -> bytes:
    """The packet identifier of a PUBLISH with QoS 1."""
    at = 2
    while packet[at - 1] & 128:
        at += 1
    topic = int.from_bytes(packet[at : at + 2], "big")
    return packet[at + 2 + topic : at + 4 + topic]


Script = Callable[[Peer], None]


class ScriptedBroker:
    """peers: connections so far, in order."""

    def __init__(self, context: ssl.SSLContext, script: Script) -> None:
        self._context = context
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=16)
        self.port: int = self._listener.getsockname()[1]
        self.peers: list[Peer] = []
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

    def _serve(self, client: socket.socket) -> None:
        client.settimeout(20)
        with contextlib.suppress(OSError), self._context.wrap_socket(client, server_side=True) as sock:
            peer = Peer(sock)
            self.peers.append(peer)
            self._script(peer)


@contextmanager
def scripted(authority: Authority, script: Script) -> Iterator[ScriptedBroker]:
    """A broker that does `script` with every connection, and then closes it."""
    certificate, key = certify(authority, Kind())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=authority.pem().decode())
    _load(context, certificate + key)
    broker = ScriptedBroker(context, script)
    try:
        yield broker
    finally:
        broker.close()


def _load(context: ssl.SSLContext, pem: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(pem)
        file.flush()
        context.load_cert_chain(file.name)


def serve_well(peer: Peer) -> None:
    """As a broker should: every message acknowledged, every ping answered."""
    peer.accept()
    while packet := peer.read():
        if packet[0] >> 4 == PUBLISH and packet[0] & 6:
            peer.acknowledge(packet)
        elif packet[0] >> 4 == PINGREQ:
            peer.send(b"\xd0\x00")
        elif packet[0] >> 4 == SUBSCRIBE:
            peer.grant(packet)
        elif packet[0] >> 4 == DISCONNECT:
            return
