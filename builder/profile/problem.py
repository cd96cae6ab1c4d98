"""What is wrong with a profile: all of it at once, in the order of the file."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from appliance.core.errors import InputError, Place

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong at `path` of a document; the line is not known yet."""

    path: Path
    message: str
    hint: str


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, with its place."""

    place: Place
    message: str
    hint: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class ProfileError(InputError):
    """A profile with `problems`, at least one. Its message, place and hint are those of the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        first = problems[0]
        super().__init__(first.message, hint=first.hint, place=first.place)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


def path_text(path: Path) -> str:
    """`network.conduits[2].ports` for ("network", "conduits", 2, "ports")."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def did_you_mean(wrong: str, known: Iterable[str], *, otherwise: str) -> str:
    """A hint with the nearest of `known`, else `otherwise`."""
    near = nearest(wrong, known)
    return otherwise if near is None else f"did you mean `{near}`?"


def nearest(wrong: str, known: Iterable[str]) -> str | None:
    """The one of `known` that `wrong` most likely stands for."""
    near = difflib.get_close_matches(wrong, sorted(known), n=1, cutoff=0.6)
    return near[0] if near else None
