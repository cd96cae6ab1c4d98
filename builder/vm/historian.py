"""The receiving end of a run: subscribes at the broker as the site's historian and collects what devices say.

Envelopes and batches alike; in the same order as they arrive. Spec: docs/specs/uplink-envelope.md.
"""

from __future__ import annotations

import collections
import queue
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from appliance.core.errors import DecodeError, EdgesealError
from appliance.formats.verdict import Verdict, decode_verdict
from builder.uplink.receive import Message, is_ours, read_message
from builder.vm.broker import TOPICS, Broker
from builder.vm.deadline import Deadline, wait_until
from builder.vm.site import HISTORIAN

_CONNECT_S = 20.0
_STEP_S = 0.5


@dataclass(frozen=True)
class Received:
    """One message. payload: as published, of a batch all of it. message: None when the payload is none of a device.

    verdict: None when it is not one.
    """

    topic: str
    payload: bytes
    message: Message | None
    verdict: Verdict | None

    @property
    def kind(self) -> str | None:
        """What the message is, as `verdict` or `update`."""
        return None if self.message is None else self.message.envelope.kind


class Historian:
    """What the broker passes on. received: all that take() or next() has seen, in the order of arrival.

    messages: those of devices among it, batches opened.
    """

    def __init__(self, broker: Broker) -> None:
        """Connect and subscribe. Raises EdgesealError."""
        self.received: list[Received] = []
        self.messages: list[Message] = []
        self._verdicts: collections.deque[Received] = collections.deque()
        self._arrived: queue.SimpleQueue[Received] = queue.SimpleQueue()
        self._subscribed = False
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=HISTORIAN, protocol=mqtt.MQTTv5)
        self._client.tls_set_context(_tls(broker))
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        try:
            self._client.connect("127.0.0.1", broker.port)
        except OSError as error:
            raise EdgesealError(f"the historian cannot reach the broker: {error}") from error
        self._client.loop_start()
        wait_until(lambda: self._subscribed, what="the broker accepts the historian", within_s=_CONNECT_S)

    def take(self) -> None:
        """Put what has arrived meanwhile into `received` and `messages`, without waiting."""
        while not self._arrived.empty():
            self._keep(self._arrived.get())

    def next(self, *, within_s: float, check: Callable[[], object] = lambda: None) -> Received:
        """The next verdict; whatever else arrives before it only stands in `received`.

        check: raises when waiting is hopeless. Raises EdgesealError at the deadline.
        """
        deadline = Deadline(within_s)
        while not self._verdicts:
            if deadline.passed:
                raise EdgesealError(f"no verdict came from the broker within {within_s:.0f} s")
            try:
                self._keep(self._arrived.get(timeout=min(_STEP_S, deadline.left_s)))
            except queue.Empty:
                check()
        return self._verdicts.popleft()

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def __enter__(self) -> Historian:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _on_connect(self, client: mqtt.Client, _data: object, _flags: object, code: Any, _properties: object) -> None:
        if not code.is_failure:
            client.subscribe(TOPICS, qos=1)

    def _on_subscribe(self, *_: object) -> None:
        self._subscribed = True

    def _on_message(self, _client: object, _data: object, message: Any) -> None:
        for one in received(message.topic, message.payload, message.properties):
            self._arrived.put(one)

    def _keep(self, one: Received) -> None:
        self.received.append(one)
        if one.message is not None:
            self.messages.append(one.message)
        if one.verdict is not None:
            self._verdicts.append(one)


def received(topic: str, payload: bytes, properties: Any) -> tuple[Received, ...]:
    """What is in one MQTT message. properties: of paho."""
    content = getattr(properties, "ContentType", "")
    named = tuple((str(name), str(value)) for name, value in getattr(properties, "UserProperty", ()))
    try:
        messages = read_message(topic, payload, content, named) if is_ours(content, named) else ()
    except DecodeError:
        messages = ()
    return tuple(Received(topic, payload, each, _verdict(each)) for each in messages) or (
        Received(topic, payload, None, None),
    )


def _verdict(message: Message) -> Verdict | None:
    if message.envelope.kind != "verdict":
        return None
    try:
        return decode_verdict(message.envelope.body)
    except DecodeError:
        return None


def _tls(broker: Broker) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cafile=broker.site.authority)
    context.load_cert_chain(broker.site.certificate(HISTORIAN), broker.site.key(HISTORIAN))
    return context
