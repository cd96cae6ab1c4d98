"""MQTT 5 over mutual TLS 1.3: the only module that talks to paho, which is a transport here and keeps nothing.

A thread of its own connects, sends and listens. Each connection has a client object of its own, so paho's queue dies
with it and the spool alone decides what is sent again.
"""

from __future__ import annotations

import collections
import random
import select
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

CONNECT_TIMEOUT_S = 30.0
STEP_S = 1.0
STOP_TIMEOUT_S = 5.0
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
MQTT_RECEIVE_MAXIMUM = 65_535  # what a broker means that names none


@dataclass(frozen=True)
class Broker:
    """Where to, and who we are. ca: the only certificates that are trusted. host: a name or an address, verified."""

    host: str
    port: int
    ca: Path
    certificate: Path
    key: Path
    device: str
    keepalive_s: int


@dataclass(frozen=True)
class Outgoing:
    """One message to publish with QoS 1."""

    sequence: int
    topic: str
    payload: bytes
    identity: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Connected:
    """The broker accepted us and allows so many messages in flight. connection: counts up from 1."""

    connection: int
    receive_maximum: int


@dataclass(frozen=True)
class Lost:
    """There is no connection (any more). reason: for people."""

    connection: int
    reason: str


@dataclass(frozen=True)
class Acknowledged:
    """The broker sent a PUBACK with success."""

    connection: int
    sequence: int


TransportEvent = Connected | Lost | Acknowledged


def tls_context(broker: Broker) -> ssl.SSLContext:
    """TLS 1.3 only, our certificate, the site's CA only, the broker's name checked. Raises OSError (SSLError)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cafile=broker.ca)
    context.load_cert_chain(broker.certificate, broker.key)
    return context


class Transport:
    """Keeps a connection up. report() is called in the transport's thread, for each event."""

    def __init__(
        self, broker: Broker, report: Callable[[TransportEvent], None], *, pause_s: float = FIRST_PAUSE_S
    ) -> None:
        """pause_s: longest first pause after a failure; it doubles up to LONGEST_PAUSE_S."""
        self._broker = broker
        self._report = report
        self._pause_s = pause_s
        self._stopping = threading.Event()
        self._queue: collections.deque[tuple[int, Outgoing]] = collections.deque()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._connection = 0
        self._thread = threading.Thread(target=self._run, name="transport", daemon=True)

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """False once the thread has ended after its start."""
        return self._thread.ident is None or self._thread.is_alive()

    def publish(self, connection: int, message: Outgoing) -> None:
        """Send on this connection; if it has gone by then, the message is dropped here and stays in the spool."""
        self._queue.append((connection, message))

    def flush(self) -> None:
        """Wake the transport after some publish()."""
        self._wake()

    def stop(self) -> None:
        """Disconnect and end the thread, or leave it behind when it is busy connecting."""
        self._stopping.set()
        self._wake()
        self._thread.join(STOP_TIMEOUT_S)

    def _wake(self) -> None:
        try:
            self._wake_writer.send(b"w")
        except BlockingIOError:
            return  # it is full of wake-ups already

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            self._connection += 1
            session = _Session(self._broker, self._connection, self._report)
            reason = self._carry(session)
            failures = 0 if session.was_connected else failures + 1
            if not self._stopping.is_set():
                self._report(Lost(self._connection, reason))
            longest = min(LONGEST_PAUSE_S, self._pause_s * 2 ** min(failures, 10))
            self._stopping.wait(random.uniform(longest / 4, longest))  # noqa: S311 (spreads devices, no secret)

    def _carry(self, session: _Session) -> str:
        """Run one connection to its end and return why it ended."""
        try:
            session.open()
            while not self._stopping.is_set() and session.reason is None:
                session.step(self._wake_reader)
                self._send_queued(session)
            session.close()
        except (OSError, ssl.SSLError) as error:
            return _in_words(error)
        except Exception as error:  # paho raises almost anything on a malformed packet; the broker is not trusted
            return f"the broker broke the protocol: {type(error).__name__}: {error}"
        return session.reason or "stopped"

    def _send_queued(self, session: _Session) -> None:
        while self._queue:
            connection, message = self._queue.popleft()
            if connection == session.number:
                session.publish(message)


class _Session:
    """One connection with one paho client."""

    def __init__(self, broker: Broker, number: int, report: Callable[[TransportEvent], None]) -> None:
        self.number = number
        self.reason: str | None = None
        self.was_connected = False
        self._broker = broker
        self._report = report
        self._sequences: dict[int, int] = {}

    def open(self) -> None:
        """Connect and start the handshake of MQTT. Raises OSError."""
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._broker.device,
            protocol=mqtt.MQTTv5,
            reconnect_on_failure=False,
        )
        self._client.connect_timeout = CONNECT_TIMEOUT_S
        self._client.tls_set_context(tls_context(self._broker))
        self._client.max_inflight_messages_set(MQTT_RECEIVE_MAXIMUM)  # the window above is ours
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish
        self._client.connect(self._broker.host, self._broker.port, keepalive=self._broker.keepalive_s, clean_start=True)

    def step(self, wake: socket.socket) -> None:
        """Wait for something and do it."""
        sock: Any = self._client.socket()
        if sock is None:
            self.reason = self.reason or "the connection was closed"
            return
        timeout = 0.0 if sock.pending() else STEP_S
        writers = [sock] if self._client.want_write() else []
        readable, writable, _ = select.select([sock, wake], writers, [], timeout)
        if wake in readable:
            wake.recv(4096)
        if sock in readable or sock.pending():
            self._client.loop_read()
        if writable:
            self._client.loop_write()
        self._client.loop_misc()

    def publish(self, message: Outgoing) -> None:
        """Send one message."""
        properties = _publish_properties()
        properties.ContentType = "application/json"
        properties.UserProperty = list(message.identity)
        info = self._client.publish(message.topic, message.payload, qos=1, properties=properties)
        self._sequences[info.mid] = message.sequence

    def close(self) -> None:
        """Say goodbye if somebody is there."""
        if self._client.socket() is not None:
            self._client.disconnect()

    def _on_connect(self, _client: object, _data: object, _flags: object, code: Any, properties: Any) -> None:
        if code.is_failure:
            self.reason = f"the broker refused us: {code}"
            return
        self.was_connected = True
        allowed = getattr(properties, "ReceiveMaximum", MQTT_RECEIVE_MAXIMUM)
        self._report(Connected(self.number, allowed))

    def _on_disconnect(self, _client: object, _data: object, _flags: object, code: Any, _properties: object) -> None:
        self.reason = self.reason or f"the connection ended: {code}"

    def _on_publish(self, _client: object, _data: object, mid: int, code: Any, _properties: object) -> None:
        sequence = self._sequences.pop(mid, None)
        if code.is_failure:
            self.reason = f"the broker refused message {sequence}: {code}"
        elif sequence is not None:
            self._report(Acknowledged(self.number, sequence))


def _publish_properties() -> Any:
    make: Any = Properties  # paho leaves it untyped
    return make(PacketTypes.PUBLISH)


def _in_words(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the broker's certificate is not trusted: {error.verify_message}"
    return error.strerror or str(error) or type(error).__name__
