"""Finds the log of this device, or begins a new one that commits to what was there. See docs/adr/0029.

A log is continued under its name only while everything says that it is the newest: it reads, its keys are there, the
TPM has not counted further. Otherwise the same size could be signed twice with different content, and a witness could
not tell an accident from an attack. What was there is put aside whole, and nothing is signed in its name any more.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from appliance.audit.anchor import Found
from appliance.audit.keyring import Keyring, make_keyring, open_keyring
from appliance.audit.store import TileLog
from appliance.audit.succession import last_known, put_aside
from appliance.core.clock import Moment
from appliance.core.errors import EdgesealError
from appliance.formats.audit_event import AuditEvent
from appliance.formats.audit_log import LogEntry, decode_entry

TAIL_BYTES = 64 << 10
MAX_TEXT = 1024


@dataclass(frozen=True)
class Places:
    """Of one device; a test has its own. v1: the log of the version before, which an old slot still writes."""

    log: Path = Path("/var/lib/edgeseal-audit/tlog")
    state: Path = Path("/var/lib/edgeseal-audit/state")
    v1: Path = Path("/var/lib/edgeseal-audit/log")

    @property
    def store(self) -> Path:
        """What the store keeps for itself."""
        return self.state / "store"


@dataclass(frozen=True)
class Opened:
    """newest: the last entry, None in a new log. began: of a new log. findings: what has to be told first."""

    log: TileLog
    keys: Keyring
    newest: LogEntry | None
    began: AuditEvent | None
    findings: list[AuditEvent] = field(default_factory=list)

    @property
    def ending(self) -> str:
        """How the writer before this one ended, for `log-opened`."""
        if self.newest is None:
            return "never, this log is new"
        return "cleanly" if self.newest.event.kind == "log-closed" else "unclean"

    def boot(self, now: Moment) -> int:
        """Number of this boot in the log."""
        if self.newest is None:
            return 1
        return self.newest.boot + (self.newest.boot_id != now.boot_id)


def open_log(places: Places, device: str, now: Moment, found: Found | None) -> Opened:
    """device: the site's name of it. found: what the TPM says, None when nothing. Raises EdgesealError, OSError."""
    places.state.mkdir(mode=0o700, exist_ok=True)
    prefix = f"edgeseal.audit/{device}"
    try:
        log, keys = _continue(places)
    except _NoLogError as reason:
        return _begin(places, prefix, now, str(reason), [])
    except EdgesealError as error:
        return _replace(places, prefix, now, str(error))
    if found is not None and found.verdict in ("older", "strange"):
        log.close()
        return _rolled_back(places, prefix, now, found, keys.origin)
    if keys.origin.rpartition("/")[0] != prefix:
        log.close()
        return _replace(places, prefix, now, f"the device is called {device} now")
    return Opened(log, keys, _newest(log), None)


class _NoLogError(Exception):
    """There is no log."""


def _continue(places: Places) -> tuple[TileLog, Keyring]:
    keys = open_keyring(places.state)
    if not places.log.exists():
        raise _NoLogError("there was none" if keys is None else "the log before it is gone")
    if keys is None:
        raise EdgesealError("its keys are gone")
    log = TileLog.open(places.log, places.store)
    try:
        if log.size == 0:
            keys.recover(lambda _index: None)
        else:
            keys.recover(lambda index: _announced(log, index))
    except BaseException:
        log.close()
        raise
    return log, keys


def _announced(log: TileLog, index: int) -> str | None:
    if not log.minimum <= index < log.size:
        return None
    event = decode_entry(log.entry(index), index=index).event
    return str(event.fields["vkey"]) if event.kind == "epoch-began" else None


def _newest(log: TileLog) -> LogEntry | None:
    return decode_entry(log.entry(log.size - 1), index=log.size - 1) if log.size else None


def _rolled_back(places: Places, prefix: str, now: Moment, found: Found, origin: str) -> Opened:
    event = AuditEvent(
        kind="log-rolled-back",
        result="failure",
        fields={"origin": origin, "count": found.count or 0, "known": found.known or 0},
    )
    reason = "the disk is older than the TPM" if found.verdict == "older" else "the TPM is another one, or was cleared"
    put_aside(places.log, places.store)
    return _begin(places, prefix, now, reason, [event])


def _replace(places: Places, prefix: str, now: Moment, reason: str) -> Opened:
    aside = put_aside(places.log, places.store).aside
    event = AuditEvent(kind="log-replaced", result="failure", fields={"file": aside, "reason": reason[:MAX_TEXT]})
    return _begin(places, prefix, now, reason, [event])


def _begin(places: Places, prefix: str, now: Moment, reason: str, findings: list[AuditEvent]) -> Opened:
    """New keys, a new name, an empty log. A cut in here is found as a log that is gone, and this is done again."""
    previous = _last_checkpoint(places)
    if places.store.exists():
        shutil.rmtree(places.store)
    keys = make_keyring(places.state, prefix, now)
    log = TileLog.create(places.log, places.store, keys.origin)
    began = AuditEvent(
        kind="log-began",
        result="success",
        fields={
            "origin": keys.origin,
            "vkey": keys.vkeys[0],
            "previous": previous,
            "old_log": last_v1_digest(places.v1),
            "reason": reason[:MAX_TEXT],
        },
    )
    return Opened(log, keys, None, began, findings)


def asides(log: Path) -> list[Path]:
    """What was put aside, oldest first."""
    found = log.parent.glob(f"{log.name}.rejected-*")
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def last_v1_digest(path: Path) -> str:
    """SHA-256 of the last whole line of the version 1 log, newline included; empty without one."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            tail = file.read(TAIL_BYTES)
    except OSError:
        return ""
    lines = tail[: tail.rfind(b"\n") + 1].splitlines(keepends=True)
    return hashlib.sha256(lines[-1]).hexdigest() if lines else ""


def _last_checkpoint(places: Places) -> str:
    """The last known note of the newest log that was put aside, as it stands; empty when there is none."""
    for log in reversed(asides(places.log)):
        store = places.store.with_name(f"{places.store.name}{log.name.removeprefix(places.log.name)}")
        signed = last_known(log, store)
        if signed is not None:
            text = signed.note.decode()
            return text if len(text) <= MAX_TEXT else ""
    return ""
