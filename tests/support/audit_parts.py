"""A story's log on its way off the device: parts, and the envelopes around them."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.formats.audit_part import AuditPart, encode_part
from appliance.formats.uplink_envelope import assemble
from tests.support.audit_story import DEVICE, Story

EPOCH = "ab" * 16
TOPIC = f"edgeseal/{DEVICE}/audit"


def parts(told: Story, *, start: int = 0, end: int | None = None, each: int = 5, note: str = "") -> list[AuditPart]:
    """The entries from start to `end`, under the checkpoint of that size. note: another checkpoint."""
    size = len(told.entries) if end is None else end
    return [
        AuditPart(
            device=DEVICE,
            origin=told.origin,
            start=first,
            entries=tuple(told.entries[first : min(first + each, size)]),
            size=size,
            checkpoint=note or told.note(size),
            previous=start,
        )
        for first in range(start, size, each)
    ]


def envelope(part: AuditPart, sequence: int, *, epoch: str = EPOCH, device: str = DEVICE) -> bytes:
    """As the uplink sends it."""
    return assemble(
        device=device,
        epoch=epoch,
        stream="audit",
        sequence=sequence,
        kind="audit",
        boot=1,
        boot_id="0" * 32,
        monotonic_us=1,
        wall_us=1,
        quality="unknown",
        body=encode_part(part),
    )


def envelopes(*several: list[AuditPart], first: int = 1) -> Iterator[bytes]:
    """In order, numbered from `first`."""
    for sequence, part in enumerate((part for some in several for part in some), first):
        yield envelope(part, sequence)
