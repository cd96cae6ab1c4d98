"""The receiving end of a run: subscribes at the broker as the site's historian and collects verdicts."""

from __future__ import annotations

import queue
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from appliance.core.errors import DecodeError, EdgesealError
from appliance.formats.verdict import Verdict, decode_verdict
from builder.vm.broker import TOPICS, Broker
from builder.vm.deadline import Deadline, wait_until
from builder.vm.site import HISTORIAN

_CONNECT_S = 20.0
_STEP_S = 0.5


@dataclass(frozen=True)
class Received:
    """One message. verdict: None when the payload is not one."""

    topic: str
    payload: bytes
    verdict: Verdict | None


class Historian:
    """Everything that the broker passes on, in the order of arrival."""

    def __init__(self, broker: Broker) -> None:
        """Connect and subscribe. Raises EdgesealError."""
        self.received: list[Received] = []
        self._queue: queue.SimpleQueue[Received] = queue.SimpleQueue()
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

    def next(self, *, within_s: float, check: Callable[[], object] = lambda: None) -> Received:
        """The next message. check: raises when waiting is hopeless. Raises EdgesealError at the deadline."""
        deadline = Deadline(within_s)
        while not deadline.passed:
            try:
                self.received.append(self._queue.get(timeout=min(_STEP_S, deadline.left_s)))
            except queue.Empty:
                check()
                continue
            return self.received[-1]
        raise EdgesealError(f"no message came from the broker within {within_s:.0f} s")

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
        try:
            verdict = decode_verdict(message.payload)
        except DecodeError:
            verdict = None
        self._queue.put(Received(message.topic, message.payload, verdict))


def _tls(broker: Broker) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cafile=broker.site.authority)
    context.load_cert_chain(broker.site.certificate(HISTORIAN), broker.site.key(HISTORIAN))
    return context
