"""Clients fast enough not to be what is measured. Plain sockets, packets made before the clock starts."""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tests.support.chaos.bodies import verdict_of

DEPTH = 256
"""Messages that a producer has under way, of every candidate alike."""

_NUMBER = re.compile(rb'"sequence":(\d+),"start_us"')


def verdict_body(number: int, device: str) -> bytes:
    """What each candidate is given: a verdict as JSON, keys sorted, about 520 bytes."""
    return msgspec.json.encode(verdict_of(number, device), order="sorted")


def hand_in(path: Path, device: str, count: int, *, first: int = 1) -> float:
    """Seconds until `count` verdicts are accepted at the uplink's socket. Raises AssertionError on a refusal."""
    packets = []
    for number in range(first, first + count):
        body = msgspec.Raw(verdict_body(number, device))
        packets.append(msgspec.json.encode({"kind": "verdict", "id": number, "verdict": body}))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.connect(str(path))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        sock.settimeout(60)
        begun = time.perf_counter()
        sent = answered = 0
        while answered < count:
            while sent < count and sent - answered < DEPTH:
                sock.send(packets[sent])
                sent += 1
            answer = sock.recv(1 << 16)
            assert b'"accepted"' in answer, answer
            answered += 1
        return time.perf_counter() - begun


def publish_raw(port: int, topic: str, payloads: Sequence[bytes]) -> float:
    """Seconds until a broker on loopback, without TLS, has sent PUBACK for all. MQTT 3.1.1, QoS 1."""
    name = topic.encode()
    packets = [_publish(name, payload, index % 65_535 + 1) for index, payload in enumerate(payloads)]
    with _connected(port, b"load") as sock:
        begun = time.perf_counter()
        sent, answered = 0, 0
        while answered < 4 * len(packets):
            burst = min(len(packets), answered // 4 + DEPTH)
            if sent < burst:
                sock.sendall(b"".join(packets[sent:burst]))
                sent = burst
            data = sock.recv(1 << 16)
            assert data, "the broker hung up"
            answered += len(data)
        return time.perf_counter() - begun


class Counter:
    """Subscribes to everything with QoS 0 and notes which numbers came and when."""

    def __init__(self, port: int) -> None:
        self._socket = _connected(port, b"counter")
        self._socket.sendall(bytes((0x82, 6)) + struct.pack("!HH", 1, 1) + b"#\0")
        self.numbers: set[int] = set()
        self.first = self.last = 0.0
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def wait(self, count: int, *, within_s: float) -> bool:
        """Whether so many different numbers came in time."""
        end = time.monotonic() + within_s
        while len(self.numbers) < count and time.monotonic() < end:
            time.sleep(0.01)
        return len(self.numbers) >= count

    def rate(self) -> float:
        """Messages a second, from the first to the last."""
        return len(self.numbers) / max(self.last - self.first, 1e-9)

    def close(self) -> None:
        """Hang up."""
        self._closing = True
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        rest = b""
        while not self._closing:
            try:
                data = self._socket.recv(1 << 18)
            except TimeoutError:
                continue
            except OSError:
                return
            if not data:
                return
            cut = data.rfind(b"}")
            found = [int(number) for number in _NUMBER.findall(rest + data[: cut + 1])]
            rest = data[cut + 1 :] if cut >= 0 else rest + data  # a payload ends with a brace
            if found:
                self.last = time.perf_counter()
                self.first = self.first or self.last
                self.numbers.update(found)


def _connected(port: int, client: bytes) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.settimeout(60)
    head = b"\x00\x04MQTT\x04\x02" + struct.pack("!H", 600)
    body = head + struct.pack("!H", len(client)) + client
    sock.sendall(b"\x10" + _length(len(body)) + body)
    assert sock.recv(4)[:2] == b"\x20\x02", "no CONNACK"
    return sock


def _publish(topic: bytes, payload: bytes, identifier: int) -> bytes:
    body = struct.pack("!H", len(topic)) + topic + struct.pack("!H", identifier) + payload
    return b"\x32" + _length(len(body)) + body


def _length(count: int) -> bytes:
    out = bytearray()
    while True:
        count, low = divmod(count, 128)
        out.append(low | (0x80 if count else 0))
        if not count:
            return bytes(out)
