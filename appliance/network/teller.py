"""Tells the audit log, from a thread of its own: a writer that is slow or gone never holds up the packet filter."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from appliance.formats.audit_event import EventResult
from appliance.machine.audit_client import AuditClient
from appliance.machine.notify import say

WAITING = 128
STOP_S = 20.0
DRIFT = {"ruleset-drift": True, "ruleset-restored": False}

Fields = dict[str, str | int | bool]


@dataclass(frozen=True)
class _Entry:
    kind: str
    result: EventResult
    fields: Fields


class Tells(Protocol):
    """Where events are told; a test has its own."""

    def tell(self, kind: str, result: EventResult = "success", **fields: str | int | bool) -> None:
        """Record an event soon."""


class Teller:
    """Entries are recorded in order; when more than WAITING wait, further ones are only said in the journal."""

    def __init__(self, audit: AuditClient, drift: Callable[[bool, str], None] | None = None) -> None:
        """drift: told when the live ruleset is another one (True) and when it is the sealed one again."""
        self._audit = audit
        self._drift = drift
        self._waiting: queue.Queue[_Entry | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._work, name="teller", daemon=True)
        self._thread.start()

    def tell(self, kind: str, result: EventResult = "success", **fields: str | int | bool) -> None:
        """Record an event soon."""
        try:
            self._waiting.put_nowait(_Entry(kind, result, fields))
        except queue.Full:
            say(f"<3>the audit log does not keep up, not recorded: {kind} {fields}")

    def stop(self) -> None:
        """Record what waits, then hang up; not longer than STOP_S."""
        try:
            self._waiting.put(None, timeout=STOP_S)
        except queue.Full:
            say("<3>the audit log does not answer: events are lost")
            return
        self._thread.join(STOP_S)

    def _work(self) -> None:
        while True:
            entry = self._waiting.get()
            if entry is None:
                self._audit.close()
                return
            self._audit.try_record(entry.kind, entry.result, **entry.fields)
            if self._drift is not None and entry.kind in DRIFT:
                self._drift(DRIFT[entry.kind], str(entry.fields.get("differences", "the sealed ruleset is in force")))
