"""Bars as printers print them: EAN-13 for what a shop sells, Interleaved 2 of 5 (ITF-14) for cartons.

A pattern is a string of modules, `1` is ink. Quiet zones are the caller's.
"""

from __future__ import annotations

_LEFT = ("0001101", "0011001", "0010011", "0111101", "0100011", "0110001", "0101111", "0111011", "0110111", "0001011")
_PARITY = ("LLLLLL", "LLGLGG", "LLGGLG", "LLGGGL", "LGLLGG", "LGGLLG", "LGGGLL", "LGLGLG", "LGLGGL", "LGGLGL")
_WIDE = ("nnwwn", "wnnnw", "nwnnw", "wwnnn", "nnwnw", "wnwnn", "nwwnn", "nnnww", "wnnwn", "nwnwn")
_WIDTH = {"n": 1, "w": 3}


def with_check_digit(digits: str) -> str:
    """`digits` and the GS1 check digit that follows them."""
    total = sum(int(digit) * (3 if place % 2 == 0 else 1) for place, digit in enumerate(reversed(digits)))
    return f"{digits}{-total % 10}"


def ean13(digits: str) -> str:
    """95 modules for 13 digits."""
    first, left, right = int(digits[0]), digits[1:7], digits[7:]
    half = "".join(_coded(int(digit), parity) for digit, parity in zip(left, _PARITY[first], strict=True))
    return f"101{half}01010{''.join(_inverted(_LEFT[int(digit)]) for digit in right)}101"


def itf(digits: str) -> str:
    """Modules for an even number of digits; a wide bar is three modules."""
    modules = "1010"
    for bar, space in zip(digits[::2], digits[1::2], strict=True):
        for ink, paper in zip(_WIDE[int(bar)], _WIDE[int(space)], strict=True):
            modules += "1" * _WIDTH[ink] + "0" * _WIDTH[paper]
    return modules + "11101"


def _coded(digit: int, parity: str) -> str:
    return _LEFT[digit] if parity == "L" else _inverted(_LEFT[digit])[::-1]


def _inverted(modules: str) -> str:
    return modules.translate(str.maketrans("01", "10"))
