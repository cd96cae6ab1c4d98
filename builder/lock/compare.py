"""The difference of two locks, package by package. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from builder.lock.types import Lock, LockedPackage, LockedWheel

Kind = Literal["added", "removed", "changed", "repacked"]


@dataclass(frozen=True)
class Change:
    """One item. what: `package` or `wheel`. old, new: versions. `repacked`: same version, other bytes."""

    what: Literal["package", "wheel"]
    name: str
    kind: Kind
    old: str | None
    new: str | None


def lock_changes(old: Lock, new: Lock) -> tuple[Change, ...]:
    """What is different, packages first, each sorted by name."""
    return (
        *_changes("package", {item.name: item for item in old.packages}, {item.name: item for item in new.packages}),
        *_changes("wheel", {item.name: item for item in old.wheels}, {item.name: item for item in new.wheels}),
    )


def _changes(
    what: Literal["package", "wheel"],
    old: Mapping[str, LockedPackage | LockedWheel],
    new: Mapping[str, LockedPackage | LockedWheel],
) -> Iterator[Change]:
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if before is None or after is None:
            kind: Kind = "added" if before is None else "removed"
            yield Change(what, name, kind, before.version if before else None, after.version if after else None)
        elif before.version != after.version:
            yield Change(what, name, "changed", before.version, after.version)
        elif before.sha256 != after.sha256:
            yield Change(what, name, "repacked", before.version, after.version)
