"""What leaves a device, as a picture: who says it, what it holds, its lane and its topic. Pure, always the same bytes.

One row for each kind of message, so that no two arrows cross.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from pathlib import Path

import jinja2

from builder.network.lettering import FONTS, width_of, wrapped
from builder.uplink.prove import Exit, Proof

WIDTH, HEAD, GAP, LINE, SMALL, TEXT = 1180, 98, 12, 15, 11, 12
X = {
    "margin": 24,
    "chip": 40,
    "chip_width": 96,
    "card": 176,
    "card_width": 340,
    "lane": 552,
    "lane_width": 104,
    "edge": 672,
    "site": 730,
}
_CHIP = 26


@dataclass
class Sender:
    """A service beside its row."""

    name: str
    y: float


@dataclass
class Row:
    """One kind of message. style: which colour."""

    title: str
    size: str
    fields: list[str]
    topics: list[str]
    senders: list[Sender]
    style: str
    y: float
    height: float

    @property
    def middle(self) -> float:
        return self.y + self.height / 2


@dataclass
class Band:
    """The lanes of the rows beside it."""

    words: list[str]
    style: str
    y: float
    height: float


@dataclass
class Scene:
    """Everything that is drawn, with its place in pixels."""

    subtitle: str
    footer: str
    lost_words: list[str]
    rows: list[Row] = field(default_factory=list)
    bands: list[Band] = field(default_factory=list)
    width: int = WIDTH
    head: int = HEAD
    lost: float = 0
    lost_height: float = 0
    floor: float = 0
    site_floor: float = 0
    bottom: float = 0


def draw(proof: Proof) -> str:
    """The SVG."""
    rendered: str = (
        _environment().get_template("exits.svg.j2").render(proof=proof, scene=_scene(proof), fonts=FONTS, x=X)
    )
    return rendered


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


def _scene(proof: Proof) -> Scene:
    scene = Scene(_subtitle(proof), _footer(proof), _lost_words(proof))
    y: float = HEAD
    for stream, group in groupby(proof.exits, key=lambda exit_: exit_.payload.stream):
        top, exits = y, list(group)
        for exit_ in exits:
            scene.rows.append(_row(exit_, stream or "none", y))
            y += scene.rows[-1].height + GAP
        lanes: tuple[str, ...] = exits[0].payload.lanes or ("at once,", "no number")
        scene.bands.append(Band(list(lanes), stream or "none", top, y - GAP - top))
    scene.site_floor = y
    scene.lost, scene.lost_height = y + 6, 20 + LINE * len(scene.lost_words) + 12
    scene.floor = scene.lost + scene.lost_height + GAP
    scene.bottom = scene.floor + 44
    return scene


def _row(exit_: Exit, style: str, y: float) -> Row:
    payload = exit_.payload
    names = ", ".join(leaf.path for leaf in payload.leaves)
    fields = wrapped(names, SMALL, X["card_width"] - 24)
    room = WIDTH - X["margin"] - X["site"] - 24
    topics = [part for topic in exit_.topics for part in _topic_lines(topic, room)]
    height = max(20 + LINE * len(fields) + 12, _CHIP * len(payload.senders) + 6, 16 * len(topics) + 16)
    top = y + height / 2 - _CHIP * len(payload.senders) / 2 + 3
    senders = [Sender(name, top + _CHIP * number) for number, name in enumerate(payload.senders)]
    size = f"≤ {thousands(payload.limit)} bytes"
    return Row(payload.kind, size, fields, topics, senders, style, y, height)


def _topic_lines(topic: str, room: float) -> list[str]:
    """Broken behind a slash where it is too long."""
    lines = [""]
    for level in topic.split("/"):
        piece = level if lines == [""] else f"/{level}"
        if width_of(lines[-1] + piece, TEXT) > room:
            lines.append(piece)
        else:
            lines[-1] += piece
    return lines


def _subtitle(proof: Proof) -> str:
    fields = sum(len(each.payload.leaves) for each in proof.exits)
    return (
        f"{len(proof.exits)} kinds of message, {fields} fields, each with a bound; the envelope around them is the same"
    )


def _footer(proof: Proof) -> str:
    if not proof.conduits:
        return "No conduit of the uplink leads out of this device."
    names = ", ".join(f"{each.id} ({each.encryption}, {each.authentication})" for each in proof.conduits)
    return f"Conduits of the uplink: {names}; together at most {thousands(proof.rate)} bytes a second."


def _lost_words(proof: Proof) -> list[str]:
    text = (
        f"a frame of the source has {thousands(proof.frame_bytes)} bytes; no kind is for it, and no conduit adds one"
        if proof.holds
        else "the promise does not hold: see the findings"
    )
    return wrapped(text, SMALL, X["card_width"] - 24)


def thousands(number: int) -> str:
    """1,234,567."""
    return f"{number:,}"
