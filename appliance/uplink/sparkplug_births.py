"""The birth/death sequence number: one for each CONNECT, 0 to 255, the same in the will and in the birth."""

from __future__ import annotations

import contextlib
from pathlib import Path

from appliance.core.durable import write_durable
from appliance.formats.sparkplug import SEQUENCES


class BirthCounter:
    """Keeps the number in the file `path`, so that a death certificate of before a restart never ends a later birth.

    take() is for the transport's thread, current and unused() for any: between two connections nobody takes.
    """

    def __init__(self, path: Path) -> None:
        """A file that is missing or damaged begins at 0. Raises OSError."""
        self._path = path
        self.current = _read(path)
        self._fresh = False  # current was taken by the last take()
        self._again = False  # and was in no CONNECT

    def take(self) -> int:
        """The number of the next CONNECT, durable when this returns. Raises OSError; then none was taken."""
        number = self.current
        if number is None or not self._again:
            self._fresh = False
            number = 0 if number is None else (number + 1) % SEQUENCES
            write_durable(self._path, b"%d\n" % number, mode=0o600)
        self.current, self._fresh, self._again = number, True, False
        return number

    def unused(self) -> None:
        """The number of the last take(), if it gave one, was in no CONNECT: the next has it again."""
        self._again, self._fresh = self._again or self._fresh, False


def _read(path: Path) -> int | None:
    with contextlib.suppress(FileNotFoundError):
        text = path.read_bytes()[:16].strip()
        if text.isdigit() and int(text) < SEQUENCES:
            return int(text)
    return None
