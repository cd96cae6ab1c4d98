"""Pictures of printed product labels, the same for the same numbers: what the demo and the tests show to the device.

A frame is drawn, not photographed, but like a photograph: real fonts, dates, lots and readable bar codes, printed on
paper, lying on a belt, seen at an angle through a lens under uneven light. See docs/explanation/model.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from numpy.random import PCG64, Generator

from appliance.core.errors import InputError
from appliance.formats.frame import Frame
from builder.model.artwork import print_label
from builder.model.camera import HEIGHT, WIDTH, photograph

TRUTHS = ("0", "90", "180", "270")
_TURNS = 1 << 32  # a stream of its own: which way up must not depend on what is printed


@dataclass(frozen=True)
class LabelFrame:
    """pixels: RGB, row by row. truth: by how many degrees the label is turned clockwise. text: its lines."""

    pixels: bytes
    width: int
    height: int
    truth: str
    text: tuple[str, ...]

    def frame(self, sequence: int) -> Frame:
        """As the frame channel carries it."""
        return Frame(sequence=sequence, width=self.width, height=self.height, pixels=self.pixels)


def render(index: int, *, seed: int, fonts: Path) -> LabelFrame:
    """Frame `index`, from 0, of the series `seed`. Each four from a multiple of four on show all four truths.

    fonts: a directory with dejavu/ and liberation/, as usr/share/fonts/truetype of builder.host.toolstree.vm_tree().
    The bytes are those of the locked numpy and Pillow; other versions may draw other ones. Raises InputError when a
    font is not there.
    """
    truth = truth_of(index, seed=seed)
    rng = Generator(PCG64([seed, index]))
    try:
        label, text = print_label(rng, fonts)
    except OSError as error:
        hint = "needed are the directories dejavu and liberation of Debian's fonts-dejavu-core and fonts-liberation"
        raise InputError(f"cannot read the fonts in {fonts}: {error}", hint=hint) from error
    return LabelFrame(photograph(label, int(truth), rng), WIDTH, HEIGHT, truth, text)


def truth_of(index: int, *, seed: int) -> str:
    """The truth of a frame, without drawing it."""
    order = Generator(PCG64([seed, _TURNS, index // len(TRUTHS)])).permutation(len(TRUTHS))
    return TRUTHS[int(order[index % len(TRUTHS)])]
