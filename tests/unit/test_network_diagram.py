"""The diagram: every conduit is in it, points the right way, and no text leaves its place or covers another."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from xml.etree import ElementTree

import msgspec
import pytest

from appliance.formats.network_policy import NetworkPolicy
from builder.network.diagram import draw
from builder.network.lettering import width_of, wrapped
from builder.network.words import is_forwarded
from builder.profile.load import load_profile, profile_names
from tests.support.policies import everything, synthetic, tiny

replace = msgspec.structs.replace
SVG = "{http://www.w3.org/2000/svg}"
SIZES = {"h": 18, "n": 14, "s": 11, "i": 11, None: 12}


@dataclass(frozen=True)
class Text:
    """A text with the rectangle that it takes at most."""

    words: str
    left: float
    top: float
    right: float
    bottom: float

    def covers(self, other: Text) -> bool:
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )


def stressed() -> NetworkPolicy:
    """`everything` with names and lists as long as they may be."""
    policy = everything()
    repository = next(one for one in policy.conduits if one.id == "repository")
    long = replace(
        repository,
        id="w" * 63,
        ports=tuple(range(8000, 8200, 3)),
        peers=tuple(f"198.51.100.{number}" for number in range(1, 120, 2)),
    )
    first = replace(policy.zones[3], id="m" * 63, boundary="W" * 200, organisation="a word " * 28)
    rest = tuple(
        replace(one, **{end: "m" * 63 for end in ("from_zone", "to_zone") if getattr(one, end) == policy.zones[3].id})
        for one in policy.conduits
    )
    zones = (*policy.zones[:3], first, *policy.zones[4:])
    return replace(policy, zones=zones, conduits=(long, *rest))


POLICIES = {
    **{name: load_profile(name).network for name in profile_names()},
    "tiny": tiny(),
    "everything": everything(),
    "eight zones, twenty conduits": synthetic(8, 20),
    "stressed": stressed(),
}


def root_of(policy: NetworkPolicy, name: str = "x") -> ElementTree.Element:
    return ElementTree.fromstring(draw(policy, name=name))


def texts_of(root: ElementTree.Element) -> list[Text]:
    found = []
    for element in root.iter(f"{SVG}text"):
        size = SIZES[element.get("class")]
        bold = element.get("class") in ("h", "n", "i")
        parts = [(element.text or "", bold), *((part.text or "", part.get("class") == "b") for part in element)]
        width = sum(width_of(text, size, bold=strong) for text, strong in parts) + 8 * (len(parts) - 2)
        x, y = float(element.get("x", "0")), float(element.get("y", "0"))
        left = x - width / 2 if element.get("text-anchor") == "middle" else x
        found.append(Text("".join(text for text, _ in parts), left, y - 0.8 * size, left + width, y + 0.2 * size))
    return found


@pytest.mark.parametrize("name", POLICIES)
def test_no_text_covers_another_or_leaves_the_drawing(name: str) -> None:
    root = root_of(POLICIES[name])
    width, height = float(root.get("width", "0")), float(root.get("height", "0"))
    texts = texts_of(root)
    assert not [text for text in texts if text.left < 0 or text.right > width or text.bottom > height]
    assert not [(one.words, two.words) for one, two in combinations(texts, 2) if one.covers(two)]


@pytest.mark.parametrize("name", POLICIES)
def test_text_of_a_zone_stays_inside_it(name: str) -> None:
    root = root_of(POLICIES[name])
    boxes = [box for box in root.iter(f"{SVG}rect") if (box.get("class") or "").startswith("zone")]
    assert len(boxes) >= len(POLICIES[name].zones)
    left = min(float(box.get("x", "0")) for box in boxes)
    spans = [(float(box.get("y", "0")), float(box.get("y", "0")) + float(box.get("height", "0"))) for box in boxes]
    right = left + float(boxes[0].get("width", "0"))
    end = max(bottom for _, bottom in spans)
    for text in texts_of(root):
        if text.left > left and text.bottom < end:
            assert text.right <= right, text.words
            assert any(top < text.top and text.bottom < bottom for top, bottom in spans), text.words


@pytest.mark.parametrize("name", POLICIES)
def test_every_conduit_has_an_arrow_at_each_of_its_zones(name: str) -> None:
    policy = POLICIES[name]
    root = root_of(policy)
    heads = [path for path in root.iter(f"{SVG}path") if (path.get("class") or "").startswith("m")]
    legend = 4
    assert len(heads) == len(policy.conduits) + sum(is_forwarded(one) for one in policy.conduits) + legend


def test_an_arrow_points_away_from_who_begins() -> None:
    """The head is at the zone for what the device begins, at the device's edge for what a zone begins."""
    root = root_of(tiny())
    heads = [path.get("d") or "" for path in root.iter(f"{SVG}path") if (path.get("class") or "").startswith("m")]
    at = {text.words.split()[0]: text for text in texts_of(root)}
    zone_edge = max(float(head[1:].split(" ")[0]) for head in heads)
    order = [float(head[1:].split(" ")[0]) for head in heads[:3]]
    assert order[0] == order[1] == zone_edge > order[2]
    assert at["brokertcp"].top < at["arp-to-sitearp"].top < at["arp-from-sitearp"].top


@pytest.mark.parametrize(
    ("encryption", "style"), [("tls-1.3", "w tls"), ("signed-content", "w signed"), ("none", "w plain")]
)
def test_protection_is_seen_without_colour(encryption: str, style: str) -> None:
    one = replace(tiny().conduits[0], encryption=encryption)
    root = root_of(replace(tiny(), conduits=(one,)))
    assert sum(path.get("class") == style for path in root.iter(f"{SVG}path")) == 2 + 1
    css = next(root.iter(f"{SVG}style")).text or ""
    assert css.count("stroke-dasharray") == 5
    assert "2.6" in css


def test_words_of_a_profile_are_not_markup() -> None:
    marked = replace(tiny().zones[0], boundary="<script>alert('&')</script>")
    drawing = draw(replace(tiny(), zones=(marked,)), name="<b>")
    assert "<script" not in drawing
    assert "<b>" not in drawing
    assert any("<script>alert('&')</script>" in text.words for text in texts_of(ElementTree.fromstring(drawing)))


def test_nothing_is_fetched() -> None:
    drawing = draw(everything(), name="everything")
    assert [part for part in ("href", "@import", "url(", "<image", "<script", "font-face") if part in drawing] == []


def test_a_zone_without_a_conduit_says_so() -> None:
    assert "no conduit: nothing passes" in draw(everything(), name="x")
    assert "no conduit: nothing passes" not in draw(tiny(), name="x")


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("a few short words", 1000, ["a few short words"]),
        ("a few short words", 60, ["a few", "short", "words"]),
        ("mmmmmmmmmm", 60, ["mmmmm", "mmmmm"]),
        ("", 60, []),
    ],
)
def test_lines(text: str, width: float, lines: list[str]) -> None:
    assert wrapped(text, 12, width) == lines
