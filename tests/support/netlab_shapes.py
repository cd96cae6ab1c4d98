"""The same packet in unusual clothes: extension headers, fragments, options, tags, broadcast frames. Pure.

A ruleset that looks for the transport header where it usually is takes some of these for what they are not.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from tests.support import netlab_frames as frames
from tests.support.netlab_facts import Facts, packet_of, payload_of, text

Frames = Callable[[bytes, bytes], Sequence[bytes]]


@dataclass(frozen=True)
class Shot:
    """One packet to send. frames: target and source MAC → what goes onto the wire; None: the plain packet.

    port: onto the wire that carries a VLAN link, and not onto the link.
    """

    facts: Facts
    frames: Frames | None = None
    port: bool = False


def shapes(facts: Facts) -> Iterator[Shot]:
    """Every shape that a packet of a zone can have on its own link."""
    yield from _whole(facts, (_ipv6_shapes if facts.version == 6 else _ipv4_shapes)(facts))
    yield from _pieces(facts)
    yield from _groups(facts)


def hops(facts: Facts, own_tag: int | None, other_tags: Sequence[int]) -> Iterator[Shot]:
    """What somebody in a zone puts onto the wire to be taken for another zone: wrong tags, and two of them.

    own_tag: of the zone's VLAN; None for a zone whose link has no tag.
    """
    on_trunk = own_tag is not None
    for tag in (*other_tags, 1, 4094, 4095):
        yield replace(_tagged(facts, f"tag {tag}", (tag,)), port=on_trunk)
        yield replace(_tagged(facts, f"priority tag, tag {tag}", (0, tag)), port=on_trunk)
        yield replace(_tagged(facts, f"tag {tag} twice", (tag, tag)), port=on_trunk)
        if own_tag is not None:
            yield replace(_tagged(facts, f"own tag, tag {tag}", (own_tag, tag)), port=True)
            yield replace(_tagged(facts, f"tag {tag}, own tag", (tag, own_tag)), port=True)
    if own_tag is not None:
        yield replace(_tagged(facts, "not in a VLAN", ()), port=True)
        yield replace(_tagged(facts, "not in a VLAN, but a priority", (0,)), port=True)
    else:
        yield _tagged(facts, "a priority", (0,))


def _whole(facts: Facts, packets: Iterator[tuple[str, bytes, Facts]]) -> Iterator[Shot]:
    for name, packet, changed in packets:
        yield _shot(replace(changed, shape=name), [packet])


def _ipv6_shapes(facts: Facts) -> Iterator[tuple[str, bytes, Facts]]:
    source, target = text(facts.source, 6), text(facts.destination, 6)
    payload = payload_of(facts)
    padding = frames.padding_options()
    chains: dict[str, list[tuple[int, bytes]]] = {
        "hop-by-hop": [(frames.HOP_BY_HOP, padding)],
        "destination options": [(frames.DESTINATION_OPTIONS, padding)],
        "long destination options": [(frames.DESTINATION_OPTIONS, frames.padding_options(20))],
        "routing header 0": [(frames.ROUTING, frames.routing_header(0, target))],
        "routing header 2": [(frames.ROUTING, frames.routing_header(2, target))],
        "routing header 4": [(frames.ROUTING, frames.routing_header(4, target))],
        "two destination options": [(frames.DESTINATION_OPTIONS, padding)] * 2,
        "hop-by-hop, destination options, routing": [
            (frames.HOP_BY_HOP, padding),
            (frames.DESTINATION_OPTIONS, padding),
            (frames.ROUTING, frames.routing_header(2, target)),
        ],
    }
    for name, chain in chains.items():
        yield name, frames.ip(source, target, facts.protocol, payload, hops=facts.hops, extensions=chain), facts
    yield (
        "atomic fragment",
        frames.ip(source, target, facts.protocol, payload, hops=facts.hops, fragment=(0, False, 7)),
        facts,
    )
    nothing = frames.ip(source, target, 59, payload, hops=facts.hops)
    yield "no next header", nothing, replace(facts, protocol=59)


def _ipv4_shapes(facts: Facts) -> Iterator[tuple[str, bytes, Facts]]:
    plain = packet_of(facts)
    for name, options in (
        ("no-operation options", bytes([1, 1, 1, 0])),
        ("record route", bytes([7, 7, 4, 0, 0, 0, 0, 0])),
        ("loose source route", bytes([131, 7, 4, *plain[16:20], 0])),
        ("strict source route", bytes([137, 7, 4, *plain[16:20], 0])),
        ("router alert", bytes([148, 4, 0, 0])),
        ("ports in the options", struct.pack("!BBHHH", 68, 8, 0x0500, facts.sport, facts.dport)),
    ):
        yield name, _with_options(plain, options), facts
    if facts.protocol in (frames.TCP, frames.UDP):
        cut = frames.ip(text(facts.source, 4), text(facts.destination, 4), facts.protocol, payload_of(facts)[:4])
        yield "four bytes of transport header", cut, replace(facts, header=False)


def _with_options(plain: bytes, options: bytes) -> bytes:
    words = (20 + len(options)) // 4
    head = bytes([0x40 | words]) + plain[1:2] + struct.pack("!H", len(plain) + len(options))
    head += plain[4:10] + b"\0\0" + plain[12:20] + options
    return head[:10] + frames.checksum(head) + head[12:] + plain[20:]


def _pieces(facts: Facts) -> Iterator[Shot]:
    """Fragments: what comes out of them is one packet, as the facts say, or nothing."""
    twisted = replace(facts, dport=facts.dport ^ 1, sport=facts.sport ^ 2)
    for size in (8, 24):
        for name, order in (
            ("in two fragments", ((facts, 0), (facts, 1))),
            ("in two fragments, the last one first", ((facts, 1), (facts, 0))),
            ("first fragment", ((facts, 0),)),
            ("later fragment", ((facts, 1),)),
            ("first fragment twice", ((facts, 0), (facts, 0))),
            ("overlapping fragments", ((facts, 0), (twisted, 2), (facts, 1))),
        ):
            yield Shot(replace(facts, shape=f"{name}, at {size}"), _cut(order, size))


def _cut(order: Sequence[tuple[Facts, int]], size: int) -> Frames:
    """Pieces 0 and 1 are the packet; piece 2 lies over both of them. The source MAC's number identifies them."""

    def cut(target: bytes, source: bytes) -> list[bytes]:
        number = int.from_bytes(source[4:], "big")
        return [frames.ethernet(target, source, _piece(facts, piece, size, number)) for facts, piece in order]

    return cut


def _piece(facts: Facts, piece: int, size: int, number: int) -> bytes:
    source, target = text(facts.source, facts.version), text(facts.destination, facts.version)
    payload = payload_of(facts, bytes(32))
    offset, part = ((0, payload[:size]), (size, payload[size:]), (0, payload[: size + 8]))[piece]
    fragment = (offset, piece != 1, number)
    return frames.ip(source, target, facts.protocol, part, hops=facts.hops, fragment=fragment)


def _groups(facts: Facts) -> Iterator[Shot]:
    """One host's packet in a frame to everybody."""
    groups = {"broadcast frame": frames.BROADCAST, "multicast frame": bytes([1, 0, 0x5E, 0, 0, 1])}
    groups["IPv6 multicast frame"] = bytes([0x33, 0x33, 0, 0, 0, 1])
    for name, group in groups.items():
        yield Shot(replace(facts, shape=name), _to_group(group, packet_of(facts)))


def _to_group(group: bytes, packet: bytes) -> Frames:
    return lambda target, source: [frames.ethernet(group, source, packet)]


def _tagged(facts: Facts, name: str, tags: Sequence[int]) -> Shot:
    packet = packet_of(facts)
    return Shot(replace(facts, shape=name), lambda target, source: [frames.ethernet(target, source, packet, tags=tags)])


def _shot(facts: Facts, packets: Sequence[bytes]) -> Shot:
    return Shot(facts, lambda target, source: [frames.ethernet(target, source, packet) for packet in packets])
