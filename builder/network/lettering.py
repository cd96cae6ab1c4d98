"""How wide a text is in a drawing whose reader's fonts are not known: an estimate that is never too small. Pure.

Widths are those of DejaVu Sans, the widest of the fonts that the drawings ask for, in thousandths of the size.
"""

from __future__ import annotations

from collections.abc import Iterable

FONTS = "'DejaVu Sans', Verdana, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"

_NARROW = dict.fromkeys("ijl|'", 300) | dict.fromkeys(" .,:;!/()[]frt-I", 410)
_WIDE = dict.fromkeys("mw", 980) | dict.fromkeys("MWQO@%→←↔≤·", 1000) | dict.fromkeys("ABCDEFGHKNPRSTUVXYZ&", 760)
_WIDTHS = _NARROW | _WIDE
_OTHER = 640
_BOLD = 1.12


def width_of(text: str, size: float, *, bold: bool = False) -> float:
    """Pixels, for a font of `size` pixels."""
    thousandths = sum(_WIDTHS.get(letter, _OTHER) for letter in text)
    return thousandths * size / 1000 * (_BOLD if bold else 1)


def wrapped(text: str, size: float, width: float, *, bold: bool = False) -> list[str]:
    """Lines of at most `width` pixels, broken between words; a word that is longer is broken where it has to be."""
    lines: list[str] = []
    for word in _pieces(text, size, width, bold=bold):
        if lines and width_of(f"{lines[-1]} {word}", size, bold=bold) <= width:
            lines[-1] = f"{lines[-1]} {word}"
        else:
            lines.append(word)
    return lines


def _pieces(text: str, size: float, width: float, *, bold: bool) -> Iterable[str]:
    for word in text.split():
        while width_of(word, size, bold=bold) > width:
            length = next(end for end in range(len(word), 0, -1) if width_of(word[:end], size, bold=bold) <= width)
            yield word[:length]
            word = word[length:]
        yield word
