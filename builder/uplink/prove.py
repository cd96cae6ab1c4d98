"""What can leave a site through the uplink of a profile, and that no raw frame and no raw window is among it. Pure.

Three things are shown, from the types themselves: every field of every message has a bound; nothing that the one
service that sees frames may say can hold a frame of the profile's source; and it can hand in no bytes at all, and less
text than the smallest window that shows anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from appliance.formats.device import Namespace
from appliance.formats.network_policy import DEVICE_ZONE, LOOPBACK_ZONE, Conduit
from appliance.formats.sparkplug_metrics import BODY_METRICS
from appliance.formats.uplink_envelope import ENVELOPE_BYTES, topic_of
from builder.profile.types import Profile
from builder.uplink.leaves import Leaf
from builder.uplink.payloads import EYES, Payload

PIXEL_BYTES = 3  # a frame has 8 bits each of red, green and blue: docs/specs/frame-channel.md
WINDOW_BYTES = 32 * 32  # a raw window: 32 x 32 grey pixels, the least that shows anything
PACKET_BYTES = 1500  # of a link without jumbo frames; a conduit's rate counts packets
DEVICE_LEVEL = "DEVICE"


@dataclass(frozen=True)
class Finding:
    """Why the promise does not hold. kind, field: where."""

    kind: str
    field: str
    text: str


@dataclass(frozen=True)
class Exit:
    """One kind of message of a profile. topics: where it is published. most: bytes with the envelope."""

    payload: Payload
    topics: tuple[str, ...]

    @property
    def most(self) -> int:
        return self.payload.limit + ENVELOPE_BYTES


@dataclass(frozen=True)
class Proof:
    """conduits: the uplink's ways out. others: conduits of other services by which the device answers or sends.

    session: topic, field and form of what Sparkplug says about the session itself.
    rate: bytes a second at most, over all of the uplink's conduits.
    """

    profile: str
    frame_bytes: int
    exits: tuple[Exit, ...]
    session: tuple[tuple[str, str, str], ...]
    conduits: tuple[Conduit, ...]
    others: tuple[Conduit, ...]
    findings: tuple[Finding, ...]

    @property
    def holds(self) -> bool:
        """No finding."""
        return not self.findings

    @property
    def rate(self) -> int:
        return sum(conduit.rate.packets * PACKET_BYTES for conduit in self.conduits)


def prove(profile: Profile, table: Sequence[Payload], namespace: Namespace) -> Proof:
    """table: everything that can be published, see payloads(). namespace: the profile's, or the site's."""
    frame = profile.inference.source.width * profile.inference.source.height * PIXEL_BYTES
    outward = [each for each in profile.network.conduits if LOOPBACK_ZONE not in (each.from_zone, each.to_zone)]
    own = [
        each for each in outward if DEVICE_ZONE in (each.from_zone, each.to_zone) and each.protocol in ("tcp", "udp")
    ]
    return Proof(
        profile=profile.name,
        frame_bytes=frame,
        exits=tuple(Exit(each, topics(profile, namespace, each)) for each in table),
        session=_session(profile),
        conduits=tuple(each for each in own if each.service == "uplink"),
        others=tuple(each for each in own if each.service not in ("uplink", "kernel")),
        findings=tuple(finding for each in table for finding in _findings(each, frame)),
    )


def topics(profile: Profile, namespace: Namespace, payload: Payload) -> tuple[str, ...]:
    """The topics of a payload; DEVICE stands for the site's name of the device.

    Under Sparkplug a birth repeats the last values, and what does not fit its metrics travels as JSON.
    """
    own = topic_of(namespace.topic, DEVICE_LEVEL, payload.kind)
    if profile.uplink.payload == "sparkplug-b" and payload.kind in BODY_METRICS:
        return (_sparkplug_topic(profile, "NDATA"), _sparkplug_topic(profile, "NBIRTH"), own)
    batched = payload.stream == "data" and profile.uplink.data.batch and profile.uplink.payload == "json"
    return (own, topic_of(namespace.topic, DEVICE_LEVEL, "batch")) if batched else (own,)


def _sparkplug_topic(profile: Profile, what: str) -> str:
    group = "" if profile.uplink.sparkplug is None else profile.uplink.sparkplug.group
    return f"spBv1.0/{group}/{what}/{DEVICE_LEVEL}"


def _session(profile: Profile) -> tuple[tuple[str, str, str], ...]:
    if profile.uplink.payload != "sparkplug-b":
        return ()
    number = "whole number from 0 to 255"
    return (
        (_sparkplug_topic(profile, "NBIRTH"), "bdSeq", number),
        (_sparkplug_topic(profile, "NBIRTH"), "Node Control/Rebirth", "true or false"),
        (_sparkplug_topic(profile, "NDEATH"), "bdSeq", number),
    )


def _findings(payload: Payload, frame: int) -> Iterator[Finding]:
    for leaf in payload.leaves:
        if leaf.bound is None:
            yield Finding(payload.kind, leaf.path, f"{leaf.form}: nothing says how much it may hold")
        if EYES in payload.senders and leaf.opaque:
            yield Finding(
                payload.kind, leaf.path, f"{leaf.form}: {EYES} sees frames, and could hand in pixels as it is"
            )
    if EYES in payload.senders and payload.limit >= frame:
        text = f"{payload.limit} bytes, a frame of the source has {frame}: one message could hold it"
        yield Finding(payload.kind, "", text)
    if EYES in payload.senders and (free := free_text(payload.leaves)) >= WINDOW_BYTES:
        text = f"{free} bytes of free text, a raw window has {WINDOW_BYTES}: {EYES} could write one"
        yield Finding(payload.kind, "", text)


def free_text(leaves: Sequence[Leaf]) -> int:
    """Bytes that a sender may choose freely as text: a character of Unicode holds 21 bits at most."""
    return sum(leaf.text for leaf in leaves) * 21 // 8


def capacity(payload: Payload) -> int:
    """Bytes of one body at most, values only: what a sender could hide in it when it lies in every field."""
    total = sum(leaf.bound or payload.limit for leaf in payload.leaves)
    return min(total, payload.limit)
