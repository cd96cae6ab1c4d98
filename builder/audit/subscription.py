"""MQTT 5 over mutual TLS for the collector: nothing is acknowledged before it is durable, the session outlives us."""

from __future__ import annotations

import queue
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from appliance.core.errors import EdgesealError, InputError, Place

_SESSION_S = 30 * 86_400  # what the broker keeps for us while we are away
_IN_FLIGHT = 64
_MAX_PACKET = 128 << 10  # an envelope has at most 49 KiB
_WAIT_S = 20.0


@dataclass(frozen=True)
class Message:
    """topic, payload; mid, qos: to acknowledge it."""

    topic: str
    payload: bytes
    mid: int
    qos: int


class Subscription:
    """A connection that comes back by itself. client_id: names the session that the broker keeps."""

    def __init__(
        self, broker: tuple[str, int], *, authority: Path, certificate: Path, key: Path, topic: str, client_id: str
    ) -> None:
        """Connect and subscribe with QoS 1. Raises InputError for bad files, EdgesealError when it is refused."""
        self._queue: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._told: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._topic = topic
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv5, manual_ack=True
        )
        self._client.tls_set_context(_tls(authority, certificate, key))
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        connect: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        connect.SessionExpiryInterval = _SESSION_S
        connect.ReceiveMaximum = _IN_FLIGHT
        connect.MaximumPacketSize = _MAX_PACKET
        where = f"{broker[0]}:{broker[1]}"
        try:
            self._client.connect(*broker, clean_start=False, properties=connect)
        except OSError as error:
            raise EdgesealError(f"the broker {where} cannot be reached: {error}") from error
        self._client.loop_start()
        try:
            refused = self._told.get(timeout=_WAIT_S)
        except queue.Empty:
            refused = "it does not answer"
        if refused:
            self.close()
            raise EdgesealError(f"the broker {where} does not let us subscribe to {topic}: {refused}")

    def next(self, *, within_s: float) -> Message | None:
        """The next message; None when there is none in that time."""
        try:
            return self._queue.get(timeout=within_s)
        except queue.Empty:
            return None

    def acknowledge(self, message: Message) -> None:
        """It is kept here; the broker may forget it."""
        self._client.ack(message.mid, message.qos)

    def publish(self, topic: str, payload: str) -> None:
        """QoS 1."""
        self._client.publish(topic, payload.encode(), qos=1)

    def close(self) -> None:
        """Disconnect; the broker keeps the session."""
        self._client.disconnect()
        self._client.loop_stop()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _on_connect(self, client: mqtt.Client, _data: object, _flags: object, code: Any, _properties: object) -> None:
        if code.is_failure:
            self._told.put(str(code))
        else:
            client.subscribe(self._topic, qos=1)

    def _on_subscribe(self, _client: object, _data: object, _mid: int, codes: Any, _properties: object) -> None:
        self._told.put(str(codes[0]) if codes[0].is_failure else "")

    def _on_message(self, _client: object, _data: object, message: Any) -> None:
        self._queue.put(Message(message.topic, message.payload, message.mid, message.qos))


def _tls(authority: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(cafile=authority)
    except OSError as error:
        raise InputError("not the certificate of an authority", place=Place(str(authority))) from error
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:
        raise InputError("not a certificate with its key", place=Place(str(certificate))) from error
    return context
