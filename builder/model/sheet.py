"""A contact sheet of label frames, to look at: `python -m builder.model.sheet OUT.png [SEED]`."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from builder.host.toolstree import vm_tree
from builder.model.labels import render

COLUMNS, ROWS, SCALE = 4, 5, 0.6


def contact_sheet(*, seed: int, fonts: Path) -> Image.Image:
    """The first COLUMNS * ROWS frames of a series, made smaller."""
    sheet = None
    for index in range(COLUMNS * ROWS):
        frame = render(index, seed=seed, fonts=fonts)
        width, height = int(frame.width * SCALE), int(frame.height * SCALE)
        small = Image.frombytes("RGB", (frame.width, frame.height), frame.pixels).resize((width, height))
        sheet = sheet or Image.new("RGB", (COLUMNS * width, ROWS * height))
        sheet.paste(small, (index % COLUMNS * width, index // COLUMNS * height))
    assert sheet is not None
    return sheet


def main(arguments: list[str]) -> None:
    """arguments: the file to write, and the series."""
    seed = int(arguments[1]) if len(arguments) > 1 else 1
    contact_sheet(seed=seed, fonts=vm_tree().root / "usr/share/fonts/truetype").save(arguments[0])


if __name__ == "__main__":
    main(sys.argv[1:])
