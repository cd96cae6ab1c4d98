"""What a machine said on its serial console."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from builder.vm.deadline import wait_until

_ESCAPES = re.compile(r"\x1b(\[[0-9;?=]*[a-zA-Z]|[()][A-Z0-9]|[=>78cDEHM])|\r|\x00")


class Console:
    """The console log. check: raises when the machine has died."""

    def __init__(self, path: Path, *, check: Callable[[], object]) -> None:
        self._path = path
        self._check = check

    def text(self) -> str:
        """Everything so far, without escape sequences."""
        if not self._path.exists():
            return ""
        return clean(self._path.read_bytes())

    def wait_for(self, pattern: str, *, within_s: float, since: int = 0) -> re.Match[str]:
        """The first match of the regular expression at or behind character `since`. Raises EdgesealError."""
        compiled = re.compile(pattern)
        return wait_until(
            lambda: compiled.search(self.text(), since),
            what=f"the console says `{pattern}`",
            within_s=within_s,
            check=self._check,
        )


def clean(data: bytes) -> str:
    """Console bytes as text, without escape sequences."""
    return _ESCAPES.sub("", data.decode("utf-8", "replace"))
