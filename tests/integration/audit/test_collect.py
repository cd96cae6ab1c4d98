"""`edgeseal audit collect` at a real broker over mutual TLS: killed in between, forked, silent."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from builder.cli.main import main
from builder.host.toolstree import vm_tree
from tests.integration.services_harness import DEADLINE_S, Authority, Mosquitto, wait_until
from tests.support.audit_parts import TOPIC, envelopes, parts
from tests.support.audit_story import DEVICE, ORIGIN, story
from tests.support.naive_log import named_key

LOG = ORIGIN.rpartition("/")[2]
ALARMS = "edgeseal/alarms"


class Site:
    """A broker, its authority, and a directory for the collector."""

    def __init__(self, directory: Path) -> None:
        self.place = directory
        self.out = directory / "collected"
        self._authority = Authority.make("site CA")
        command = vm_tree().command(["mosquitto"], network=True, writable=[directory])
        self.broker = Mosquitto(directory, self._authority, command)
        self.broker.start()
        for name in ("collector", DEVICE):
            certificate, key = self._authority.issue(name, address=None)
            (directory / f"{name}.pem").write_bytes(certificate)
            (directory / f"{name}.key").write_bytes(key)
        assert main(["audit", "witness", "key", "--name", "site.test/w1", "--out", str(directory / "w.key")]) == 0

    def client(self, name: str) -> mqtt.Client:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"{name}-test", protocol=mqtt.MQTTv5)
        files = [str(self.place / file) for file in ("ca.pem", f"{name}.pem", f"{name}.key")]
        client.tls_set(*files)
        client.connect("127.0.0.1", self.broker.port)
        client.loop_start()
        return client

    def publish(self, messages: Iterable[bytes]) -> None:
        client = self.client(DEVICE)
        for message in messages:
            client.publish(TOPIC, message, qos=1).wait_for_publish(DEADLINE_S)
        client.disconnect()
        client.loop_stop()

    def words(self, *more: str) -> list[str]:
        files = [f"--ca={self.place}/ca.pem", f"--certificate={self.place}/collector.pem"]
        return [
            *("audit", "collect", str(self.out), f"--broker=127.0.0.1:{self.broker.port}", *files),
            *(f"--key={self.place}/collector.key", "--namespace=edgeseal", f"--vkey={named_key(ORIGIN).vkey}"),
            *(f"--witness-key={self.place}/w.key", *more),
        ]

    def start(self, *more: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "builder.cli.main", *self.words(*more)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def size(self) -> int:
        path = self.out / DEVICE / LOG / "checkpoint"
        return int(path.read_text().split("\n")[1]) if path.is_file() else 0


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.broker.stop()


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate(timeout=DEADLINE_S)


def test_it_is_killed_and_nothing_is_lost(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    told = story(boots=2, fill=400)
    first, second = parts(told, end=200, each=20), parts(told, start=200, each=20)
    running = site.start()
    wait_until((site.out / "seen").is_dir, "the collector")
    wait_until(lambda: len(list((site.out / "seen").iterdir())) == 1, "the collector subscribed")
    site.publish(envelopes(first))
    wait_until(lambda: site.size() == 200, "the first checkpoint")
    messages = list(envelopes(second, first=100))
    site.publish(messages[:4])
    kill(running)
    site.publish(messages[4:])  # the broker keeps them for the session
    running = site.start()
    try:
        wait_until(lambda: site.size() == len(told.entries), "the rest")
    finally:
        kill(running)
    capsys.readouterr()
    assert main(["audit", "verify", str(site.out / DEVICE / LOG), "--vkey", named_key(ORIGIN).vkey]) == 0
    assert main(["audit", "collect", "status", str(site.out)]) == 0
    assert capsys.readouterr().out.endswith(f"{DEVICE}/{LOG}: 411 entries\n0 alarms stand\n")


def test_a_fork_is_told_on_standard_output_on_the_topic_and_by_the_exit_code(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    told, other = story(boots=2), story(boots=2)
    other.entries[5] = other.entries[5].replace(b'"tries":3', b'"tries":4')
    heard: list[Any] = []
    ready = threading.Event()
    listener = site.client("collector")
    listener.on_message = lambda _client, _data, message: heard.append(json.loads(message.payload))
    listener.on_subscribe = lambda *_: ready.set()
    listener.subscribe(ALARMS, qos=1)
    assert ready.wait(DEADLINE_S)
    running = site.start(f"--alarm-topic={ALARMS}")
    wait_until(lambda: (site.out / "seen").is_dir() and list((site.out / "seen").iterdir()), "the collector")
    site.publish(envelopes(parts(told, end=6)))
    site.publish(envelopes(parts(other, start=6), first=9))
    wait_until(lambda: heard, "the alarm")
    running.kill()
    out, _ = running.communicate(timeout=DEADLINE_S)
    listener.disconnect()
    listener.loop_stop()
    (line,) = out.splitlines()
    assert json.loads(line) == heard[0]
    assert (heard[0]["kind"], heard[0]["device"]) == ("fork", DEVICE)
    capsys.readouterr()
    assert main(["audit", "collect", "status", str(site.out)]) == 1
    said = f"ALARM fork {DEVICE}/{LOG}: entries 6 to 11 are not those of the checkpoint that the device signed"
    assert said in capsys.readouterr().out


def test_a_silent_device_makes_the_run_fail(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(site.words("--silence=1", "--for=4")) == 1
    out = capsys.readouterr().out
    assert '"kind":"silence"' in out
    assert "1 alarms stand" in out
