"""How a connection begins, and how it ends."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from appliance.uplink.dialect import Publish


@dataclass(frozen=True)
class Opening:
    """What the next connection begins with; asked anew before each. certificate, key: PEM files."""

    will: Publish | None
    subscriptions: tuple[str, ...]
    certificate: Path
    key: Path


class EndedError(Exception):
    """The connection is over; str() says why, for people. ours: the broker does not accept who we are."""

    def __init__(self, reason: str, *, ours: bool = False) -> None:
        super().__init__(reason)
        self.ours = ours
