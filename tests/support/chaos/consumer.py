"""The historian of the chaos test: reads the broker directly, QoS 1, in a session that outlives connections.

It writes down every message in the order of arrival, batches unpacked, and where asked it sends receipts.
"""

from __future__ import annotations

import hashlib
import threading
import time
from typing import Any

import msgspec
import paho.mqtt.client as mqtt
import zstandard
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from appliance.formats.receipt import MAX_RANGES, HistorianReceipt, encode_receipt
from appliance.formats.uplink_envelope import (
    BATCH_CONTENT,
    MAX_BATCH_DECODED,
    RECEIPT_LEVEL,
    decode_envelope,
    decode_properties,
)
from tests.support.chaos.bodies import number_of
from tests.support.chaos.judge import Arrival

_SESSION_S = 3600
_RECEIPT_S = 0.25
_SITE_LEVELS = (RECEIPT_LEVEL, "certificate", "certificate-request")


class Consumer:
    """Everything below `namespace`/`device`. receipts: tell the device what was written down."""

    def __init__(self, port: int, *, namespace: str, device: str, receipts: bool) -> None:
        self.arrivals: list[Arrival] = []
        self.error: BaseException | None = None
        self.attached = threading.Event()
        self.payload_bytes = 0
        self.sessions: list[float] = []
        """When each of our own connections began: the broker repeats what it had under way."""
        self._topic = f"{namespace}/{device}"
        self._device = device
        self._port = port
        self._fresh: dict[tuple[str, str], set[int]] = {}
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="historian", protocol=mqtt.MQTTv5)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        self._client.reconnect_delay_set(1, 1)
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = _SESSION_S
        properties.ReceiveMaximum = 1000
        self._client.connect("127.0.0.1", port, clean_start=False, properties=properties)
        self._client.loop_start()
        assert self.attached.wait(30), "the consumer could not subscribe"
        self._closing = threading.Event()
        self._teller = threading.Thread(target=self._tell, name="receipts", daemon=True)
        if receipts:
            self._teller.start()

    def close(self) -> None:
        """Hang up."""
        self._closing.set()
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, client: Any, *_rest: object) -> None:
        self.sessions.append(time.monotonic())
        client.subscribe(f"{self._topic}/#", qos=1)

    def _on_subscribe(self, *_rest: object) -> None:
        self.attached.set()

    def _on_disconnect(self, *_rest: object) -> None:
        self.attached.clear()

    def _on_message(self, _client: object, _data: object, message: Any) -> None:
        try:
            self._note(message)
        except BaseException as error:
            self.error = self.error or error

    def _note(self, message: Any) -> None:
        if message.topic.rpartition("/")[2] in _SITE_LEVELS:
            return
        self.payload_bytes += len(message.payload)
        properties = message.properties
        pairs = properties.UserProperty
        if getattr(properties, "ContentType", "") == BATCH_CONTENT:
            self._batch(dict(pairs), message.payload)
        else:
            told = decode_properties(pairs)
            self._arrived(message.payload, told.lane, (told.stream, told.sequence))

    def _batch(self, told: dict[str, str], payload: bytes) -> None:
        size = zstandard.frame_content_size(payload)
        assert 0 < size <= MAX_BATCH_DECODED, f"a batch of {size} bytes"
        envelopes = zstandard.ZstdDecompressor().decompress(payload).splitlines(keepends=True)
        assert len(envelopes) == int(told["count"]), "a batch with another number of messages than it says"
        names = [self._arrived(envelope, told["lane"], None) for envelope in envelopes]
        assert (names[0], names[-1]) == (int(told["first"]), int(told["last"])), "a batch with another range"

    def _arrived(self, data: bytes, lane: str, name: tuple[str, int] | None) -> int:
        envelope = decode_envelope(data)
        assert name in (None, (envelope.stream, envelope.sequence)), f"properties say {name}"
        number = number_of(msgspec.json.decode(envelope.body))
        arrival = Arrival(
            at=time.monotonic(),
            epoch=envelope.epoch,
            stream=envelope.stream,
            sequence=envelope.sequence,
            lane=lane,
            kind=envelope.kind,
            number=number,
            digest=hashlib.blake2b(data, digest_size=16).digest(),
        )
        self.arrivals.append(arrival)
        self._fresh.setdefault((envelope.epoch, envelope.stream), set()).add(envelope.sequence)
        return envelope.sequence

    def _tell(self) -> None:
        while not self._closing.wait(_RECEIPT_S):
            if self.attached.is_set():
                for (epoch, stream), fresh in list(self._fresh.items()):
                    self._send_receipt(epoch, stream, fresh)

    def _send_receipt(self, epoch: str, stream: str, fresh: set[int]) -> None:
        ranges = ranges_of(fresh.copy())[:MAX_RANGES]
        if not ranges:
            return
        receipt = HistorianReceipt(device=self._device, epoch=epoch, stream=stream, ranges=ranges)  # type: ignore[arg-type]
        self._client.publish(f"{self._topic}/{RECEIPT_LEVEL}", encode_receipt(receipt), qos=1)
        for first, last in ranges:
            fresh.difference_update(range(first, last + 1))


def ranges_of(numbers: set[int]) -> tuple[tuple[int, int], ...]:
    """(first, last) of each run, rising."""
    found: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return tuple(found)
