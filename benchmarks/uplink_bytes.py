"""`python -m benchmarks.uplink_bytes`: bytes on the wire for each verdict, batches beside one message per verdict.

Real verdicts over TLS 1.3 to a real mosquitto, through a relay that counts every byte of both directions after the
handshake: records of TLS, packets of MQTT and their acknowledgements; not the headers of TCP and IP. A burst is what is
waiting when the link is there; the next one follows when everything is acknowledged. The floor is a share of what
paho sends with one JSON message per verdict, without any envelope, in bursts of 256.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import queue
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from rich.console import Console
from rich.table import Table

from appliance.core.clock import Moment
from appliance.formats.verdict import Verdict, encode_verdict
from appliance.uplink.dialect import Publish, Sending
from appliance.uplink.json_dialect import JsonDialect
from appliance.uplink.spooled import Spooled
from appliance.uplink.transport import Acknowledged, Broker, Connected, Link, Opening, Transport
from builder.host.toolstree import vm_tree
from tests.integration.services_harness import Authority, Mosquitto

BURSTS = (1, 16, 256)
VERDICTS = 1024
FLOOR = 0.2
"""Of the bytes of paho; a verdict has two SHA-256, of which one differs in each and cannot be compressed below 32."""
DEVICE = "line-3-cell-7"
_TIMEOUT_S = 60.0
_DIALECT = JsonDialect(
    namespace="example/plant-4/hall-2/line-3", device=DEVICE, epoch="0a0b" * 8, batches=True, receipts=False
)

Send = Callable[[list[Spooled]], None]


def main(argv: Sequence[str] | None = None) -> int:
    """argv: without the program's name. Returns 1 when batches are above the floor."""
    parser = argparse.ArgumentParser(prog="benchmarks.uplink_bytes")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="edgeseal-bench-") as scratch:
        result = measure(Path(scratch))
    share = result["edgeseal, backlog in batches"][256] / result["paho, one JSON message each"][256]
    if arguments.json:
        print(json.dumps({"bytes_per_verdict": result, "share": share, "floor": FLOOR}, indent=2))
    else:
        _show(result, share)
    return int(share > FLOOR)


def measure(directory: Path) -> dict[str, dict[int, float]]:
    """way → size of a burst → bytes for each verdict."""
    authority = Authority.make("site CA")
    command = vm_tree().command(["mosquitto"], network=True, writable=[directory])
    broker = Mosquitto(directory, authority, command)
    certificate, key = authority.issue(DEVICE, address=None)
    (directory / "device.pem").write_bytes(certificate)
    (directory / "device.key").write_bytes(key)
    broker.start()
    ways = {
        "paho, one JSON message each": _paho,
        "edgeseal, one envelope each": _one_by_one,
        "edgeseal, backlog in batches": _in_batches,
    }
    try:
        return {
            name: {burst: _way(way, directory, broker.port, burst) for burst in BURSTS} for name, way in ways.items()
        }
    finally:
        broker.stop()


def _way(way: Callable[[Path, Counter], Iterator[Send]], directory: Path, port: int, burst: int) -> float:
    counter = Counter(port)
    with contextlib.contextmanager(way)(directory, counter) as send:
        messages = list(spooled_verdicts())
        send(messages[:burst])  # the connection has settled: session tickets are through
        before = counter.total
        rest = messages[burst:]
        for first in range(0, len(rest), burst):
            send(rest[first : first + burst])
        print(f"bursts of {burst}: {way.__name__.strip('_')}", file=sys.stderr)
        return (counter.total - before) / len(rest)


def spooled_verdicts() -> Iterator[Spooled]:
    """As the inference service says them: a frame each 100 ms, three of four with the same label."""
    for number in range(1, VERDICTS + 1):
        dice = hashlib.sha256(f"frame {number}".encode()).digest()
        verdict = Verdict(
            device=DEVICE,
            boot_id="0b6f" * 8,
            start_us=9_123_456,
            sequence=number,
            frame_sequence=str(70_000 + number),
            frame_sha256=dice.hex(),
            label=("0", "0", "0", "90")[dice[0] % 4],
            score_ppm=900_000 + int.from_bytes(dice[1:4], "big") % 100_000,
            model="label-orientation",
            model_sha256=hashlib.sha256(b"model").hexdigest(),
            execution_provider="cpu",
            latency_us=40_000 + int.from_bytes(dice[4:6], "big") % 5_000,
            monotonic_us=9_200_000 + number * 100_000 + dice[6],
        )
        moment = (verdict.monotonic_us + 900, 1_795_000_000_000_000 + number * 100_000 + dice[7])
        yield Spooled("data", number, "verdict", 3, "0b6f" * 8, *moment, "synchronised", encode_verdict(verdict))


# ---- the ways


def _paho(directory: Path, counter: Counter) -> Iterator[Send]:
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=DEVICE, protocol=mqtt.MQTTv5)
    client.tls_set(str(directory / "ca.pem"), str(directory / "device.pem"), str(directory / "device.key"))
    client.max_inflight_messages_set(1000)
    ready = threading.Event()
    client.on_connect = lambda *_: ready.set()
    client.connect("127.0.0.1", counter.port)
    client.loop_start()
    assert ready.wait(_TIMEOUT_S)

    def send(messages: list[Spooled]) -> None:
        topic = f"example/plant-4/hall-2/line-3/{DEVICE}/verdict"
        for info in [client.publish(topic, each.body, qos=1) for each in messages]:
            info.wait_for_publish(_TIMEOUT_S)

    yield send
    client.disconnect()
    client.loop_stop()


def _one_by_one(directory: Path, counter: Counter) -> Iterator[Send]:
    sending = Sending("live", 12)
    yield from _ours(directory, counter, lambda messages: [_DIALECT.encode(each, sending) for each in messages])


def _in_batches(directory: Path, counter: Counter) -> Iterator[Send]:
    sending = Sending("backlog", 3_600_000)

    def encoded(messages: list[Spooled]) -> list[Publish]:
        batch = _DIALECT.encode_batch(tuple(messages), sending)
        return [batch] if batch is not None else [_DIALECT.encode(each, sending) for each in messages]

    yield from _ours(directory, counter, encoded)


def _ours(directory: Path, counter: Counter, encode: Callable[[list[Spooled]], list[Publish]]) -> Iterator[Send]:
    """Over the device's own transport."""
    events: queue.SimpleQueue[object] = queue.SimpleQueue()
    transport = Transport(
        (Broker("127.0.0.1", counter.port),),
        events.put,
        link=Link(DEVICE, directory / "ca.pem", 30, 600, pause_s=0.0),
        begin=lambda: Opening(None, (), directory / "device.pem", directory / "device.key"),
        clock=lambda: Moment("0" * 32, 1, int(time.time() * 1e6), "synchronised"),
    )
    transport.start()
    connected = events.get(timeout=_TIMEOUT_S)
    assert isinstance(connected, Connected), connected

    def send(messages: list[Spooled]) -> None:
        waiting = encode(messages)
        for token, message in enumerate(waiting):
            transport.publish(connected.connection, token, message)
        transport.flush()
        for _ in waiting:
            answer = events.get(timeout=_TIMEOUT_S)
            assert isinstance(answer, Acknowledged), answer

    yield send
    transport.stop()


class Counter:
    """A relay on loopback. total: bytes of both directions so far."""

    def __init__(self, target: int) -> None:
        """target: port of the broker."""
        self._target = target
        self._counts = [0, 0]
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def total(self) -> int:
        """After a moment in which nothing comes: an acknowledgement may be on its way."""
        before = -1
        while before != sum(self._counts):
            before = sum(self._counts)
            time.sleep(0.05)
        return before

    def _accept(self) -> None:
        inside, _ = self._listener.accept()
        self._listener.close()
        outside = socket.create_connection(("127.0.0.1", self._target))
        for number, (source, target) in enumerate(((inside, outside), (outside, inside))):
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._pump, args=(number, source, target), daemon=True).start()

    def _pump(self, number: int, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):  # either end may hang up first
            while data := source.recv(65_536):
                self._counts[number] += len(data)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


def _show(result: dict[str, dict[int, float]], share: float) -> None:
    table = Table("bytes on the wire for each verdict", *(f"bursts of {burst}" for burst in BURSTS))
    for name, row in result.items():
        table.add_row(name, *(f"{row[burst]:.0f}" for burst in BURSTS))
    console = Console()
    console.print(table)
    console.print(f"batches of 256: {share:.2f} of one JSON message each; floor {FLOOR}")


if __name__ == "__main__":
    sys.exit(main())
