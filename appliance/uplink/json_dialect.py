"""Messages as JSON in the plant's unified namespace. Spec: docs/specs/uplink-envelope.md (v1).

One message is one envelope on NAMESPACE/DEVICE/KIND; a backlog may travel in compressed batches.
"""

from __future__ import annotations

from appliance.core.errors import DecodeError
from appliance.formats.receipt import decode_receipt
from appliance.formats.uplink_envelope import (
    BATCH_CONTENT,
    BATCH_LEVEL,
    CERTIFICATE_LEVEL,
    MAX_BATCH_BYTES,
    RECEIPT_LEVEL,
    assemble,
    topic_of,
    user_properties,
)
from appliance.uplink import batch
from appliance.uplink.dialect import Publish, Reaction, Receipt, Renewed, Sending
from appliance.uplink.spooled import Spooled


class JsonDialect:
    """See the module. It has no state: what it says about a message depends on the message alone."""

    def __init__(self, *, namespace: str, device: str, epoch: str, batches: bool, receipts: bool) -> None:
        """namespace: the levels above the device. batches: of the backlog. receipts: the historian sends some."""
        self._namespace = namespace
        self._device = device
        self._epoch = epoch
        self._batches = batches
        self._receipt_topic = topic_of(namespace, device, RECEIPT_LEVEL) if receipts else None
        self._certificate_topic = topic_of(namespace, device, CERTIFICATE_LEVEL)

    def will(self) -> Publish | None:
        """None: nothing is said for a device that vanishes; whoever counts its messages sees it."""
        return None

    def unsent(self) -> None:
        """Nothing: there was no will."""

    def subscriptions(self) -> tuple[str, ...]:
        """The site's answers: certificates and, where the historian sends them, receipts."""
        return (
            (self._certificate_topic,)
            if self._receipt_topic is None
            else (self._certificate_topic, self._receipt_topic)
        )

    def opened(self, broker: str = "") -> tuple[Publish, ...]:
        """Nothing."""
        return ()

    def closing(self) -> tuple[Publish, ...]:
        """Nothing."""
        return ()

    @property
    def holds(self) -> bool:
        """Never."""
        return False

    def heard(self, topic: str, payload: bytes) -> tuple[Reaction, ...]:
        """A receipt of ours, in ranges, or the site's answer with a certificate; anything else gives nothing."""
        if topic == self._certificate_topic:
            return (Renewed(payload),)
        if topic != self._receipt_topic:
            return ()
        try:
            receipt = decode_receipt(payload)
        except DecodeError:
            return ()
        if receipt.device != self._device:
            return ()
        return tuple(Receipt(receipt.epoch, receipt.stream, first, last) for first, last in receipt.ranges)

    def encode(self, message: Spooled, sending: Sending) -> Publish:
        """One envelope on the topic of its kind."""
        properties = user_properties(
            device=self._device,
            epoch=self._epoch,
            stream=message.stream,
            sequence=message.sequence,
            lane=sending.lane,
            kind=message.kind,
            boot=message.boot,
            monotonic_us=message.monotonic_us,
            quality=message.quality,
            age_ms=sending.age_ms,
        )
        return Publish(
            topic_of(self._namespace, self._device, message.kind), self._envelope(message), properties=properties
        )

    def encode_batch(self, messages: tuple[Spooled, ...], sending: Sending) -> Publish | None:
        """Several envelopes in one compressed message, or None: no batches here, or too much for one of them.

        messages: of one stream, with rising sequences, at most MAX_BATCH_MESSAGES. No age: each envelope says when.
        """
        if not self._batches or len(messages) < 2:
            return None
        envelopes = [self._envelope(message) for message in messages]
        if sum(map(len, envelopes)) > MAX_BATCH_BYTES:
            return None
        first, last = messages[0], messages[-1]
        properties = (
            ("device", self._device),
            ("epoch", self._epoch),
            ("stream", first.stream),
            ("lane", sending.lane),
            ("first", str(first.sequence)),
            ("last", str(last.sequence)),
            ("count", str(len(messages))),
        )
        topic = topic_of(self._namespace, self._device, BATCH_LEVEL)
        return Publish(topic, batch.pack(envelopes), content_type=BATCH_CONTENT, properties=properties)

    def _envelope(self, message: Spooled) -> bytes:
        return assemble(
            device=self._device,
            epoch=self._epoch,
            stream=message.stream,
            sequence=message.sequence,
            kind=message.kind,
            boot=message.boot,
            boot_id=message.boot_id,
            monotonic_us=message.monotonic_us,
            wall_us=message.wall_us,
            quality=message.quality,
            body=message.body,
        )
