"""Tells the audit log, from a thread of its own: that log sends its parts through the uplink, and neither may wait for
the other.
"""

from __future__ import annotations

import queue
import threading

from appliance.formats.audit_event import EventResult
from appliance.machine.audit_client import AuditClient
from appliance.machine.notify import say

WAITING = 256  # events; beyond them the log's writer has stood still for long
STOP_S = 5.0

Fields = dict[str, str | int | bool]


class Teller:
    """once(): a state is told when it begins, and again only after forget()."""

    def __init__(self, client: AuditClient) -> None:
        self._client = client
        self._queue: queue.Queue[tuple[str, EventResult, Fields] | None] = queue.Queue(WAITING)
        self._told: set[tuple[object, ...]] = set()
        self._thread = threading.Thread(target=self._run, name="teller", daemon=True)
        self._thread.start()

    def tell(self, kind: str, result: EventResult = "success", **fields: str | int | bool) -> None:
        """Record an event soon."""
        cut = {name: value[:1024] if isinstance(value, str) else value for name, value in fields.items()}
        try:
            self._queue.put_nowait((kind, result, cut))
        except queue.Full:
            say(f"<3>audit: the log does not answer: {kind} was not recorded")

    def once(self, *key: object, kind: str, **fields: str | int | bool) -> None:
        """Record a failure, unless it was told under this key."""
        if key not in self._told:
            self._told.add(key)
            self.tell(kind, "failure", **fields)

    def was_told(self, *key: object) -> bool:
        """Whether once() told it, and forget() did not end it."""
        return key in self._told

    def forget(self, *topics: str) -> None:
        """The states whose keys begin so are over."""
        self._told = {told for told in self._told if told[0] not in topics}

    def stop(self) -> None:
        """Record what waits, within STOP_S."""
        try:
            self._queue.put(None, timeout=STOP_S)
        except queue.Full:
            return
        self._thread.join(STOP_S)

    def _run(self) -> None:
        while (event := self._queue.get()) is not None:
            self._client.try_record(event[0], event[1], **event[2])
