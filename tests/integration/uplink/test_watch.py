"""`edgeseal uplink watch` at a real broker: what it counts, and that kill -9 of the watcher changes no number."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from appliance.formats.gap import Gap, encode_gap
from appliance.formats.receipt import decode_receipt
from appliance.uplink.dialect import Publish, Receipt, Sending
from appliance.uplink.json_dialect import JsonDialect
from appliance.uplink.spooled import Lane, Spooled, Stream
from builder.host.toolstree import vm_tree
from builder.uplink import state
from builder.uplink.subscriber import Access, Subscriber
from builder.uplink.watch import Recent
from tests.integration.services_harness import DEADLINE_S, Authority, Mosquitto, wait_until

EPOCH, DEVICE, NAMESPACE = "0a" * 16, "line-3-cell-7", "example/plant-4/line-3"
DIALECT = JsonDialect(namespace=NAMESPACE, device=DEVICE, epoch=EPOCH, batches=True, receipts=True)


@dataclass
class Site:
    """A broker, its CA and a directory."""

    directory: Path
    authority: Authority
    broker: Mosquitto

    def issue(self, name: str) -> tuple[Path, Path]:
        """Certificate and key of a client, as files."""
        certificate, key = self.authority.issue(name, address=None)
        paths = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        paths[0].write_bytes(certificate)
        paths[1].write_bytes(key)
        return paths

    def watch(self, *more: str) -> list[str]:
        """The command line."""
        certificate, key = self.issue("watcher")
        files = ["--ca", str(self.directory / "ca.pem"), "--certificate", str(certificate), "--key", str(key)]
        port = str(self.broker.port)
        command = [sys.executable, "-m", "builder.cli.main", "uplink", "watch", "127.0.0.1", "--port", port]
        return [*command, *files, "--json", "--interval", "0.1", *more]


class Device:
    """Publishes as a device would, with the real dialect; hears what the site answers."""

    def __init__(self, site: Site) -> None:
        certificate, key = site.issue(DEVICE)
        self.receipts: list[Receipt] = []
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=DEVICE, protocol=mqtt.MQTTv5)
        self._client.tls_set(str(site.directory / "ca.pem"), str(certificate), str(key))
        self._client.max_inflight_messages_set(1000)
        ready = threading.Event()
        self._client.on_connect = lambda client, *_: client.subscribe([(each, 1) for each in DIALECT.subscriptions()])
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", site.broker.port)
        self._client.loop_start()
        assert ready.wait(DEADLINE_S)

    def publish(self, message: Publish | None) -> mqtt.MQTTMessageInfo:
        assert message is not None
        properties: Any = Properties(PacketTypes.PUBLISH)
        properties.ContentType = message.content_type
        properties.UserProperty = list(message.properties)
        return self._client.publish(message.topic, message.payload, qos=1, properties=properties)

    def send(self, numbers: range | list[int], lane: Lane = "live", stream: Stream = "data") -> None:
        infos = [self.publish(DIALECT.encode(spooled(each, stream), Sending(lane, 5))) for each in numbers]
        for info in infos:
            info.wait_for_publish(DEADLINE_S)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, _client: object, _data: object, message: Any) -> None:
        decode_receipt(message.payload)
        self.receipts += [each for each in DIALECT.heard(message.topic, message.payload) if isinstance(each, Receipt)]


def spooled(sequence: int, stream: Stream = "data", body: bytes = b'{"schema":1}\n', kind: str = "verdict") -> Spooled:
    return Spooled(stream, sequence, kind, 1, "1b" * 16, 1000 * sequence, 0, "unknown", body)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    authority = Authority.make("site CA")
    command = vm_tree().command(["mosquitto"], network=True, writable=[tmp_path])
    made = Site(tmp_path, authority, Mosquitto(tmp_path, authority, command))
    made.broker.start()
    yield made
    made.broker.stop()


@pytest.fixture
def device(site: Site) -> Iterator[Device]:
    made = Device(site)
    yield made
    made.close()


class Watcher:
    """One run of the command. last: its newest report."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.last: dict[str, Any] | None = None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def count(self, name: str, stream: str = "data") -> int:
        rows = [] if self.last is None else [row for row in self.last["streams"] if row["stream"] == stream]
        return sum(row[name] for row in rows)

    def wait(self, name: str, number: int, stream: str = "data") -> None:
        def reached() -> bool:
            assert self._process.poll() is None, self._process.stderr and self._process.stderr.read()
            return self.count(name, stream) >= number

        wait_until(reached, f"{number} {name}")

    def listening(self) -> None:
        wait_until(lambda: self.last is not None or self._process.poll() is not None, "a first report")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def stop(self) -> int:
        self._process.send_signal(signal.SIGINT)
        code = self._process.wait(DEADLINE_S)
        self._reader.join()
        return code

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.endswith("\n"):
                self.last = json.loads(line)


def test_it_counts_what_is_missing_twice_late_and_out_of_order(site: Site, device: Device) -> None:
    watcher = Watcher(site.watch("--check"))
    watcher.listening()
    device.send(range(1, 51))
    device.send(range(60, 71))  # 51 to 59 never come
    device.send(range(65, 71))  # as after a lost connection
    device.send(range(51, 53), lane="backlog")
    device.send([62 + 20, 80], lane="live")  # the promise is broken
    batch = DIALECT.encode_batch(tuple(map(spooled, range(53, 55))), Sending("backlog", None))
    device.publish(batch).wait_for_publish(DEADLINE_S)
    gap = encode_gap(Gap(epoch=EPOCH, stream="data", first=55, last=57, reason="dropped"))
    record = DIALECT.encode(spooled(1, "alarm", gap, "gap"), Sending("alarm", None))
    device.publish(record).wait_for_publish(DEADLINE_S)
    watcher.wait("received", 1, stream="alarm")
    watcher.wait("received", 50 + 11 + 6 + 2 + 2 + 2)
    assert watcher.stop() == 1
    assert watcher.last is not None
    row = next(row for row in watcher.last["streams"] if row["stream"] == "data")
    assert (row["device"], row["epoch"], row["highest"], row["excused"]) == (DEVICE, EPOCH, 82, 3)
    assert (row["duplicates"], row["late"], row["disordered"]) == (6, 2 + 2 + 1, 1)
    assert row["missing_ranges"] == [[58, 59], [71, 79], [81, 81]]
    assert (row["missing"], watcher.last["unreadable"], watcher.last["whole"]) == (12, 0, False)


def test_what_is_no_message_is_told_and_counted(site: Site, device: Device) -> None:
    watcher = Watcher(site.watch())
    watcher.listening()
    good = DIALECT.encode(spooled(1), Sending("live", 5))
    for wrong in (
        Publish(f"{NAMESPACE}/other/verdict", good.payload, properties=good.properties),
        Publish(good.topic, good.payload + b" ", properties=good.properties),
        Publish(f"{NAMESPACE}/{DEVICE}/batch", b"no zstd", content_type="application/vnd.edgeseal.batch+zstd"),
    ):
        device.publish(wrong).wait_for_publish(DEADLINE_S)
    device.publish(Publish("someone/else", b"{}")).wait_for_publish(DEADLINE_S)
    device.publish(good).wait_for_publish(DEADLINE_S)
    watcher.wait("received", 1)
    assert watcher.stop() == 0
    assert watcher.last is not None
    assert watcher.last["unreadable"] == 3
    assert watcher.count("received") == 1


def test_kill_9_of_the_watcher_changes_no_number(site: Site, device: Device, tmp_path: Path) -> None:
    command = site.watch("--state", str(tmp_path / "watch.json"))
    watcher = Watcher(command)
    watcher.listening()
    sent = 0
    for round_number in range(4):
        for _ in range(5):
            device.send(range(sent + 1, sent + 301))
            device.send([sent + 300])  # a duplicate of the device's own must stay one
            sent += 300
            time.sleep(0.05 * round_number)
        watcher.kill()  # somewhere between counting, keeping and acknowledging
        watcher = Watcher(command)
    watcher.wait("received", sent + 20)
    time.sleep(0.5)  # one too many would come now
    assert watcher.stop() == 0
    assert (watcher.count("received"), watcher.count("duplicates"), watcher.count("missing")) == (sent + 20, 20, 0)


@pytest.mark.parametrize(("remembers", "duplicates"), [(True, 0), (False, 50)], ids=["as it is", "without its memory"])
def test_what_the_broker_sends_again_is_no_duplicate_of_the_devices(
    site: Site, device: Device, tmp_path: Path, remembers: bool, duplicates: int
) -> None:
    certificate, key = site.issue("watcher")
    files = (site.directory / "ca.pem", certificate, key)
    access = Access("127.0.0.1", site.broker.port, *files, client_id="watcher", topics=("#",), kept=True)
    kept = tmp_path / "watch.json"
    before = state.load(kept, joined=False, limit=1000)
    first = Subscriber(access, lambda heard: before.take(heard, 0.0))
    first.connect()
    step_until(first, lambda: first.listens)
    device.send(range(1, 51))
    step_until(first, lambda: before.tally.total("received") == 50)
    state.save(kept, before)  # and the power goes before the broker hears of it
    after = state.load(kept, joined=False, limit=1000)
    if not remembers:
        after.recent = Recent(1000)
    second = Subscriber(access, lambda heard: after.take(heard, 0.0))
    second.connect()
    step_until(second, lambda: second.waiting == 50)
    second.acknowledge()
    device.send([51])
    step_until(second, lambda: after.tally.total("received") == 51 + duplicates)
    assert after.tally.total("duplicates") == duplicates
    second.close()


def step_until(subscriber: Subscriber, condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end
        subscriber.step()


def test_receipts_name_what_was_kept(site: Site, device: Device, tmp_path: Path) -> None:
    watcher = Watcher(site.watch("--receipts", "--state", str(tmp_path / "watch.json")))
    watcher.listening()
    device.send(range(1, 21))
    device.send(range(31, 41))
    wait_until(lambda: {(one.first, one.last) for one in device.receipts} >= {(1, 20), (31, 40)}, "the receipts")
    assert watcher.stop() == 0
    assert {(one.epoch, one.stream) for one in device.receipts} == {(EPOCH, "data")}


def test_a_certificate_that_the_broker_does_not_take(site: Site) -> None:
    foreign = Authority.make("another CA")
    certificate, key = foreign.issue("watcher", address=None)
    command = site.watch("--for", "20")
    (site.directory / "watcher.pem").write_bytes(certificate)
    (site.directory / "watcher.key").write_bytes(key)
    (site.directory / "ca.pem").write_bytes(foreign.pem())
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False, env=os.environ)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: the broker 127.0.0.1:{site.broker.port} is not trusted: ")
