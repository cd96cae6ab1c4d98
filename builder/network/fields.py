"""Two versions of a conduit, a slot or a zone, field by field, in words. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from appliance.formats.conduit_elements import LOOPBACK_ADDRESSES, port_spans
from appliance.formats.network_policy import LOOPBACK_ZONE, Conduit, NetworkPolicy, Slot, Zone
from appliance.formats.spans import Span, Version, address_spans
from builder.network.intervals import subtract

Way = Literal["wider", "narrower", "other"]

_ENCRYPTION = {"none": 0, "signed-content": 1, "tls-1.3": 2}
_AUTHENTICATION = {"none": 0, "signatures": 1, "server-tls": 1, "mutual-tls": 2}
RATE_UNITS = {"packets": "packets/s", "burst": "packets at once", "new": "new/s", "connections": "connections"}
_VERSIONS: tuple[Version, ...] = (4, 6)


@dataclass(frozen=True)
class Detail:
    """One field that is not the same. way: what it does to what is allowed, by itself."""

    text: str
    way: Way


def conduit_details(old: NetworkPolicy, before: Conduit, new: NetworkPolicy, after: Conduit) -> Iterator[Detail]:
    """What is different between `before` in `old` and `after` in `new`.

    Of the fields that decide over packets the way is `other`: that is for the packets to say.
    """
    for name in ("from_zone", "to_zone", "service", "listener", "protocol"):
        yield from _instead(name.removesuffix("_zone"), getattr(before, name), getattr(after, name))
    yield from _spans("ports", [(port_spans(before), port_spans(after))])
    yield from _words("messages", before.messages, after.messages)
    for label, one, two in (
        ("peers", _peers(old, before), _peers(new, after)),
        ("targets", before.targets, after.targets),
    ):
        yield from _addresses(label, one, two)
    yield from _slot(old, before, new, after)
    yield from protection_details(before, after)
    yield from rate_details(before, after)
    for name in ("data", "purpose", "owner", "review"):
        yield from _instead(name, getattr(before, name), getattr(after, name))


def protection_details(before: Conduit, after: Conduit) -> Iterator[Detail]:
    """Encryption and authentication. Two ways to authenticate that cannot be compared count as wider."""
    for name, ranks in (("encryption", _ENCRYPTION), ("authentication", _AUTHENTICATION)):
        one, two = getattr(before, name), getattr(after, name)
        if one != two:
            stronger = ranks[two] > ranks[one]
            words = "stronger, " if stronger else "weaker, " if ranks[two] < ranks[one] else ""
            yield Detail(f"{name}: {words}{two} instead of {one}", "narrower" if stronger else "wider")


def rate_details(before: Conduit, after: Conduit) -> Iterator[Detail]:
    """Limits. Connections are counted for tcp and udp only."""
    counted = {"tcp", "udp"} & {before.protocol, after.protocol}
    for name, unit in RATE_UNITS.items():
        one, two = getattr(before.rate, name), getattr(after.rate, name)
        if one != two and (counted or name != "connections"):
            yield Detail(f"limit: {two} {unit} instead of {one}", "wider" if two > one else "narrower")


def slot_details(before: Slot, after: Slot) -> Iterator[Detail]:
    """Bounds of a slot."""
    yield from _instead("type", before.type, after.type)
    yield from _addresses("bounds", before.within, after.within, bounds=True)
    yield from _most(before.most, after.most)
    yield from _instead("purpose", before.purpose, after.purpose)


def zone_details(before: Zone, after: Zone) -> Iterator[Detail]:
    """A lower target security level is wider: less is asked of the zone."""
    yield from level_details(before.security_level, after.security_level)
    yield from _instead("kind", before.kind, after.kind)
    yield from _instead("link", before.link, after.link)
    yield from _addresses("prefixes", before.prefixes, after.prefixes)
    for name in ("safety", "organisation", "boundary"):
        yield from _instead(name, getattr(before, name), getattr(after, name))
    yield from _words("assets", before.assets, after.assets)
    yield from _words("assumptions", before.assumptions, after.assumptions)


def level_details(before: int, after: int) -> Iterator[Detail]:
    """SL-T."""
    if before != after:
        yield Detail(f"SL-T {after} instead of {before}", "wider" if after < before else "narrower")


# ---- parts


def _peers(policy: NetworkPolicy, conduit: Conduit) -> tuple[str, ...]:
    if conduit.slot is not None:
        return tuple(prefix for slot in policy.slots if slot.name == conduit.slot for prefix in slot.within)
    return conduit.peers or (LOOPBACK_ADDRESSES if conduit.from_zone == LOOPBACK_ZONE else ())


def _slot(old: NetworkPolicy, before: Conduit, new: NetworkPolicy, after: Conduit) -> Iterator[Detail]:
    """Another slot; what is different in one and the same slot is said of the slot."""
    if before.slot == after.slot:
        return
    yield from _instead("slot", before.slot, after.slot)
    one, two = (
        next((slot.most for slot in policy.slots if slot.name == conduit.slot), 0)
        for policy, conduit in ((old, before), (new, after))
    )
    if one and two:
        yield from _most(one, two)


def _most(before: int, after: int) -> Iterator[Detail]:
    if before != after:
        yield Detail(f"at most {after} instead of {before}", "wider" if after > before else "narrower")


def _instead(label: str, one: object, two: object) -> Iterator[Detail]:
    if one != two:
        yield Detail(f"{label}: {_shown(two)} instead of {_shown(one)}", "other")


def _shown(value: object) -> str:
    return "none" if value is None else str(value)


def _words(label: str, before: Sequence[str], after: Sequence[str]) -> Iterator[Detail]:
    gained = [word for word in after if word not in before]
    lost = [word for word in before if word not in after]
    yield from _gained_and_lost(label, gained, lost)


def _addresses(label: str, before: Sequence[str], after: Sequence[str], *, bounds: bool = False) -> Iterator[Detail]:
    """bounds: they decide by themselves what is allowed."""
    spans = [(address_spans(before, version), address_spans(after, version)) for version in _VERSIONS]
    yield from _spans(label, spans, bounds=bounds)


def _spans(
    label: str, spans: Iterable[tuple[tuple[Span, ...], tuple[Span, ...]]], *, bounds: bool = False
) -> Iterator[Detail]:
    gained, lost = [], []
    for before, after in spans:
        gained += [span.text() for span in _left(after, before)]
        lost += [span.text() for span in _left(before, after)]
    yield from _gained_and_lost(label, gained, lost, bounds=bounds)


def _gained_and_lost(label: str, gained: list[str], lost: list[str], *, bounds: bool = False) -> Iterator[Detail]:
    if gained:
        yield Detail(f"{label}: also {', '.join(gained)}", "wider" if bounds else "other")
    if lost:
        yield Detail(f"{label}: no longer {', '.join(lost)}", "narrower" if bounds else "other")


def _left(spans: tuple[Span, ...], others: tuple[Span, ...]) -> Iterator[Span]:
    """Numbers of `spans` that are not in `others`."""
    version = next((span.version for span in spans), 0)
    numbers = subtract(tuple((span.low, span.high) for span in spans), tuple((span.low, span.high) for span in others))
    yield from (Span(low, high, version) for low, high in numbers)
