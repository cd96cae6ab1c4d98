"""One MQTT 5 connection: the only module that talks to paho, which is a transport here and keeps nothing.

A client object serves one connection, so paho's queue dies with it and the spool alone decides what is sent again.
Everything here runs in the transport's thread. Spec: MQTT 5.0, OASIS standard.
"""

from __future__ import annotations

import collections
import select
import socket
import time
from collections.abc import Callable
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from appliance.uplink.dialect import Publish
from appliance.uplink.events import Acknowledged, Connected, Heard, Rejected, Sent, TransportEvent
from appliance.uplink.frames import MAX_PACKET, ProtocolError
from appliance.uplink.opening import EndedError, Opening
from appliance.uplink.publishing import publish_packet
from appliance.uplink.pulse import Pulse, Ration
from appliance.uplink.reasons import TAKEN_OVER, ending
from appliance.uplink.wire import FULL, Wire

MAX_HEARD: Final = 64 << 10
RECEIVE_MAXIMUM: Final = 16  # of what the broker may send us before our PUBACK
GOODBYE_S: Final = 2.0
_UNLIMITED: Final = 65_535  # Receive Maximum of a broker that names none, 3.2.2.3.3
_FAILURE: Final = 0x80  # reason codes from here on, 2.4
_PING: Final = b"\xc0\x00"
_DISCONNECT: Final = b"\xe0\x00"
_DISCONNECT_WITH_WILL: Final = b"\xe0\x01\x04"
_EARLY: Final = 64


class _Client(mqtt.Client):
    """paho, with a socket of ours."""

    def __init__(self, device: str, wire: Wire) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2, client_id=device, protocol=mqtt.MQTTv5, reconnect_on_failure=False
        )
        self._wire = wire

    def _create_socket(self) -> Any:
        return self._wire


class Session:
    """From CONNECT to the end. Methods raise EndedError, ProtocolError, OSError, or whatever paho raises.

    worked: the broker acknowledged something. taken_over: it says that another client has our name.
    unheard: messages to us that were larger than MAX_HEARD, or too many in a second, and dropped.
    """

    def __init__(
        self, number: int, broker: str, wire: Wire, *, device: str, keepalive_s: float, unchecked_times: bool,
        report: Callable[[TransportEvent], None],
    ) -> None:  # fmt: skip
        """unchecked_times: for Connected."""
        self.number = number
        self.connected = False
        self.worked = False
        self.taken_over = False
        self.unheard = 0
        self._broker = broker
        self._wire = wire
        self._device = device
        self._keepalive_s = keepalive_s
        self._unchecked_times = unchecked_times
        self._report = report
        self._room = 0
        self._packet_limit: int | None = None
        self._early: list[Heard] = []
        self._ration = Ration(messages=1000, size=1 << 20)
        self._tokens: dict[int, int | None] = {}
        self._unsent: collections.deque[tuple[int, int]] = collections.deque()
        self._pulse = Pulse(keepalive_s, time.monotonic())
        self._published = 0
        self._last_number = 0
        self._subscribing: tuple[int, tuple[str, ...]] | None = None
        self._client = _Client(device, wire)

    def open(self, opening: Opening) -> None:
        """Send CONNECT."""
        client = self._client
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        self._wanted = opening.subscriptions
        self._will = opening.will
        properties = _properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 0
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
        properties.MaximumPacketSize = MAX_PACKET
        properties.TopicAliasMaximum = 0
        if opening.will is not None:
            self._set_will(opening.will)
        seconds = max(1, int(self._keepalive_s))
        client.connect(self._broker, 1, keepalive=seconds, clean_start=True, properties=properties)

    @property
    def ready(self) -> bool:
        """A message may be given to publish()."""
        return self.connected and len(self._tokens) < min(self._room, _UNLIMITED - 1) and self._wire.waiting < FULL

    @property
    def idle(self) -> bool:
        """Nothing is in flight."""
        return not self._tokens and self._wire.waiting == 0

    def step(self, wake: socket.socket, timeout: float) -> bool:
        """Wait for something and do it; True when `wake` had something to say."""
        wire = self._wire
        writers = [wire] if wire.waiting else []
        readers: list[Any] = [wake] if wire.waiting >= 2 * FULL else [wire, wake]  # who never reads is not read
        ready = select.select(readers, writers, [], 0.0 if wire.hidden else timeout)
        if wire in ready[0] or (wire in readers and wire.hidden):
            self._read()
        self.flush()
        now = time.monotonic()
        if self._pulse.beat(now, heard_at=wire.heard_at, sent_at=wire.sent_at, waiting=bool(self._tokens)):
            wire.send(_PING)
        return wake in ready[0]

    def publish(self, message: Publish, token: int | None) -> None:
        """Send one message; only while `ready`. token: what is reported about it, None for nothing."""
        packet = publish_packet(message, self._next_number())
        if self._packet_limit is not None and len(packet) > self._packet_limit:
            if token is not None:
                reason = f"the broker takes packets of {self._packet_limit} bytes, this one has {len(packet)}"
                self._report(Rejected(self.number, token, reason))
            return
        self._wire.send(packet)
        self._published = self._wire.taken
        if message.qos:
            if not self._tokens:
                self._pulse.progress_at = time.monotonic()
            self._tokens[self._last_number] = token
        elif token is not None:
            self._unsent.append((self._wire.taken, token))

    def flush(self) -> None:
        """Give the kernel what waits, and say which messages of QoS 0 it has."""
        before = self._wire.sent
        self._wire.flush()
        if before < min(self._wire.sent, self._published):  # our pings are no progress
            self._pulse.progress_at = time.monotonic()
        while self._unsent and self._unsent[0][0] <= self._wire.sent:
            self._report(Sent(self.number, self._unsent.popleft()[1]))

    def goodbye(self) -> None:
        """Send DISCONNECT. A will is said nevertheless: Sparkplug, payloads-ndeath-will-message-publisher-disconnect.

        (paho's own disconnect() closes the socket before anything is sent.)
        """
        if self.connected:
            self._wire.send(_DISCONNECT if self._will is None else _DISCONNECT_WITH_WILL)
            self._wire.finish(GOODBYE_S)

    def _read(self) -> None:
        self._wire.fill()
        for number, code in self._wire.answers:
            self._answered(number, code)
        self._wire.answers.clear()
        while self._wire.unread:
            code = self._client.loop_read()
            if code != mqtt.MQTT_ERR_SUCCESS:
                raise EndedError(f"the broker broke the protocol: {mqtt.error_string(code)}")
        if self._client.want_write():  # what a callback asked for
            self._client.loop_write()

    def _set_will(self, will: Publish) -> None:
        properties = _properties(PacketTypes.WILLMESSAGE)
        if will.content_type:
            properties.ContentType = will.content_type
        if will.properties:
            properties.UserProperty = list(will.properties)
        self._client.will_set(will.topic, will.payload, will.qos, will.retain, properties)

    def _on_connect(self, _client: object, _data: object, flags: Any, code: Any, properties: Any) -> None:
        if code.is_failure:
            self._end(code, "the broker refused us")
        if flags.session_present:
            raise ProtocolError("it remembers a session that we told it to forget")
        self._room = getattr(properties, "ReceiveMaximum", _UNLIMITED)
        self._packet_limit = getattr(properties, "MaximumPacketSize", None)
        self._pulse.accepted(getattr(properties, "ServerKeepAlive", 0))
        if getattr(properties, "MaximumQoS", 1) < 1:
            raise EndedError("the broker takes no messages with QoS 1")
        if self._wanted:
            options = SubscribeOptions(qos=1, noLocal=True)
            _, number = self._client.subscribe([(topic, options) for topic in self._wanted])
            self._subscribing = (number or 0, self._wanted)
        else:
            self._accepted(())

    def _on_subscribe(self, _client: object, _data: object, number: int, codes: Any, _properties: object) -> None:
        if self._subscribing is None or self._subscribing[0] != number or len(codes) != len(self._subscribing[1]):
            raise ProtocolError("it sent SUBACK for nothing that we asked")
        refused = tuple(topic for topic, code in zip(self._subscribing[1], codes, strict=True) if code.is_failure)
        self._subscribing = None
        self._accepted(refused)

    def _accepted(self, refused: tuple[str, ...]) -> None:
        self.connected = True
        self._pulse.connected()
        self._report(
            Connected(self.number, self._room, self._packet_limit, self._broker, refused, self._unchecked_times)
        )
        for heard in self._early:
            self._report(heard)
        self._early.clear()

    def _on_message(self, _client: object, _data: object, message: Any) -> None:
        if getattr(message.properties, "TopicAlias", None) is not None:
            raise ProtocolError("it sent PUBLISH with a topic alias, we allow none")
        if len(message.payload) > MAX_HEARD or not self._ration.allows(len(message.payload), self._wire.heard_at):
            self.unheard += 1
            return
        heard = Heard(self.number, message.topic, bytes(message.payload))
        if self.connected:
            self._report(heard)
        elif len(self._early) < _EARLY:  # what is retained may come before the SUBACK, 3.8.4
            self._early.append(heard)
        else:
            raise ProtocolError(f"it sent more than {_EARLY} messages before SUBACK")

    def _answered(self, number: int, code: int) -> None:
        if number not in self._tokens:
            return  # a PUBACK for nothing that we sent
        token = self._tokens.pop(number)
        self._pulse.progress_at = self._wire.heard_at
        if code < _FAILURE:
            self.worked = True
            if token is not None:
                self._report(Acknowledged(self.number, token))
        elif token is not None:
            self._report(Rejected(self.number, token, f"the broker refused the message: {_puback_named(code)}", code))

    def _next_number(self) -> int:
        """An identifier that is free: there are more than `ready` allows in flight, 2.2.1."""
        while True:
            self._last_number = self._last_number % _UNLIMITED + 1
            if self._last_number not in self._tokens:
                return self._last_number

    def _on_disconnect(self, _client: object, _data: object, flags: Any, code: Any, _properties: object) -> None:
        if flags.is_disconnect_packet_from_server:
            self._end(code, "the broker hung up")
        if self._wire.ended:
            raise EndedError("the broker closed the connection")
        raise EndedError(f"the broker broke the protocol: {code}")

    def _end(self, code: Any, what: str) -> None:
        self.taken_over = code.value == TAKEN_OVER
        raise ending(code.value, str(code), what)


def _puback_named(code: int) -> str:
    make: Any = ReasonCode
    try:
        return f"{make(PacketTypes.PUBACK, identifier=code)} (0x{code:02x})"
    except KeyError:
        return f"a reason that MQTT does not know (0x{code:02x})"


def _properties(kind: int) -> Any:
    make: Any = Properties  # paho leaves it untyped
    return make(kind)
