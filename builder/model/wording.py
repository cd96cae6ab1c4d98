"""What labels say: invented companies, goods, dates, lots and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TypeVar

from numpy.random import Generator

from builder.model.barcode import with_check_digit

Item = TypeVar("Item")

_COMPANIES = (
    "HARBORNE MILLS",
    "Nordvik",
    "ALTENAU",
    "Casa Brava",
    "Pellworm & Son",
    "VELTRON",
    "Kestrel Foods",
    "ORBIS",
)
_GOODS = (
    ("Rolled oats", "whole grain, fine"),
    ("Tomato passata", "from ripe tomatoes"),
    ("Dark chocolate", "72 % cocoa solids"),
    ("Green lentils", "washed and sorted"),
    ("Peach slices", "in light syrup"),
    ("Coarse sea salt", "with iodine added"),
    ("Apple vinegar", "5 % acidity, unfiltered"),
    ("Ground coffee", "medium roast"),
)
_INGREDIENTS = (
    "wheat flour", "water", "sugar", "sunflower oil", "salt", "yeast", "skimmed milk powder", "cocoa butter",
    "tomato puree", "onion", "citric acid", "natural flavouring", "glucose syrup", "barley malt", "soya lecithin",
)  # fmt: skip
_MACHINES = (
    ("Gear motor", "GM"), ("Servo drive", "SD"), ("Level sensor", "LS"), ("Vacuum pump", "VP"), ("Power supply", "PS"),
    ("Flow meter", "FM"), ("Ball valve", "BV"), ("Frequency converter", "FC"),
)  # fmt: skip
_DRUGS = (("Solvadine", "200 mg"), ("Metorpan", "5 mg/ml"), ("Calvitex", "1000 mg"), ("Neurilan", "75 mg"))
_TOWNS = ("Odense", "Graz", "Leuven", "Brno", "Porto", "Turku", "Lyon", "Bremen", "Cork", "Lugano")
_STREETS = ("Mill Lane", "Dock Road", "Industriestrasse", "Rue du Canal", "Station Road", "Via Roma", "Ringvej")
_KEEP = ("Keep cool and dry.", "Store below 25 °C.", "Once opened, keep refrigerated.", "Protect from sunlight.")


def pick(rng: Generator, items: Sequence[Item]) -> Item:
    """One of `items`."""
    return items[int(rng.integers(len(items)))]


@dataclass(frozen=True)
class Wording:
    """Everything that one label may say; a layout prints some of it. ean: 13 digits; itf: 14 digits."""

    company: str
    address: str
    goods: tuple[str, str]
    ingredients: str
    keep: str
    machine: str
    ratings: tuple[tuple[str, str], ...]
    drug: tuple[str, str]
    lot: str
    serial: str
    made: str
    best_before: str
    weight: str
    ean: str
    itf: str


def compose_wording(rng: Generator) -> Wording:
    """The words of one label."""
    made = date(2024, 1, 1) + timedelta(days=int(rng.integers(900)))
    best = made + timedelta(days=int(rng.integers(60, 900)))
    style = pick(rng, ("%d.%m.%Y", "%d %b %Y", "%Y-%m-%d", "%d/%m/%y"))
    machine, prefix = pick(rng, _MACHINES)
    number = _digits(rng, 3)
    chosen = rng.permutation(len(_INGREDIENTS))[: int(rng.integers(6, 10))]
    return Wording(
        company=pick(rng, _COMPANIES),
        address=f"{pick(rng, _STREETS)} {rng.integers(1, 240)}, {_digits(rng, 4)} {pick(rng, _TOWNS)}",
        goods=pick(rng, _GOODS),
        ingredients="Ingredients: " + ", ".join(_INGREDIENTS[one] for one in chosen) + ".",
        keep=pick(rng, _KEEP),
        machine=machine,
        ratings=_ratings(rng, f"{prefix} {number}-{pick(rng, 'ABCDEK')}"),
        drug=pick(rng, _DRUGS),
        lot=f"L{made:%y}{made.timetuple().tm_yday:03d}{pick(rng, 'ABCD')}{_digits(rng, 2)}",
        serial=f"{prefix}{made:%y}{_digits(rng, 6)}",
        made=made.strftime(style),
        best_before=best.strftime(style),
        weight=pick(rng, ("250 g", "400 g", "500 g", "1 kg", "750 g", "12 x 400 g")),
        ean=with_check_digit(f"4{_digits(rng, 11)}"),
        itf=with_check_digit(f"1{_digits(rng, 12)}"),
    )


def _ratings(rng: Generator, model: str) -> tuple[tuple[str, str], ...]:
    return (
        ("Type", model),
        ("Voltage", pick(rng, ("24 V DC", "230 V 50 Hz", "400 V 3~", "48 V DC"))),
        ("Current", f"{rng.integers(1, 40) / 2:.1f} A"),
        ("Power", f"{rng.integers(1, 90) * 50} W"),
        ("Protection", pick(rng, ("IP 54", "IP 65", "IP 67"))),
        ("Ambient", pick(rng, ("-20 ... +60 °C", "0 ... +45 °C", "-40 ... +85 °C"))),
    )


def _digits(rng: Generator, count: int) -> str:
    return "".join(str(digit) for digit in rng.integers(0, 10, count))
