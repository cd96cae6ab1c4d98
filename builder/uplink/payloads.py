"""Everything that a device can publish: read from the types that its sockets and its uplink take. Pure.

The socket's request is a closed union: what is not one of its members is refused, so the table is complete.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from msgspec import inspect

from appliance.formats.alarm import Alarm
from appliance.formats.audit_part import AuditPart
from appliance.formats.certificate_message import MAX_REQUEST_BYTES, CertificateRequest
from appliance.formats.gap import MAX_GAP_BYTES, Gap
from appliance.formats.update_report import UpdateReport
from appliance.formats.uplink_envelope import CERTIFICATE_REQUEST_LEVEL, LANES, Accepted, Lane, Stream
from appliance.formats.uplink_message import KINDS, PublishRequest
from appliance.formats.verdict import Verdict
from builder.uplink.leaves import Leaf, leaves_of

SENDERS: dict[str, tuple[str, ...]] = {
    "verdict": ("inference",),
    "update": ("update",),
    "alarm": ("inference", "update", "network", "health"),
    "audit": ("audit",),
    "gap": ("uplink",),
    CERTIFICATE_REQUEST_LEVEL: ("uplink",),
}
"""The services that may hand it in, by user id; a test compares with the uplink's own table."""

EYES = "inference"
"""The one service that sees frames."""


@dataclass(frozen=True)
class Payload:
    """kind: last level of its topic. stream: None for what is not numbered. limit: bytes of the body at most.

    senders: services. what: for people. of: the type of its body.
    """

    kind: str
    stream: Stream | None
    limit: int
    senders: tuple[str, ...]
    what: str
    of: type

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """How it travels; none for what is not numbered."""
        return () if self.stream is None else LANES[self.stream]

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """Its fields."""
        return leaves_of(self.of)


ENVELOPE = Accepted
"""What every numbered message has around its body, beside its name."""


def payloads() -> tuple[Payload, ...]:
    """All of them, in the order of urgency."""
    made_here = (
        Payload("gap", "alarm", MAX_GAP_BYTES, SENDERS["gap"], "records of gaps", Gap),
        Payload(
            CERTIFICATE_REQUEST_LEVEL,
            None,
            MAX_REQUEST_BYTES,
            SENDERS[CERTIFICATE_REQUEST_LEVEL],
            "requests for a certificate",
            CertificateRequest,
        ),
    )
    order: tuple[Stream | None, ...] = ("alarm", "data", "audit", None)
    return tuple(sorted((*_of_the_socket(), *made_here), key=lambda each: order.index(each.stream)))


def _of_the_socket() -> tuple[Payload, ...]:
    described = inspect.type_info(PublishRequest)
    assert isinstance(described, inspect.UnionType)
    found = []
    for request in described.types:
        assert isinstance(request, inspect.StructType)
        kind = str(request.tag)
        [body] = [field.type for field in request.fields if field.name != "id"]
        assert isinstance(body, inspect.StructType)
        known = KINDS[kind]
        of: type[Any] = body.cls
        found.append(Payload(kind, known.stream, known.limit, SENDERS[kind], known.what, of))
    return tuple(found)


MEANINGS: dict[tuple[type, str], str] = {
    (Accepted, "boot"): "counts the boots that the spool has seen, from 1",
    (Accepted, "boot_id"): "the kernel's name of that boot, 32 hexadecimal digits",
    (Accepted, "monotonic_us"): "microseconds since that boot, suspend included",
    (Accepted, "quality"): "what wall_us is worth",
    (Accepted, "wall_us"): "microseconds since 1970, by the device's clock",
    (Verdict, "schema"): "version of this form",
    (Verdict, "device"): "the site's name of the device",
    (Verdict, "boot_id"): "boot in which it was judged, 32 hexadecimal digits",
    (Verdict, "start_us"): "microseconds from boot to the start of the inference service",
    (Verdict, "sequence"): "number of the verdict since that start, from 1",
    (Verdict, "frame_sequence"): "number of the frame, as its source counts; decimal digits",
    (Verdict, "frame_sha256"): "SHA-256 of the frame's pixels, hexadecimal; not the pixels",
    (Verdict, "label"): "the class that was seen, one of the model's labels",
    (Verdict, "score_ppm"): "score of the label, millionths",
    (Verdict, "model"): "name of the model",
    (Verdict, "model_sha256"): "SHA-256 of the model's file, hexadecimal",
    (Verdict, "execution_provider"): "where the model ran",
    (Verdict, "latency_us"): "microseconds from the whole frame received to the result",
    (Verdict, "monotonic_us"): "microseconds since boot, when the result was there",
    (UpdateReport, "schema"): "version of this form",
    (UpdateReport, "device"): "the site's name of the device",
    (UpdateReport, "boot_id"): "boot in which it was known, 32 hexadecimal digits",
    (UpdateReport, "monotonic_us"): "microseconds since boot, when it was known",
    (UpdateReport, "transaction"): "the same as in the audit log, 16 hexadecimal digits",
    (UpdateReport, "version"): "version that was tried",
    (UpdateReport, "running"): "version that runs now",
    (UpdateReport, "outcome"): "whether it stayed",
    (UpdateReport, "reason"): "why, for people",
    (Alarm, "schema"): "version of this form",
    (Alarm, "device"): "the site's name of the device",
    (Alarm, "boot_id"): "boot in which it began or ended, 32 hexadecimal digits",
    (Alarm, "name"): "which state it is",
    (Alarm, "active"): "true when it began, false when it ended",
    (Alarm, "text"): "why, for people",
    (Alarm, "monotonic_us"): "microseconds since boot, when it began or ended",
    (Gap, "schema"): "version of this form",
    (Gap, "epoch"): "epoch of the messages that will not come, 32 hexadecimal digits",
    (Gap, "stream"): "their stream",
    (Gap, "first"): "the first of their sequences",
    (Gap, "last"): "the last of them; nothing: all from the first on",
    (Gap, "reason"): "why they were given up",
    (AuditPart, "schema"): "version of this form",
    (AuditPart, "device"): "the site's name of the device",
    (AuditPart, "origin"): "name of the log, as in its checkpoints",
    (AuditPart, "start"): "index of the first entry here, from 0",
    (AuditPart, "entries[]"): "entries of the log, canonical JSON of the audit log's own catalogue, base64",
    (AuditPart, "size"): "entries of the log at the checkpoint",
    (AuditPart, "checkpoint"): "signed note: the log's size and root hash",
    (AuditPart, "consistency[]"): "hashes that prove the log only grew, 32 bytes each, base64",
    (AuditPart, "previous"): "size at the checkpoint that was sent before",
    (CertificateRequest, "schema"): "version of this form",
    (CertificateRequest, "device"): "the site's name of the device",
    (CertificateRequest, "csr"): "PKCS #10 request, PEM: a public key, a name, a signature",
}
"""What each field means, with its unit; a test holds it complete."""
