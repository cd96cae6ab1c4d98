"""Pictures of labels: the same each time, all four ways up, and readable bar codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.random import PCG64, Generator
from PIL import Image

from appliance.core.errors import InputError
from builder.model.barcode import ean13, itf, with_check_digit
from builder.model.camera import HEIGHT, WIDTH, photograph
from builder.model.labels import TRUTHS, render, truth_of
from builder.model.wording import compose_wording


def rng(number: int) -> Generator:
    return Generator(PCG64(number))


def flat_label() -> Image.Image:
    """White, with a red upper half."""
    label = Image.new("RGB", (600, 480), (255, 255, 255))
    label.paste((255, 0, 0), (0, 0, 600, 240))
    return label


def test_each_four_frames_show_each_truth_once() -> None:
    truths = [truth_of(index, seed=5) for index in range(400)]
    assert all(set(truths[start : start + 4]) == set(TRUTHS) for start in range(0, 400, 4))


def test_the_next_truth_cannot_be_told_from_the_last_one() -> None:
    truths = [truth_of(index, seed=5) for index in range(1600)]
    orders = {tuple(truths[start : start + 4]) for start in range(0, 1600, 4)}
    assert len(orders) == 24


def test_another_series_is_in_another_order() -> None:
    assert [truth_of(index, seed=1) for index in range(40)] != [truth_of(index, seed=2) for index in range(40)]


def test_the_same_numbers_give_the_same_picture() -> None:
    first, second, other = (photograph(flat_label(), 90, rng(seed)) for seed in (1, 1, 2))
    assert first == second != other
    assert len(first) == WIDTH * HEIGHT * 3


@pytest.mark.parametrize(("turn", "row", "column"), [(0, 140, 320), (90, 240, 420), (180, 340, 320), (270, 240, 220)])
def test_a_turn_is_clockwise(turn: int, row: int, column: int) -> None:
    frame = np.frombuffer(photograph(flat_label(), turn, rng(3)), dtype=np.uint8).reshape(HEIGHT, WIDTH, 3)
    red, green, _blue = frame[row - 5 : row + 5, column - 5 : column + 5].reshape(-1, 3).mean(axis=0)
    assert red > green + 60


def test_missing_fonts_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"cannot read the fonts in {tmp_path}: "):
        render(0, seed=1, fonts=tmp_path)


def test_the_same_numbers_give_the_same_words() -> None:
    assert compose_wording(rng(7)) == compose_wording(rng(7)) != compose_wording(rng(8))


def test_check_digits_are_those_of_gs1() -> None:
    assert with_check_digit("400638133393") == "4006381333931"
    assert with_check_digit("1540014128876") == "15400141288763"


def test_bars_are_those_of_the_standards() -> None:
    assert ean13("4006381333931") == (
        "101" "0001101" "0100111" "0101111" "0111101" "0001001" "0110011"
        "01010" "1000010" "1000010" "1000010" "1110100" "1000010" "1100110" "101"
    )  # fmt: skip
    assert itf("12") == "101011101000101011100011101"
