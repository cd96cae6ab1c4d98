"""The zone and conduit diagram of a policy, as SVG. Pure, and the same bytes for the same policy.

One row per conduit, so that nothing crosses and no label covers another: the device on the left with a service for
each row, its links as ports on its edge, the zones on the right. The arrow points where the initiator's packets go.
What is forwarded has a row at each of its two zones, joined inside the device.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from pathlib import Path

import jinja2

from appliance.formats.network_policy import (
    DEVICE_ZONE,
    LOOPBACK_ZONE,
    Conduit,
    Link,
    NetworkPolicy,
    Zone,
    encode_network_policy,
)
from builder.network.lettering import FONTS, width_of, wrapped
from builder.network.words import (
    FORWARD,
    is_forwarded,
    link_words,
    peer_words,
    protection_words,
    protocol_words,
)

MARGIN = 24
HEAD = 92
GAP = 14
PAD = 12
LINE = 16
TEXT, SMALL, TITLE = 12, 11, 14
CHIP, CHIP_GAP, LANE = 104, 26, 14
ARROW = (440, 540)
ZONE = (270, 380)
PORT = (120, 300)
BADGE = 64


@dataclass
class Row:
    """One conduit at one zone. y: of its arrow. above: lines of text, each with a bold part and a plain one; below."""

    conduit: Conduit
    chip: str
    outward: bool
    above: list[tuple[str, str]]
    below: list[str]
    y: float = 0

    @property
    def height(self) -> float:
        return LINE * (len(self.above) + len(self.below)) + PAD

    @property
    def style(self) -> str:
        if self.conduit.protocol not in ("tcp", "udp"):
            return "message"
        return {"tls-1.3": "tls", "signed-content": "signed", "none": "plain"}[self.conduit.encryption]


@dataclass
class ZoneBox:
    """A zone with the rows that end at it. names: its name, in lines. lines: its text below. style: of its outline."""

    names: list[str]
    rows: list[Row]
    lines: list[str]
    style: str
    badge: str = ""
    y: float = 0
    height: float = 0


@dataclass
class Chip:
    """A service, beside the rows that are its own."""

    text: str
    y: float
    height: float


@dataclass
class Port:
    """A link on the device's edge. inner: a VLAN, drawn inside the link that carries it."""

    name: str
    lines: list[str]
    inner: bool
    y: float = 0
    height: float = 0


@dataclass
class Lane:
    """A forwarded conduit inside the device: a line that joins its two rows."""

    x: float
    top: float
    bottom: float


@dataclass
class Scene:
    """Everything that is drawn, with its place in pixels."""

    zones: list[ZoneBox] = field(default_factory=list)
    ports: list[Port] = field(default_factory=list)
    chips: list[Chip] = field(default_factory=list)
    lanes: list[Lane] = field(default_factory=list)
    arrow: float = 0
    zone: float = 0
    port: float = 0
    chip_x: float = 0
    bottom: float = 0

    @property
    def port_x(self) -> float:
        return self.chip_x + CHIP + CHIP_GAP

    @property
    def edge(self) -> float:
        return self.port_x + self.port / 2

    @property
    def arrow_x(self) -> float:
        return self.port_x + self.port

    @property
    def zone_x(self) -> float:
        return self.arrow_x + self.arrow

    @property
    def width(self) -> float:
        return self.zone_x + self.zone + MARGIN


def draw(policy: NetworkPolicy, *, name: str) -> str:
    """The SVG. name: of the profile."""
    return (
        _environment()
        .get_template("diagram.svg.j2")
        .render(
            name=name,
            policy=policy,
            digest=hashlib.sha256(encode_network_policy(policy)).hexdigest(),
            scene=_scene(policy),
            fonts=FONTS,
            margin=MARGIN,
            head=HEAD,
            line=LINE,
            chip=CHIP,
            sizes={"text": TEXT, "small": SMALL, "title": TITLE},
        )
    )


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=True,
    )


def _scene(policy: NetworkPolicy) -> Scene:
    scene = Scene()
    forwarded = [conduit for conduit in policy.conduits if is_forwarded(conduit)]
    scene.chip_x = MARGIN + 16 + LANE * len(forwarded)
    scene.port = _clamped(PORT, [_port_width(link) for link in policy.links])
    scene.arrow = _clamped(ARROW, [_label_width(policy, conduit) for conduit in policy.conduits])
    scene.zone = _clamped(ZONE, [_zone_width(zone) for zone in policy.zones])
    y: float = HEAD
    for physical, links in _groups(policy.links):
        y = _place_group(scene, policy, physical, links, y) + GAP
    scene.bottom = _place_loopback(scene, policy, y)
    _place_lanes(scene, forwarded)
    return scene


# ---- widths


def _clamped(bounds: tuple[int, int], widths: Iterable[float]) -> float:
    return float(min(max([bounds[0], *(round(width + 0.5) for width in widths)]), bounds[1]))


def _port_width(link: Link) -> float:
    texts = (link_words(link), *link.addresses)
    return max([width_of(link.name, TITLE, bold=True), *(width_of(text, SMALL) for text in texts)]) + 28


def _label_width(policy: NetworkPolicy, conduit: Conduit) -> float:
    above = width_of(conduit.id, TEXT, bold=True) + width_of(f"  {_offer(conduit)}", TEXT)
    return max(above, width_of(peer_words(policy, conduit), SMALL)) + 44


def _zone_width(zone: Zone) -> float:
    texts = (*zone.prefixes, _zone_kind(zone))
    return max([width_of(zone.id, TITLE, bold=True) + BADGE, *(width_of(text, SMALL) for text in texts)]) + 28


# ---- rows and zones


def _offer(conduit: Conduit) -> str:
    return f"{protocol_words(conduit)} · {protection_words(conduit)}"


def _row(policy: NetworkPolicy, conduit: Conduit, *, outward: bool, width: float) -> Row:
    room = width - 44
    offer = _offer(conduit)
    if width_of(conduit.id, TEXT, bold=True) + width_of(f"  {offer}", TEXT) <= room:
        above = [(conduit.id, offer)]
    else:
        above = [(part, "") for part in wrapped(conduit.id, TEXT, room, bold=True)]
        above += [("", part) for part in wrapped(offer, TEXT, room)]
    below = wrapped(peer_words(policy, conduit), SMALL, room)
    return Row(conduit, conduit.service or FORWARD, outward, above, below)


def _zone_rows(policy: NetworkPolicy, zone: Zone, width: float) -> list[Row]:
    """Those of one service stand together, the kernel's last."""
    rows = [
        _row(policy, conduit, outward=end == conduit.to_zone, width=width)
        for conduit in policy.conduits
        for end in _ends(conduit)
        if end == zone.id
    ]
    order = list(dict.fromkeys(row.chip for row in rows if row.chip not in ("kernel", FORWARD)))
    ranks = {chip: rank for rank, chip in enumerate([*order, "kernel", FORWARD])}
    return sorted(rows, key=lambda row: ranks[row.chip])


def _ends(conduit: Conduit) -> tuple[str, ...]:
    """The zones at which it has a row."""
    return tuple(end for end in dict.fromkeys((conduit.from_zone, conduit.to_zone)) if end != DEVICE_ZONE)


def _zone_kind(zone: Zone) -> str:
    return f"{zone.kind}, safety-related" if zone.safety == "related" else zone.kind


def _zone_box(policy: NetworkPolicy, zone: Zone, scene: Scene) -> ZoneBox:
    rows = _zone_rows(policy, zone, scene.arrow)
    room = scene.zone - 28
    texts = (_zone_kind(zone), *zone.prefixes, zone.organisation, zone.boundary)
    lines = [part for text in texts for part in wrapped(text, SMALL, room)]
    box = _boxed(zone.id, rows, lines, "safety" if zone.safety == "related" else "", width=scene.zone)
    box.badge = f"SL-T {zone.security_level}"
    return box


def _boxed(name: str, rows: list[Row], lines: list[str], style: str, *, width: float) -> ZoneBox:
    names = wrapped(name, TITLE, width - 28 - BADGE, bold=True)
    height = max(sum(row.height for row in rows) + PAD, LINE * (len(names) + len(lines)) + 2 * PAD)
    return ZoneBox(names, rows, lines, style, height=height)


# ---- places


def _groups(links: tuple[Link, ...]) -> list[tuple[Link, list[Link]]]:
    """Each physical link with the VLANs that it carries, in the order of the policy."""
    return [
        (link, [other for other in links if other.vlan is not None and other.vlan.parent == link.name])
        for link in links
        if link.vlan is None
    ]


def _place_group(scene: Scene, policy: NetworkPolicy, physical: Link, vlans: list[Link], y: float) -> float:
    top = y
    outer = Port(physical.name, _port_lines(physical, scene), inner=False, y=top)
    scene.ports.append(outer)
    own = any(zone.link == physical.name for zone in policy.zones)
    if vlans and not own:
        y += LINE * (len(outer.lines) + 1) + PAD
    else:
        y = _place_zones(scene, policy, physical, y, least=LINE * (len(outer.lines) + 1) + PAD)
    for vlan in vlans:
        y += GAP / 2
        port = Port(vlan.name, _port_lines(vlan, scene), inner=True, y=y)
        scene.ports.append(port)
        y = _place_zones(scene, policy, vlan, y, least=LINE * (len(port.lines) + 1) + PAD)
        port.height = y - port.y
    outer.height = y - top + (GAP / 2 if vlans else 0)
    return top + outer.height


def _port_lines(link: Link, scene: Scene) -> list[str]:
    texts = (link_words(link), *link.addresses)
    return [part for text in texts for part in wrapped(text, SMALL, scene.port - 28)]


def _place_zones(scene: Scene, policy: NetworkPolicy, link: Link, y: float, *, least: float) -> float:
    """The zones of a link, one below the other. least: height that the link's own text needs. Returns the bottom."""
    top = y
    for zone in (zone for zone in policy.zones if zone.link == link.name):
        box = _zone_box(policy, zone, scene)
        box.y, y = y, y + box.height + GAP
        scene.zones.append(box)
        _place_rows(scene, box.rows, box.y + PAD)
    return max(y - GAP if y > top else y, top + least)


def _place_rows(scene: Scene, rows: list[Row], y: float) -> float:
    for row in rows:
        row.y = y + LINE * len(row.above) + 1
        y += row.height
    for text, group in groupby(rows, key=lambda row: row.chip):
        ys = [row.y for row in group]
        scene.chips.append(Chip(text, ys[0] - 11, ys[-1] - ys[0] + 22))
    return y


def _place_loopback(scene: Scene, policy: NetworkPolicy, y: float) -> float:
    """What services of the device say to each other, below all links. Returns the bottom of the device."""
    conduits = [conduit for conduit in policy.conduits if conduit.from_zone == LOOPBACK_ZONE]
    if not conduits:
        return y
    rows = [_row(policy, conduit, outward=True, width=scene.arrow) for conduit in conduits]
    answers = ", ".join(sorted({str(conduit.listener) for conduit in conduits}))
    box = _boxed(LOOPBACK_ZONE, rows, ["inside the device", f"answers: {answers}"], "inside", width=scene.zone)
    box.y = y
    scene.zones.append(box)
    scene.ports.append(Port("lo", [], inner=False, y=y, height=box.height))
    _place_rows(scene, rows, y + PAD)
    return y + box.height + GAP


def _place_lanes(scene: Scene, forwarded: list[Conduit]) -> None:
    for number, conduit in enumerate(forwarded):
        ys = [row.y for box in scene.zones for row in box.rows if row.conduit is conduit]
        scene.lanes.append(Lane(MARGIN + 16 + LANE * number + 4, min(ys), max(ys)))
