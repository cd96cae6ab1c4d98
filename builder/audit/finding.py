"""What a review saw, and where. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

MAX_FINDINGS = 200


@dataclass(frozen=True, order=True)
class Finding:
    """Something that is not as it must be. file: below the log's directory. index: of the entry, where one is meant."""

    file: str
    message: str
    index: int | None = None
    expected: str = ""
    found: str = ""

    def sentence(self) -> str:
        """One line for a person."""
        where = self.file if self.index is None else f"{self.file}: entry {self.index}"
        held = f" (expected {self.expected}, found {self.found})" if self.expected or self.found else ""
        return f"{where}: {self.message}{held}"

    def data(self) -> dict[str, Any]:
        """As --json prints it."""
        return asdict(self)
