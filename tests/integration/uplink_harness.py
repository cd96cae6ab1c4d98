"""A plant around the real uplink process: a broker over mutual TLS, a consumer, and a log that takes every event."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from appliance.core.errors import DecodeError
from appliance.formats.audit_event import Recorded, decode_event, encode_audit_answer
from appliance.formats.device import (
    AuditConfig,
    DeviceConfig,
    FrameSource,
    InferenceConfig,
    Namespace,
    UplinkConfig,
    encode_device_config,
)
from appliance.formats.uplink_message import (
    Accepted,
    PublishVerdict,
    UplinkAnswer,
    decode_uplink_answer,
    encode_uplink_message,
)
from appliance.formats.verdict import Verdict
from appliance.machine.uplink_client import UplinkClient
from builder.host.toolstree import vm_tree
from builder.uplink.receive import Message, read_message
from tests.integration.services_harness import Authority, Mosquitto, Service, ending, listening_socket, wait_until

DEVICE = "line-3-cell-7"
PROGRAM = """
from pathlib import Path
from appliance.machine.entry import run_service
from appliance.uplink.service import Settings, serve
{before}
everybody = frozenset({{ {uid} }})
settings = Settings(
    config=Path({config!r}), spool=Path({spool!r}), old_spool=Path({old!r}), audit_socket={audit!r}, first_pause_s=0.1,
    publishers=everybody, reporters=everybody, alarmers=everybody, auditors=everybody, readers=everybody)
raise SystemExit(run_service(lambda: serve(settings)))
"""
NAMESPACE = Namespace(enterprise="example", site="plant-4", line="line-3")
CONFIG = UplinkConfig(namespace=NAMESPACE, receive_maximum=20, keepalive_s=5)


def make_verdict(sequence: int, device: str = DEVICE) -> Verdict:
    """A verdict that nobody judged."""
    return Verdict(
        device=device,
        boot_id="0" * 32,
        start_us=1,
        sequence=sequence,
        frame_sequence=str(sequence),
        frame_sha256="a" * 64,
        label="90",
        score_ppm=900_000,
        model="page-orientation",
        model_sha256="b" * 64,
        execution_provider="cpu",
        latency_us=1000,
        monotonic_us=2000,
    )


class AuditLog:
    """Takes every event and keeps it in memory. faults: of events that the catalogue does not know like this."""

    def __init__(self, path: Path) -> None:
        self._listener = listening_socket(path)
        self.events: list[dict[str, Any]] = []
        self.faults: list[str] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def kinds(self) -> list[str]:
        """Of all events, in order."""
        return [event["kind"] for event in list(self.events)]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Fields of the events of one kind."""
        return [event["fields"] for event in list(self.events) if event["kind"] == kind]

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := connection.recv(1 << 16):
                self.events.append(msgspec.json.decode(data))
                try:
                    decode_event(data)
                except DecodeError as error:
                    self.faults.append(str(error))
                connection.send(encode_audit_answer(Recorded(sequence=len(self.events))))


class Historian:
    """Subscribes to everything below the namespace. messages: as they came, duplicates included."""

    def __init__(self, directory: Path, authority: Authority, port: int) -> None:
        certificate, key = authority.issue("historian", address=None)
        (directory / "historian.pem").write_bytes(certificate + key)
        context = ssl.create_default_context(cafile=str(directory / "ca.pem"))
        context.load_cert_chain(directory / "historian.pem")
        self.messages: list[Message] = []
        self.arrivals: list[float] = []
        self.faults: list[str] = []
        self.batches = 0
        self._subscribed = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="historian", protocol=mqtt.MQTTv5)
        self._client.tls_set_context(context)
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._on_message
        self._client.reconnect_delay_set(1, 1)
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 600
        self._client.connect("127.0.0.1", port, clean_start=False, properties=properties)
        self._client.loop_start()
        assert self._subscribed.wait(60)

    def sequences(self, stream: str = "data") -> list[int]:
        """Of one stream, in order of arrival."""
        return [one.envelope.sequence for one in list(self.messages) if one.envelope.stream == stream]

    def say(self, topic: str, payload: bytes) -> None:
        """Publish something to the device."""
        self._client.publish(topic, payload, qos=1).wait_for_publish(10)

    def close(self) -> None:
        """Hang up."""
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, _client: object, _data: object, message: Any) -> None:
        if message.topic.endswith(("/receipt", "/certificate-request", "/certificate")):
            return
        try:
            properties = message.properties
            read = read_message(message.topic, message.payload, properties.ContentType, properties.UserProperty)
        except Exception as error:  # shown by the test, which would otherwise wait for ever
            self.faults.append(f"{message.topic}: {error}")
            return
        self.batches += len(read) > 1
        self.arrivals += [time.monotonic()] * len(read)
        self.messages += read


class UplinkPlant:
    """Everything below one directory."""

    def __init__(self, directory: Path, config: UplinkConfig = CONFIG) -> None:
        self.directory = directory
        self.authority = Authority.make("site CA")
        command = vm_tree().command(["mosquitto"], network=True, writable=[directory])
        self.broker = Mosquitto(directory, self.authority, command)
        self.socket = directory / "uplink.sock"
        self.spool = directory / "outbox.sqlite"
        self.audit = AuditLog(directory / "audit.sock")
        self.config = directory / "device.json"
        self._listener = listening_socket(self.socket)
        self.configure(config)
        credentials = directory / "credentials"
        credentials.mkdir()
        certificate, key = self.authority.issue(DEVICE, address=None)
        for name, data in {
            "device-id": DEVICE.encode(),
            "broker-host": b"127.0.0.1",
            "broker-port": str(self.broker.port).encode(),
            "broker-ca": self.authority.pem(),
            "client-certificate": certificate,
            "client-key": key,
        }.items():
            (credentials / f"edgeseal.{name}").write_bytes(data)

    def configure(self, config: UplinkConfig) -> None:
        """The profile's part."""
        source = FrameSource(kind="virtio", device="/dev/null", width=640, height=640)
        device = DeviceConfig(
            product="label-check",
            profile="virtual-x86_64",
            version=7,
            development=True,
            inference=InferenceConfig(model="page-orientation", source=source),
            uplink=config,
            audit=AuditConfig(),
        )
        self.config.write_bytes(encode_device_config(device))

    def start(self, *, before: str = "") -> Service:
        """The service, ready. before: Python that it runs first."""
        program = PROGRAM.format(
            before=before,
            config=str(self.config),
            spool=str(self.spool),
            old=str(self.directory / "spool.sqlite"),
            audit=str(self.directory / "audit.sock"),
            uid=os.getuid(),
        )
        return Service("uplink", program, self.directory, listener=self._listener).ready()

    def historian(self) -> Historian:
        """A consumer of everything; the broker must run."""
        return Historian(self.directory, self.authority, self.broker.port)

    def open(self, uplink: Service) -> Historian:
        """Start the broker and a consumer; the uplink stands still until both are there, or it would be the first."""
        uplink.process.send_signal(signal.SIGSTOP)
        try:
            self.broker.start()
            return self.historian()
        finally:
            uplink.process.send_signal(signal.SIGCONT)

    def client(self) -> UplinkClient:
        """A producer."""
        return UplinkClient(str(self.socket))


class Pipeline:
    """A producer that does not wait for each answer."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(60)
        self.socket.connect(str(path))
        self.sent = 0

    def publish(self, count: int, *, window: int = 64) -> list[UplinkAnswer]:
        """Hand in `count` verdicts; the answers in order."""
        answers: list[UplinkAnswer] = []
        end = self.sent + count
        waiting = 0
        while self.sent < end or waiting:
            while self.sent < end and waiting < window:
                self.sent += 1
                self.socket.send(encode_uplink_message(PublishVerdict(id=self.sent, verdict=make_verdict(self.sent))))
                waiting += 1
            answers.append(decode_uplink_answer(self.socket.recv(1 << 16)))
            waiting -= 1
        return answers


def accepted(answers: list[UplinkAnswer]) -> list[int]:
    """The sequences, when every message was accepted."""
    assert all(isinstance(answer, Accepted) for answer in answers), answers[-1]
    return [answer.sequence for answer in answers if isinstance(answer, Accepted)]


@contextlib.contextmanager
def plant_at(directory: Path, config: UplinkConfig = CONFIG) -> Iterator[UplinkPlant]:
    """A plant whose broker is stopped in the end."""
    plant = UplinkPlant(directory, config)
    try:
        yield plant
        assert plant.audit.faults == []
    finally:
        plant.broker.stop()


__all__ = (
    "CONFIG",
    "DEVICE",
    "AuditLog",
    "Historian",
    "Pipeline",
    "UplinkPlant",
    "accepted",
    "ending",
    "make_verdict",
    "plant_at",
    "wait_until",
)
