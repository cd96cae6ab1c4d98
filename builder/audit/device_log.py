"""One device's log as a collector rebuilds it: parts come in, a durable, verified, cosigned directory comes out.

NAME/ has the layout of tlog-tiles. NAME.waiting/ has the parts whose checkpoint is not complete. A part is durable
before take() returns; after a kill at any instruction the next take(), or resume(), goes on from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.core.durable import fsync_directory, write_durable
from appliance.core.errors import EdgesealError, VerificationError
from appliance.formats.audit_part import AuditPart, decode_part, encode_part
from appliance.formats.checkpoint import Checkpoint, decode_checkpoint
from appliance.formats.merkle import EMPTY_ROOT, consistency_proof, root_hash
from appliance.formats.signed_note import VerifierKey, add_signatures, decode_note
from appliance.formats.tlog_tiles import CHECKPOINT_NAME
from builder.audit.alarms import AlarmKind
from builder.audit.directory import LogDirectory
from builder.audit.grow import Growth
from builder.audit.policy import Policy
from builder.audit.verify import open_checkpoint
from builder.audit.witness import Witness

MAX_WAITING = 4096
"""Parts of at most 48 KiB that wait for one before them."""
_NOBODY = Policy((), {}, {}, None)


@dataclass(frozen=True)
class Outcome:
    """What a part led to. grown: to this size, or None. alarm, text: what is wrong. complete: nothing waits."""

    grown: int | None = None
    alarm: AlarmKind | None = None
    text: str = ""
    complete: bool = True


class DeviceLog:
    """directory: of the log. keys: that may sign its checkpoints."""

    def __init__(self, directory: Path, origin: str, keys: Sequence[VerifierKey], witness: Witness) -> None:
        self.directory = directory
        self._waiting = directory.with_name(f"{directory.name}.waiting")
        self._origin, self._keys, self._witness = origin, keys, witness
        for path in (directory, self._waiting):
            path.mkdir(parents=True, exist_ok=True)
        fsync_directory(directory.parent)

    def known(self) -> Checkpoint:
        """The tree that is there; an empty one at first. Raises DecodeError when it is damaged."""
        path = self.directory / CHECKPOINT_NAME
        if not path.is_file():
            return Checkpoint(self._origin, 0, EMPTY_ROOT)
        return decode_checkpoint(decode_note(path.read_bytes()).text)

    def take(self, part: AuditPart, *, newest: bool, now: int) -> Outcome:
        """newest: the device sent it after everything that came before. now: Unix seconds."""
        try:
            checkpoint, _ = open_checkpoint(part.checkpoint.encode(), self._keys, _NOBODY)
        except EdgesealError as error:
            return Outcome(alarm="bad-signature", text=error.message)
        known = self.known()
        if checkpoint.size <= known.size:
            return self._old(checkpoint, known, newest=newest)
        self._keep(part)
        return self.resume(now=now)

    def resume(self, *, now: int) -> Outcome:
        """Complete what can be completed of the parts that wait."""
        grown = None
        while True:
            known, parts = self.known(), self._parts()
            entries = _run_from(known.size, parts)
            reached = known.size + len(entries)
            done = sorted({part.size for part in parts if known.size < part.size <= reached})
            if not done:
                break
            part = next(part for part in parts if part.size == done[0])
            if (fault := self._grow(known, part, entries[: part.size - known.size], now=now)) is not None:
                return fault
            grown = part.size
            self._forget(part.size)
        return self._still_waiting(known, parts, reached, grown)

    def _grow(self, known: Checkpoint, part: AuditPart, entries: list[bytes], *, now: int) -> Outcome | None:
        growth = Growth(LogDirectory(self.directory), known.size, entries)
        note = part.checkpoint.encode()
        checkpoint = decode_checkpoint(decode_note(note).text)
        if growth.root != checkpoint.root:
            self._forget(part.size, reject=part)
            text = f"entries {known.size} to {part.size} are not those of the checkpoint that the device signed"
            return Outcome(alarm="fork", text=text)
        try:
            seen = self._witness.known(self._origin)
            old = seen.size if seen else 0
            if old > growth.size:
                raise VerificationError(f"size {old} was cosigned before")
            proof = consistency_proof(old, growth.size, growth.nodes)
            line = self._witness.cosign(note, old, proof, now=now)
        except VerificationError as error:
            self._forget(part.size, reject=part)
            return Outcome(alarm="fork", text=f"the witness does not cosign size {growth.size}: {error.message}")
        growth.write()
        write_durable(self.directory / CHECKPOINT_NAME, add_signatures(note, [line]))
        growth.drop_old(known.size)
        return None

    def _old(self, checkpoint: Checkpoint, known: Checkpoint, *, newest: bool) -> Outcome:
        root = root_hash(checkpoint.size, LogDirectory(self.directory).nodes(known.size))
        if root != checkpoint.root:
            text = f"the device signed another tree of size {checkpoint.size}; {known.size} entries are known here"
            return Outcome(alarm="fork", text=text)
        if checkpoint.size < known.size and newest:
            text = f"the device is back at size {checkpoint.size}; {known.size} entries are known here"
            return Outcome(alarm="rollback", text=text)
        return Outcome(complete=not self._parts())

    def _still_waiting(self, known: Checkpoint, parts: list[AuditPart], reached: int, grown: int | None) -> Outcome:
        beyond = [part.start for part in parts if part.start > reached]
        if beyond:
            text = f"entries {reached} to {min(beyond)} did not come"
            return Outcome(grown, "gap", text, complete=False)
        return Outcome(grown, complete=not parts)

    def _keep(self, part: AuditPart) -> None:
        path = self._waiting / f"{part.start:016}-{part.size:016}-{len(part.entries):04}"
        if not path.exists() and len(list(self._waiting.iterdir())) < MAX_WAITING:
            write_durable(path, encode_part(part))

    def _parts(self) -> list[AuditPart]:
        """In order of start."""
        return [decode_part(path.read_bytes()) for path in sorted(self._waiting.iterdir()) if path.name[0].isdigit()]

    def _forget(self, size: int, *, reject: AuditPart | None = None) -> None:
        """Parts of checkpoints up to `size`. With `reject` only those of this one."""
        for path in sorted(self._waiting.iterdir()):
            if path.name[0].isdigit():
                part = decode_part(path.read_bytes())
                if (part.size <= size) if reject is None else (part.checkpoint == reject.checkpoint):
                    path.unlink()
        fsync_directory(self._waiting)


def _run_from(start: int, parts: Sequence[AuditPart]) -> list[bytes]:
    """The entries from `start` on without a hole. parts: in order of start."""
    found: list[bytes] = []
    for part in parts:
        reached = start + len(found)
        if part.start <= reached < part.end:
            found += part.entries[reached - part.start :]
    return found
