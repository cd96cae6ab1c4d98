"""When a log cannot be continued: it is put aside, unchanged, and the next one says in its first entry where it ended.

Spec: docs/specs/audit-log.md (v2), section Succession. The new log has another origin: nobody can take it for the old.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from appliance.audit.damage import LogDamagedError
from appliance.audit.disk import Disk
from appliance.audit.journal import replay
from appliance.audit.public import Public, Signed
from appliance.core.errors import DecodeError
from appliance.formats.checkpoint import decode_checkpoint
from appliance.formats.signed_note import decode_note


@dataclass(frozen=True, slots=True)
class Predecessor:
    """The last checkpoint that is known of a log that was put aside; its signatures were not verified.

    aside: name of its directory now. signed: None when nothing readable was left.
    """

    aside: str
    signed: Signed | None


def put_aside(directory: Path, state: Path, *, disk: Disk | None = None) -> Predecessor:
    """Rename both to NAME.rejected-N, durably. After a power cut in between it may be called again. Raises OSError."""
    disk = disk or Disk()
    signed = last_known(directory, state, disk=disk)
    number = 1
    while any(disk.is_directory(path.with_name(f"{path.name}.rejected-{number}")) for path in (directory, state)):
        number += 1
    for path in (state, directory):  # the directory last: its checkpoint is what a second call finds
        if disk.is_directory(path):
            disk.rename(path, path.with_name(f"{path.name}.rejected-{number}"))
            disk.sync_directory(path.parent)
    return Predecessor(f"{directory.name}.rejected-{number}", signed)


def last_known(directory: Path, state: Path, *, disk: Disk | None = None) -> Signed | None:
    """The newest checkpoint that the journal or the public directory has, of whatever is readable there."""
    disk = disk or Disk()
    found = [*_of_journal(disk, state), *_of_directory(disk, directory, state)]
    return max(found, key=lambda signed: signed.size, default=None)


def _of_directory(disk: Disk, directory: Path, state: Path) -> list[Signed]:
    try:
        signed = Public(disk, directory, state).checkpoint()
    except LogDamagedError:
        return []
    return [signed] if signed is not None else []


def _of_journal(disk: Disk, state: Path) -> list[Signed]:
    try:
        found = replay(disk, state)
        notes = found[0].notes if found is not None else []
        return [Signed(decode_checkpoint(decode_note(note).text), note) for _, note in notes[-1:]]
    except (LogDamagedError, DecodeError):
        return []
