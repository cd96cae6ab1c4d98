"""What a log that cannot be continued says about itself."""

from __future__ import annotations

from appliance.core.errors import VerificationError


class LogDamagedError(VerificationError):
    """A file of the log is not what the others say. file: below the log's or the state's directory.

    index: the first entry that is concerned, None where no single one is.
    """

    def __init__(self, file: str, reason: str, *, index: int | None = None) -> None:
        super().__init__(f"audit log: {file}: {reason}")
        self.file = file
        self.reason = reason
        self.index = index


class LogRolledBackError(VerificationError):
    """The log is smaller than something outside of it remembers. floor, size: entries."""

    def __init__(self, floor: int, size: int) -> None:
        super().__init__(f"audit log: {size} entries, but {floor} were signed: an old copy was put back")
        self.floor = floor
        self.size = size
