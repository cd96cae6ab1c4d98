"""The watcher's connection: MQTT 5 over mutual TLS 1.3, one thread, nothing acknowledged before it is kept.

With a state file the broker keeps our session while we are away, and sends again what we did not acknowledge.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from appliance.core.errors import EdgesealError, InputError, Place
from builder.uplink.watch import Heard

RECEIVE_MAXIMUM = 1000
_SESSION_S = 7 * 86_400
_STEP_S = 0.1
_KEEPALIVE_S = 30
_PAUSES_S = (0.2, 1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True)
class Access:
    """The broker, and who we are there. kept: the broker keeps the session while we are away."""

    host: str
    port: int
    authority: Path
    certificate: Path
    key: Path
    client_id: str
    topics: tuple[str, ...]
    kept: bool


class Subscriber:
    """Connects, listens, and connects again. Everything happens in step()."""

    def __init__(self, access: Access, take: Callable[[Heard], object]) -> None:
        """take: called for each message.

        listens: the broker has accepted the subscriptions. unkept: something was taken since acknowledge().

        Raises InputError for files that are none.
        """
        self._access = access
        self._take = take
        self._pending: list[int] = []
        self._failures = 0
        self._connected = False
        self.listens = False
        self.unkept = False
        self.refused: str | None = None
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=access.client_id,
            protocol=mqtt.MQTTv5,
            manual_ack=True,
            reconnect_on_failure=False,
        )
        self._client.tls_set_context(_tls(access))
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message

    @property
    def waiting(self) -> int:
        """Messages that were taken and not acknowledged."""
        return len(self._pending)

    def connect(self) -> None:
        """For the first time. Raises EdgesealError: later failures are waited out, this one is a mistake."""
        make: Any = Properties  # paho leaves it untyped
        properties = make(PacketTypes.CONNECT)
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
        properties.SessionExpiryInterval = _SESSION_S if self._access.kept else 0
        where = f"{self._access.host}:{self._access.port}"
        try:
            self._client.connect(
                self._access.host,
                self._access.port,
                keepalive=_KEEPALIVE_S,
                clean_start=not self._access.kept,
                properties=properties,
            )
        except ssl.SSLCertVerificationError as error:
            raise EdgesealError(f"the broker {where} is not trusted: {error.verify_message}") from error
        except OSError as error:
            raise EdgesealError(f"the broker {where} cannot be reached: {error.strerror or error}") from error

    def step(self) -> None:
        """Listen for a moment. Raises EdgesealError when the broker refuses us."""
        code = self._client.loop(_STEP_S)
        if self.refused is not None:
            raise EdgesealError(self.refused)
        if code != mqtt.MQTT_ERR_SUCCESS:
            self._connected = False
            self._again()

    def acknowledge(self) -> None:
        """Everything that was taken is kept: the broker may forget it."""
        for packet in self._pending:
            self._client.ack(packet, 1)
        self._pending.clear()
        self.unkept = False

    def say(self, messages: Iterable[tuple[str, bytes]], *, retain: bool = False) -> None:
        """Publish with QoS 1; what is lost with the connection is said again when the device repeats itself."""
        for topic, payload in messages:
            self._client.publish(topic, payload, qos=1, retain=retain)

    def close(self) -> None:
        """Hang up; the broker goes on collecting when the session is kept."""
        if self._connected:
            self._client.disconnect()
            self._client.loop(_STEP_S)

    def _again(self) -> None:
        self._pending.clear()  # the broker sends them again
        time.sleep(_PAUSES_S[min(self._failures, len(_PAUSES_S) - 1)])
        self._failures += 1
        try:
            self._client.reconnect()
        except OSError:
            return

    def _on_connect(self, client: mqtt.Client, _data: object, _flags: object, code: Any, _properties: object) -> None:
        if code.is_failure:
            self.refused = f"the broker refused {self._access.client_id}: {code}"
            return
        self._connected = True
        options = SubscribeOptions(qos=1, noLocal=True)
        client.subscribe([(topic, options) for topic in self._access.topics])

    def _on_subscribe(self, _client: object, _data: object, _mid: int, codes: Any, _properties: object) -> None:
        self._failures, self.listens = 0, True
        for topic, code in zip(self._access.topics, codes, strict=True):
            if code.is_failure:
                self.refused = f"the broker refuses the subscription to {topic}: {code}"

    def _on_disconnect(self, *_: object) -> None:
        self._connected = self.listens = False

    def _on_message(self, _client: object, _data: object, message: Any) -> None:
        self.unkept = True
        if message.qos:
            self._pending.append(message.mid)
        properties = message.properties
        self._take(
            Heard(
                message.topic,
                message.payload,
                getattr(properties, "ContentType", ""),
                tuple((str(name), str(value)) for name, value in getattr(properties, "UserProperty", ())),
                message.mid,
                bool(message.dup),
            )
        )


def _tls(access: Access) -> ssl.SSLContext:
    for path in (access.authority, access.certificate, access.key):
        if not path.is_file():
            raise InputError("there is no such file", place=Place(str(path)), hint="PEM, from the site's CA")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(cafile=access.authority)
        context.load_cert_chain(access.certificate, access.key)
    except ssl.SSLError as error:
        message = f"not the PEM that it should be: {error.reason or error}"
        raise InputError(message, place=Place(str(access.certificate)), hint="certificate and key must fit") from error
    return context
