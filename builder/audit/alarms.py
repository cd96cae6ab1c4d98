"""What a collector alarms about: a durable file per alarm; it stands until its cause is gone or a person took it up."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from appliance.core.canonical import canonical_json
from appliance.core.durable import fsync_directory, write_durable

AlarmKind = Literal["fork", "rollback", "gap", "silence", "unknown-log", "bad-signature", "malformed"]
PASSING: tuple[AlarmKind, ...] = ("gap", "silence")
"""They end by themselves: when what was missing came, or when anything came."""


@dataclass(frozen=True)
class Alarm:
    """device, log: whose; log is the end of an origin. at: Unix seconds. evidence: a file beside it, or empty."""

    kind: AlarmKind
    device: str
    log: str
    text: str
    at: int
    evidence: str = ""

    def line(self) -> str:
        """Canonical JSON, newline included: what goes to standard output and to the alarm topic."""
        return canonical_json(asdict(self)).decode()

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.device}.{self.log}.{self.kind}.json"


class Alarms:
    """directory: made when it is not there."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def raise_alarm(self, alarm: Alarm, *, evidence: bytes = b"") -> Alarm | None:
        """Durable when it returns. None: it stands already, with its first evidence."""
        if (self._directory / alarm.name).exists():
            return None
        if evidence:
            name = alarm.name.replace(".json", ".evidence")
            write_durable(self._directory / name, evidence)
            alarm = Alarm(alarm.kind, alarm.device, alarm.log, alarm.text, alarm.at, name)
        write_durable(self._directory / alarm.name, alarm.line().encode())
        return alarm

    def end(self, kind: AlarmKind, device: str, log: str) -> bool:
        """Whether such an alarm stood."""
        path = self._directory / f"{device}.{log}.{kind}.json"
        if not path.exists():
            return False
        path.unlink()
        fsync_directory(self._directory)
        return True

    def standing(self) -> list[dict[str, Any]]:
        """All, by name."""
        return [msgspec.json.decode(path.read_bytes()) for path in sorted(self._directory.glob("*.json"))]
