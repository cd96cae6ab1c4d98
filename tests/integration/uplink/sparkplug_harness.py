"""A device with the Sparkplug dialect, its broker, the tap between them, and a primary host."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.subscribeoptions import SubscribeOptions

from appliance.core.canonical import canonical_json
from appliance.formats.device import (
    DeviceConfig,
    FrameSource,
    InferenceConfig,
    Namespace,
    SparkplugConfig,
    UplinkConfig,
    encode_device_config,
)
from appliance.machine.uplink_client import UplinkClient
from builder.host.toolstree import vm_tree
from tests.integration.services_harness import Authority, Mosquitto, Service, ending, listening_socket, wait_until
from tests.integration.uplink.sparkplug_tap import Tap
from tests.support.sparkplug_recording import Message, Record, Recording, Restarted

GROUP, NODE, HOST = "plant-4", "line-3-cell-7", "scada"
NAMESPACE = Namespace(enterprise="example", site="plant-4")

UPLINK = """
from pathlib import Path
from appliance.machine.entry import run_service
from appliance.uplink.service import Settings, serve
directory, me = Path({directory!r}), frozenset({{ {uid} }})
settings = Settings(config=directory / "device.json", spool=directory / "outbox.sqlite",
                    old_spool=directory / "spool.sqlite", audit_socket=str(directory / "audit.sock"),
                    publishers=me, reporters=me, alarmers=me, auditors=me, readers=me, first_pause_s=0.2)
raise SystemExit(run_service(lambda: serve(settings)))
"""


class PrimaryHost:
    """A host application as chapter 5.13 wants it. messages: everything that it was sent, in order."""

    def __init__(self, directory: Path, authority: Authority, port: int) -> None:
        certificate, key = authority.issue(HOST, address=None)
        self._identity = directory / "host.pem"
        self._identity.write_bytes(certificate + key)
        self._ca = str(directory / "ca.pem")
        self._port = port
        self.messages: list[Message] = []
        self._client: mqtt.Client | None = None

    def go_online(self) -> None:
        """Connect, subscribe, say that we are here; from then on anew after every loss."""
        self._ready = threading.Event()
        self._since = time.time_ns() // 1_000_000
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=HOST, protocol=mqtt.MQTTv5)
        context = ssl.create_default_context(cafile=self._ca)
        context.load_cert_chain(self._identity)
        client.tls_set_context(context)
        client.will_set(self._topic, self._state(False, self._since), qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.reconnect_delay_set(1, 1)
        client.connect("127.0.0.1", self._port)
        client.loop_start()
        self._client = client
        assert self._ready.wait(60)

    def go_offline(self) -> None:
        """Say so and leave."""
        assert self._client is not None
        now = time.time_ns() // 1_000_000
        self._client.publish(self._topic, self._state(False, now), qos=1, retain=True).wait_for_publish(30)
        self._client.disconnect()
        self._client.loop_stop()
        self._client = None

    def crash(self) -> None:
        """Vanish: nothing is said but by the broker."""
        assert self._client is not None
        self._client.loop_stop()
        sock: Any = self._client.socket()
        sock.close()
        self._client = None

    def close(self) -> None:
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()

    def command(self, payload: bytes) -> None:
        """An NCMD."""
        assert self._client is not None
        self._client.publish(f"spBv1.0/{GROUP}/NCMD/{NODE}", payload, qos=0)

    def receipt(self, epoch: str, ranges: list[list[int]]) -> None:
        """A historian's, on its JSON topic beside Sparkplug."""
        assert self._client is not None
        told = {"schema": 1, "device": NODE, "epoch": epoch, "stream": "data", "ranges": ranges}
        self._client.publish(f"{NAMESPACE.topic}/{NODE}/receipt", canonical_json(told), qos=1)

    def of(self, *types: str) -> list[Message]:
        return [message for message in list(self.messages) if message.type in types]

    @property
    def _topic(self) -> str:
        return f"spBv1.0/STATE/{HOST}"

    def _state(self, online: bool, timestamp: int) -> bytes:
        return json.dumps({"online": online, "timestamp": timestamp}).encode()

    def _on_connect(self, client: Any, *_rest: object) -> None:
        options = SubscribeOptions(qos=1, retainAsPublished=True)
        client.subscribe([("spBv1.0/#", options), ("example/#", options)])

    def _on_subscribe(self, client: Any, *_rest: object) -> None:
        client.publish(self._topic, self._state(True, self._since), qos=1, retain=True)
        self._ready.set()

    def _on_message(self, _client: object, _data: object, message: Any) -> None:
        now = time.time_ns() // 1_000_000
        self.messages.append(Message(message.topic, bytes(message.payload), message.qos, message.retain, now))


class Station:
    """Everything below one directory. host: at the first broker; other_host: the same one at the second."""

    def __init__(self, directory: Path, *, brokers: int = 1, **changed: Any) -> None:
        """changed: fields of the uplink's configuration."""
        self.directory = directory
        authority = Authority.make("site CA")
        records: list[Record] = []
        credentials = directory / "credentials"
        credentials.mkdir()
        certificate, key = authority.issue(NODE, address=None)
        (credentials / "edgeseal.client-certificate").write_bytes(certificate)
        (credentials / "edgeseal.client-key").write_bytes(key)
        places = [directory / f"broker-{number}" for number in range(brokers)]
        self.brokers = [_broker(place, authority) for place in places]
        self.taps = [
            Tap(place, credentials, broker.port, records) for place, broker in zip(places, self.brokers, strict=True)
        ]
        self.broker, self.tap = self.brokers[0], self.taps[0]
        (credentials / "edgeseal.device-id").write_text(NODE)
        (credentials / "edgeseal.broker-hosts").write_text(" ".join(f"127.0.0.1:{tap.port}" for tap in self.taps))
        (credentials / "edgeseal.broker-ca").write_bytes(authority.pem())
        (directory / "device.json").write_bytes(encode_device_config(_config(changed)))
        self.socket = directory / "uplink.sock"
        self._listener = listening_socket(self.socket)
        self._hosts = [
            PrimaryHost(place, authority, broker.port) for place, broker in zip(places, self.brokers, strict=True)
        ]
        self.host, self.other_host = self._hosts[0], self._hosts[-1]

    @contextmanager
    def uplink(self) -> Iterator[tuple[Service, UplinkClient]]:
        """The real service, and a producer's connection to it."""
        self.tap.records.append(Restarted())
        program = UPLINK.format(directory=str(self.directory), uid=Path("/proc/self").stat().st_uid)
        service = Service("uplink", program, self.directory, listener=self._listener)
        with ending(service):
            service.ready()
            client = UplinkClient(str(self.socket))
            yield service, client
            client.close()

    @property
    def recording(self) -> Recording:
        return Recording(GROUP, NODE, HOST, tuple(self.tap.records))

    def wait_for(self, count: int, *types: str) -> list[Message]:
        """Until the host has so many messages of these types; all of them."""
        wait_until(lambda: len(self.host.of(*types)) >= count, f"{count} of {types} at the host")
        return self.host.of(*types)

    def close(self) -> None:
        for host in self._hosts:
            host.close()
        for tap in self.taps:
            tap.close()
        for broker in self.brokers:
            broker.stop()


def _broker(place: Path, authority: Authority) -> Mosquitto:
    place.mkdir()
    return Mosquitto(place, authority, vm_tree().command(["mosquitto"], network=True, writable=[place]))


def _config(changed: dict[str, Any]) -> DeviceConfig:
    uplink = {
        "namespace": NAMESPACE,
        "payload": "sparkplug-b",
        "sparkplug": SparkplugConfig(group=GROUP, primary_host=HOST),
        "keepalive_s": 20,
        **changed,
    }
    return DeviceConfig(
        product="label-check",
        profile="industrial-pc",
        version=7,
        development=True,
        inference=InferenceConfig(model="page-orientation", source=FrameSource(kind="virtio")),
        uplink=UplinkConfig(**uplink),
    )
