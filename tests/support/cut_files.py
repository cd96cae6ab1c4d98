"""A model's directory on a disk whose power goes at a chosen moment.

Three ways: the operation was LOST, it was done and nobody was told (UNACKNOWLEDGED), or half of it was done (TORN).
What was not synced by then is what a file system may make of it: gone, cut off, or there in length but not in content.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from appliance.update.model_files import ModelFiles

Way = Literal["lost", "unacknowledged", "torn"]
WAYS: tuple[Way, ...] = ("lost", "unacknowledged", "torn")


class PowerCut(BaseException):
    """Nothing runs any more."""


@dataclass
class Power:
    """at: number of the operation, from 0, in which it goes; None: never. after: called after each operation."""

    at: int | None = None
    way: Way = "lost"
    done: list[str] = field(default_factory=list)
    after: Callable[[], None] = lambda: None
    is_off: bool = False
    unsynced: dict[Path, int] = field(default_factory=dict)

    def files(self, directory: Path) -> CutFiles:
        """For ModelStore."""
        return CutFiles(directory, self)

    def step(self, what: str, whole: Callable[[], None], half: Callable[[], None]) -> None:
        """Do it, or not."""
        if self.is_off:
            raise PowerCut
        if self.at == len(self.done):
            self.is_off = True
            {"lost": lambda: None, "unacknowledged": whole, "torn": half}[self.way]()
            raise PowerCut
        whole()
        self.done.append(what)
        self.after()

    def damage(self, dice: random.Random) -> None:
        """What the disk holds after the cut."""
        for path, synced in self.unsynced.items():
            if not path.exists():
                continue
            size = path.stat().st_size
            left = dice.randint(min(synced, size), size)
            data = path.read_bytes()
            garbled = data[:synced] + bytes(left - synced) if dice.random() < 0.5 else data[:left]
            path.write_bytes(garbled[:left])


class CutFiles(ModelFiles):
    """Every change is an operation of `power`."""

    def __init__(self, directory: Path, power: Power) -> None:
        super().__init__(directory)
        self._power = power

    def write(self, name: str, data: bytes) -> None:
        whole = super().write

        def half() -> None:
            self._make()
            (self.directory / f".{name}.torn").write_bytes(data[: len(data) // 2])

        self._power.step(f"write {name}", lambda: whole(name, data), half)

    def append(self, name: str, offset: int, data: bytes) -> None:
        whole, path = super().append, self.directory / name
        if not self._power.is_off:
            synced = self._power.unsynced.get(path, offset)
            self._power.unsynced[path] = min(synced, offset)
        self._power.step(
            f"append {name}", lambda: whole(name, offset, data), lambda: whole(name, offset, data[: len(data) // 2])
        )

    def sync(self, name: str) -> None:
        whole, path = super().sync, self.directory / name

        def synced() -> None:
            whole(name)
            self._power.unsynced.pop(path, None)

        self._power.step(f"sync {name}", synced, lambda: None)

    def publish(self, name: str, final: str) -> None:
        whole = super().publish

        def published() -> None:
            whole(name, final)
            self._power.unsynced.pop(self.directory / name, None)

        self._power.step(f"publish {name}", published, lambda: (self.directory / name).chmod(0o644))

    def remove(self, name: str) -> None:
        whole = super().remove
        self._power.step(f"remove {name}", lambda: whole(name), lambda: None)
