"""Small tools of the rules in rules_*.py: a rule takes a Profile and yields what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from builder.profile.problem import Finding, Path, path_text
from builder.profile.types import Profile

Rule = Callable[[Profile], Iterator[Finding]]


def finding(path: Path, message: str, hint: str) -> Finding:
    """A finding whose message begins with its path."""
    return Finding(path, f"{path_text(path)}: {message}", hint)


def duplicates(path: Path, values: Sequence[object], *, key: str | None = None, hint: str) -> Iterator[Finding]:
    """A finding for each of `values` that stood earlier in the list at `path`.

    key: which key of the item holds the value, for the place.
    """
    seen: dict[object, int] = {}
    for number, value in enumerate(values):
        here: Path = (*path, number) if key is None else (*path, number, key)
        if value in seen:
            yield finding(here, f"`{value}` stands twice, first at {path_text((*path, seen[value]))}", hint)
        seen.setdefault(value, number)


def normal_module(name: str) -> str:
    """Kernel modules: `dm-verity` and `dm_verity` are one."""
    return name.replace("-", "_")


def listed(words: Iterable[str]) -> str:
    """`a, b` for a hint; `none` when there is nothing."""
    return ", ".join(words) or "none"
