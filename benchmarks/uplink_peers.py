"""The peers that can be installed: mosquitto as a bridge, mqtt.js with LevelDB, paho without any store."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from appliance.core.errors import InputError
from benchmarks.uplink_load import DEPTH, Counter, publish_raw, verdict_body
from benchmarks.uplink_site import Figures, Site, end, memory_mb, wait, written_bytes
from builder.host.toolstree import vm_tree
from tests.support.chaos.broker import descendant, free_port
from tests.support.chaos.device import DEVICE, NAMESPACE

TOPIC = f"{NAMESPACE.topic}/{DEVICE}/verdict"
_DURABLE = ("autosave_on_changes true", "autosave_interval 1")
_PATIENCE_S = 60.0
_MQTTJS = Path(__file__).parent / "mqttjs"
_MOST_IDENTIFIERS = 60_000  # MQTT has 65,535, and mqtt.js keeps each message under one


class Bridge:
    """mosquitto beside the device's programs, a bridge to the site's broker. durable: every change is saved."""

    def __init__(self, site: Site, name: str, *, durable: bool) -> None:
        self.directory = site.directory / name
        self.directory.mkdir()
        self.port = free_port()
        self._settings = self.directory / "mosquitto.conf"
        self._settings.write_text("\n".join((*self._lines(site), *(_DURABLE if durable else ()), "")))
        self._command = vm_tree().command(["mosquitto"], network=True, writable=[self.directory, site.directory])
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Seconds until it listens and answers."""
        begun = time.perf_counter()
        with (self.directory / "log").open("ab") as log:
            words = [*self._command, "-c", str(self._settings)]
            self._process = subprocess.Popen(words, stdout=log, stderr=log)
        wait(self._answers, f"{self.directory.name} to listen", 120)
        return time.perf_counter() - begun

    @property
    def pid(self) -> int:
        """Of mosquitto."""
        assert self._process is not None
        found = descendant(self._process.pid, "mosquitto")
        assert found is not None, (self.directory / "log").read_text()[-2000:]
        return found

    def stop(self, *, kill: bool) -> None:
        """kill -9, or SIGTERM, where it saves."""
        if self._process is not None:
            subprocess.run(["kill", "-KILL" if kill else "-TERM", str(self.pid)], check=True)
            self._process.wait(120)
            self._process = None

    def _answers(self) -> bool:
        try:
            publish_raw(self.port, "ready", [])
        except (OSError, AssertionError):
            return False
        return True

    def _lines(self, site: Site) -> tuple[str, ...]:
        return (
            *("user root", f"listener {self.port} 127.0.0.1", "allow_anonymous true"),
            *("max_queued_messages 0", "max_inflight_messages 1000"),
            *("persistence true", f"persistence_location {self.directory}/"),
            *("connection site", f"address 127.0.0.1:{site.sink.port}", f"topic {NAMESPACE.topic}/# out 1"),
            *(f"bridge_cafile {site.ca}", f"bridge_certfile {site.certificate}", f"bridge_keyfile {site.key}"),
            *("cleansession false", "notifications false", "restart_timeout 1", "bridge_protocol_version mqttv50"),
            f"remote_clientid {DEVICE}",
        )


def bridge(site: Site, *, durable: bool, messages: int, backlog: int | None = None) -> Figures:
    """Figures of a bridge. backlog: rows of its start-up time; None: not measured."""
    name = f"mosquitto bridge, {'durable' if durable else 'default'}"
    peer = Bridge(site, name.replace(" ", "-").replace(",", ""), durable=durable)
    peer.start()
    payloads = [verdict_body(number, DEVICE) for number in range(1, messages + 1)]
    in_rate = messages / publish_raw(peer.port, TOPIC, payloads)
    figures = Figures(name, durable=durable, in_rate=in_rate)
    counter = _sink(site)
    complete = counter.wait(messages, within_s=_PATIENCE_S)
    figures = replace(figures, drain=counter.rate(), written=written_bytes(peer.pid) / messages)
    figures = replace(figures, note="" if complete else f"drained {len(counter.numbers)} of {messages}")
    counter.close()
    site.sink.kill()
    count = min(messages, 5000)
    publish_raw(peer.port, TOPIC, payloads[:count])
    peer.stop(kill=True)
    peer.start()
    counter = _sink(site)
    counter.wait(count, within_s=10)
    figures = replace(figures, accepted=count, lost=count - len(counter.numbers))
    counter.close()
    site.sink.kill()
    if backlog:
        figures = replace(figures, **_backlog(peer, backlog))  # type: ignore[arg-type]
    peer.stop(kill=True)
    return figures


def _backlog(peer: Bridge, rows: int) -> dict[str, float | int]:
    for first in range(1, rows + 1, 50_000):
        last = min(first + 50_000, rows + 1)
        publish_raw(peer.port, TOPIC, [verdict_body(number, DEVICE) for number in range(first, last)])
    peer.stop(kill=False)
    start_s = peer.start()
    resident = memory_mb(peer.pid, "VmRSS")
    return {"start_s": start_s, "backlog_rows": rows, "resident_mb": resident, "peak_mb": memory_mb(peer.pid, "VmHWM")}


def mqttjs(site: Site, *, sync: bool, messages: int) -> Figures:
    """Figures of mqtt.js with mqtt-level-store, installed by its lock file below the site's directory.

    sync: LevelDB waits for the disk, which it does not by itself: without, what a power cut leaves is up to the kernel.

    Raises InputError where there is no npm.
    """
    if shutil.which("npm") is None:
        raise InputError("npm is missing on this machine", hint="install Node.js 18 or newer")
    messages = min(messages, _MOST_IDENTIFIERS)
    home = site.directory / f"mqttjs-{sync}"
    shutil.copytree(_MQTTJS, home)
    install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
    subprocess.run(install, cwd=home, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    settings = {
        "store": str(home / "level"),
        "port": site.sink.port,
        "device": DEVICE,
        "ca": str(site.ca),
        "certificate": str(site.certificate),
        "key": str(site.key),
        "sync": sync,
        "count": messages,
        "depth": DEPTH,
        "topic": TOPIC,
        "payload": verdict_body(0, DEVICE).decode(),
    }
    (home / "settings.json").write_text(json.dumps(settings))
    filler = _node(home, "fill")
    kept = _line(filler)
    written_in = written_bytes(filler.pid)
    end(filler)
    drainer = _node(home, "drain")
    counter = _sink(site)
    _line(drainer)
    complete = counter.wait(messages, within_s=_PATIENCE_S)
    rate, resident = counter.rate(), memory_mb(drainer.pid, "VmHWM")
    figures = Figures(
        f"mqtt.js, level store, {'fsync' if sync else 'default'}",
        durable=sync,
        in_rate=kept["kept"] / kept["seconds"],
        drain=rate,
        accepted=messages,
        lost=messages - len(counter.numbers) if complete else None,
        peak_mb=resident,
        written=(written_in + written_bytes(drainer.pid)) / messages,
        note="" if complete else f"drained {len(counter.numbers)} of {messages} in {_PATIENCE_S:.0f} s",
    )
    end(drainer)
    counter.close()
    site.sink.kill()
    return figures


def paho(site: Site, *, messages: int) -> Figures:
    """Figures of paho with QoS 1 and no store: what a program would do that may lose everything."""
    site.sink.start()
    context = ssl.create_default_context(cafile=str(site.ca))
    context.load_cert_chain(site.certificate, site.key)
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=DEVICE, protocol=mqtt.MQTTv5)
    client.tls_set_context(context)
    client.max_inflight_messages_set(1000)
    client.max_queued_messages_set(0)
    done: list[int] = []
    client.on_publish = lambda _client, _data, mid, *_rest: done.append(mid)
    connected: list[Any] = []
    client.on_connect = lambda *rest: connected.append(rest)
    client.connect("127.0.0.1", site.sink.port)
    client.loop_start()
    wait(lambda: bool(connected), "paho to connect")
    payloads = [verdict_body(number, DEVICE) for number in range(1, messages + 1)]
    begun = time.perf_counter()
    for payload in payloads:
        client.publish(TOPIC, payload, qos=1)
    wait(lambda: len(done) == messages, "paho's acknowledgements", 120)
    rate = messages / (time.perf_counter() - begun)
    client.disconnect()
    client.loop_stop()
    site.sink.kill()
    return Figures("paho, QoS 1, no store", drain=rate, accepted=messages, lost=messages, note="keeps nothing")


def _sink(site: Site) -> Counter:
    site.sink.start()
    return Counter(site.sink.reader_port)


def _node(home: Path, mode: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["node", "peer.cjs", mode, "settings.json"], cwd=home, stdout=subprocess.PIPE)


def _line(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "mqtt.js ended"
    found: dict[str, Any] = json.loads(line)
    return found
