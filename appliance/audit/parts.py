"""The log in parts for the uplink: which comes next, and how far it got. Spec: docs/specs/audit-log.md (v2), Parts.

A checkpoint is chosen, and all parts that lead up to it are sent before another one is: a receiver completes each. How
far it got is durable after each part that the uplink has kept, so a restart goes on there.
"""

from __future__ import annotations

from pathlib import Path

from appliance.audit.store import TileLog
from appliance.core.durable import write_durable
from appliance.core.errors import DecodeError, EdgesealError
from appliance.formats.audit_part import AuditPart, cost_of, room_for
from appliance.formats.audit_service_state import Progress, changed, decode_state, encode_state
from appliance.formats.merkle import consistency_proof

ENTRIES_AT_MOST = 512


class Parts:
    """Of one log. path: where the progress is kept. Damaged progress begins at the first entry again."""

    def __init__(self, path: Path, log: TileLog, device: str) -> None:
        self._path = path
        self._log = log
        self._device = device
        self._at = _stored(path)
        if self._at.origin != log.origin or self._at.size > log.size:
            self._at = Progress(origin=log.origin)

    @property
    def sent(self) -> int:
        """Entries below this one were kept by the uplink."""
        return self._at.start

    def next(self) -> AuditPart | None:
        """What to send now; None when all that is published was sent. Raises EdgesealError."""
        at, published = self._at, self._log.published
        if published is None:
            return None
        whole = at.start == at.size
        if whole or at.size <= self._log.minimum:  # its entries were given up before they could leave
            if published.size <= at.size:
                return None
            previous = at.size if whole else at.previous
            self._at = changed(at, previous=previous, size=published.size, note=published.note.decode())
        return self._part(max(at.start, self._log.minimum))

    def accepted(self, part: AuditPart) -> None:
        """The uplink has kept it. Of a log that was replaced meanwhile it says nothing. Raises OSError."""
        if part.origin != self._log.origin:
            return
        self._at = changed(self._at, start=part.end)
        write_durable(self._path, encode_state(self._at), mode=0o600)

    def _part(self, start: int) -> AuditPart:
        previous, size = self._at.previous, self._at.size
        proof = self._proof(previous, size)
        part = AuditPart(
            device=self._device,
            origin=self._log.origin,
            start=start,
            entries=(),
            size=size,
            checkpoint=self._at.note,
            consistency=proof,
            previous=previous if proof or previous == size else 0,
        )
        room, entries = room_for(part), []
        for entry in self._log.entries(start, min(size, start + ENTRIES_AT_MOST)):
            room -= cost_of(entry)
            if room < 0:
                break
            entries.append(entry)
        return changed(part, entries=tuple(entries))

    def _proof(self, previous: int, size: int) -> tuple[bytes, ...]:
        """Empty when what it needs was given up; the receiver then sees a gap."""
        try:
            return tuple(consistency_proof(previous, size, self._log.read_node)) if 0 < previous < size else ()
        except EdgesealError:
            return ()


def _stored(path: Path) -> Progress:
    try:
        return decode_state(path.read_bytes(), Progress)
    except (OSError, DecodeError):
        return Progress(origin="")
