"""The print of a label, upright and flat: paper, words, bars, rules and small marks."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFont

from builder.model.barcode import ean13, itf
from builder.model.wording import Wording, compose_wording, pick

Colour = tuple[int, int, int]

_FAMILIES = (
    ("liberation/LiberationSans-Regular.ttf", "liberation/LiberationSans-Bold.ttf"),
    ("liberation/LiberationSerif-Regular.ttf", "liberation/LiberationSerif-Bold.ttf"),
    ("liberation/LiberationMono-Regular.ttf", "liberation/LiberationMono-Bold.ttf"),
    ("dejavu/DejaVuSans.ttf", "dejavu/DejaVuSans-Bold.ttf"),
    ("dejavu/DejaVuSerif.ttf", "dejavu/DejaVuSerif-Bold.ttf"),
)
_PAPERS: tuple[Colour, ...] = ((250, 250, 248), (244, 240, 228), (232, 234, 236), (248, 228, 120), (214, 186, 146))
_INKS: tuple[Colour, ...] = ((16, 16, 18), (28, 34, 66), (60, 24, 22), (22, 48, 34))
_ACCENTS: tuple[Colour, ...] = ((170, 28, 34), (24, 74, 140), (22, 110, 62), (40, 40, 44), (190, 96, 12))
MARGIN = 44


@dataclass
class Print:
    """A label while it is being printed, top to bottom. y: where the next line goes. text: every line so far."""

    image: Image.Image
    fonts: Path
    family: tuple[str, str]
    ink: Colour
    accent: Colour
    y: int = MARGIN
    text: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.draw = ImageDraw.Draw(self.image)

    @property
    def right(self) -> int:
        """Where the right margin begins."""
        return self.image.width - MARGIN

    def font(self, size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
        """size: pixels. Basic layout: the same glyph positions on every host."""
        data = io.BytesIO(_font_bytes(self.fonts / self.family[bold]))
        return ImageFont.truetype(data, size, layout_engine=ImageFont.Layout.BASIC)

    def line(self, words: str, size: int, *, bold: bool = False, x: int = MARGIN, colour: Colour | None = None) -> None:
        """One line, shrunk until it fits between x and the right margin."""
        font = self.font(size, bold=bold)
        while font.getlength(words) > self.right - x and size > 12:
            size -= 1
            font = self.font(size, bold=bold)
        self.draw.text((x, self.y), words, fill=colour or self.ink, font=font)
        self.text.append(words)
        self.y += round(size * 1.28)

    def paragraph(self, words: str, size: int, *, lines: int) -> None:
        """Wrapped, at most `lines` lines."""
        font, current = self.font(size), ""
        for word in [*words.split(), ""]:
            longer = f"{current} {word}".strip()
            if lines and (not word or font.getlength(longer) > self.right - MARGIN):
                self.line(current, size)
                lines -= 1
                current = word
            else:
                current = longer

    def band(self, words: str, size: int) -> None:
        """A coloured band across the label, with white words."""
        height = round(size * 1.7)
        self.draw.rectangle((0, self.y - size // 3, self.image.width, self.y - size // 3 + height), fill=self.accent)
        self.line(words, size, bold=True, colour=(250, 250, 250))
        self.y = self.y + size // 4

    def rule(self) -> None:
        """A line across."""
        self.draw.line((MARGIN, self.y + 4, self.right, self.y + 4), fill=self.ink, width=4)
        self.y += 18

    def rows(self, pairs: tuple[tuple[str, str], ...], size: int) -> None:
        """A ruled table of two columns."""
        height, middle = round(size * 1.5), MARGIN + (self.right - MARGIN) * 2 // 5
        top = self.y
        for name, value in pairs:
            self.draw.line((MARGIN, self.y, self.right, self.y), fill=self.ink, width=3)
            self.draw.text((MARGIN + 12, self.y + size // 5), name, fill=self.ink, font=self.font(size))
            self.draw.text((middle + 12, self.y + size // 5), value, fill=self.ink, font=self.font(size, bold=True))
            self.text.append(f"{name} {value}")
            self.y += height
        for x in (MARGIN, middle, self.right):
            self.draw.line((x, top, x, self.y), fill=self.ink, width=3)
        self.draw.line((MARGIN, self.y, self.right, self.y), fill=self.ink, width=3)
        self.y += 16

    def bars(self, pattern: str, digits: str, box: tuple[int, int, int, int]) -> None:
        """A bar code with its digits below, in a white box (left, top, right, bottom)."""
        left, top, right, bottom = box
        size = max(18, (bottom - top) // 5)
        module = max(1, (right - left) // (len(pattern) + 14))
        start = left + (right - left - module * len(pattern)) // 2
        self.draw.rectangle(box, fill=(252, 252, 252))
        for place, ink in enumerate(pattern):
            if ink == "1":
                x = start + place * module
                self.draw.rectangle((x, top + 8, x + module - 1, bottom - size - 8), fill=(10, 10, 10))
        font = self.font(size)
        x = left + int(right - left - font.getlength(digits)) // 2
        self.draw.text((x, bottom - size - 6), digits, fill=(10, 10, 10), font=font)
        self.text.append(digits)

    def mark(self, kind: int, centre: tuple[int, int], radius: int) -> None:
        """A small logo shape."""
        x, y = centre
        if kind == 0:
            self.draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=self.accent, width=radius // 4)
            self.draw.line((x - radius // 2, y, x + radius // 2, y), fill=self.accent, width=radius // 4)
        elif kind == 1:
            self.draw.polygon([(x, y - radius), (x + radius, y + radius), (x - radius, y + radius)], fill=self.accent)
        else:
            self.draw.rectangle(
                (x - radius, y - radius, x + radius, y + radius), outline=self.accent, width=radius // 5
            )
            self.draw.ellipse((x - radius // 2, y - radius // 2, x + radius // 2, y + radius // 2), fill=self.accent)


@functools.cache
def _font_bytes(path: Path) -> bytes:
    """Given a path, Pillow would look for a font of that name elsewhere on the host too."""
    return path.read_bytes()


def print_label(rng: Generator, fonts: Path) -> tuple[Image.Image, tuple[str, ...]]:
    """A label and what stands on it, line by line. fonts: holds dejavu/ and liberation/."""
    layout = pick(rng, _LAYOUTS)
    image = Image.new("RGB", layout.size, pick(rng, _PAPERS))
    page = Print(image, fonts, pick(rng, _FAMILIES), pick(rng, _INKS), pick(rng, _ACCENTS))
    layout.draw(page, compose_wording(rng), rng)
    return image, tuple(page.text)


def _food(page: Print, words: Wording, rng: Generator) -> None:
    page.band(words.company, 84)
    page.mark(int(rng.integers(3)), (page.right - 40, page.y - 76), 34)
    page.line(words.goods[0], 78, bold=True)
    page.line(words.goods[1], 46)
    page.y += 8
    page.paragraph(words.ingredients, 38, lines=3)
    page.rule()
    low = page.y
    page.line(f"BEST BEFORE {words.best_before}", 46, bold=True)
    page.line(f"LOT {words.lot}", 46, bold=True)
    page.line(words.keep, 34)
    page.line(f"{words.weight} e", 52, bold=True)
    page.bars(ean13(words.ean), words.ean, (page.right - 400, low + 68, page.right, min(low + 270, 730)))


def _plate(page: Print, words: Wording, rng: Generator) -> None:
    page.mark(int(rng.integers(3)), (MARGIN + 46, page.y + 46), 46)
    page.line(words.company, 74, bold=True, x=MARGIN + 130)
    page.line(words.machine, 46, x=MARGIN + 130)
    page.y += 14
    page.rows(words.ratings, 46)
    page.line(f"S/N {words.serial}", 50, bold=True)
    page.line(f"Made {words.made}   {words.address}", 34)


def _carton(page: Print, words: Wording, rng: Generator) -> None:
    page.line(words.company, 56, bold=True)
    page.line(words.address, 36)
    page.rule()
    page.line(f"{words.goods[0]}, {words.goods[1]}", 54, bold=True)
    page.line(f"CONTENT {words.weight}", 46)
    page.rule()
    page.line(f"LOT {words.lot}", 62, bold=True)
    page.line(f"BEST BEFORE {words.best_before}", 54, bold=True)
    page.bars(itf(words.itf), words.itf, (MARGIN, page.y + 10, page.right, page.image.height - 30))
    page.mark(int(rng.integers(3)), (page.right - 50, 84), 38)


def _pharmacy(page: Print, words: Wording, rng: Generator) -> None:
    page.line(words.drug[0], 104, bold=True, colour=page.accent)
    page.line(words.drug[1], 66, bold=True)
    page.line(pick(rng, ("30 film-coated tablets", "10 ampoules of 2 ml", "20 effervescent tablets")), 46)
    page.rule()
    page.line("For oral use. Read the leaflet before use.", 36)
    page.line("Keep out of the reach of children.", 36)
    page.line(words.keep, 36)
    page.y += 10
    low = page.y
    page.line(f"EXP {words.best_before}", 50, bold=True)
    page.line(f"LOT {words.lot}", 50, bold=True)
    page.line(f"SN {words.serial}", 50, bold=True)
    page.line(words.company, 42)
    page.bars(ean13(words.ean), words.ean, (page.right - 400, low - 8, page.right, low + 190))


def _date_code(page: Print, words: Wording, rng: Generator) -> None:
    page.line(words.goods[0], 92, bold=True)
    page.line(words.company, 48)
    page.rule()
    page.line(f"PROD {words.made}", 84)
    page.line(f"EXP  {words.best_before}", 84)
    page.line(f"LOT  {words.lot}", 84)
    page.line(f"{words.weight}   LINE {rng.integers(1, 9)}   {rng.integers(24):02d}:{rng.integers(60):02d}", 60)


@dataclass(frozen=True)
class _Layout:
    draw: Callable[[Print, Wording, Generator], None]
    size: tuple[int, int]


_LAYOUTS = (
    _Layout(_food, (1000, 800)),
    _Layout(_plate, (1000, 780)),
    _Layout(_carton, (900, 860)),
    _Layout(_pharmacy, (1000, 820)),
    _Layout(_date_code, (960, 700)),
)
