"""The directory with a repository's accepted metadata. Every write in it is durable; equal bytes are not written again.

Layout (docs/specs/repository.md): root_history/N.root.json, root.json (a copy of the newest), timestamp.json,
snapshot.json, targets.json, ROLE.json with the role's name percent-encoded. One process owns it.
"""

from __future__ import annotations

from pathlib import Path

from appliance.core.durable import fsync_directory, write_durable
from appliance.core.errors import EdgesealError

ROOT_HISTORY = "root_history"


class MetadataStore:
    """The store at `directory`, made if need be. Raises EdgesealError when the disk does not let it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        history = directory / ROOT_HISTORY
        try:
            history.mkdir(parents=True, exist_ok=True)
            fsync_directory(directory.parent)
            fsync_directory(directory)
            for place in (directory, history):
                for litter in place.glob(".*"):  # a temporary file of write_durable that a power cut left
                    litter.unlink()
        except OSError as error:
            raise EdgesealError(f"{directory}: cannot be used: {_reason(error)}") from error

    def read(self, name: str) -> bytes | None:
        """What is stored, or None when nothing is, or nothing that can be read: then it is fetched again."""
        try:
            return (self.directory / name).read_bytes()
        except OSError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Store `data` durably. Raises EdgesealError."""
        if self.read(name) == data:
            return
        try:
            write_durable(self.directory / name, data)
        except OSError as error:
            raise EdgesealError(f"{self.directory / name}: cannot be stored: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
