"""Hands parts of the log to the uplink, from a thread of its own: the writer never waits for it."""

from __future__ import annotations

import queue
import threading

from appliance.audit.parts import Parts
from appliance.core.clock import Moment
from appliance.core.errors import EdgesealError
from appliance.formats.audit_part import AuditPart
from appliance.formats.uplink_message import Accepted
from appliance.machine.notify import say
from appliance.machine.uplink_client import UplinkClient

EVERY_US = 5_000_000  # a checkpoint at most; what piled up goes at once, part after part
RETRY_US = 15_000_000


class Teller:
    """One part at a time. The log and the progress are touched by who calls `look` alone."""

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._waiting: queue.Queue[AuditPart | None] = queue.Queue(1)
        self._done: queue.Queue[tuple[AuditPart, str]] = queue.Queue()
        self._busy = False
        self._not_before_us = 0
        self._said = ""
        self._thread = threading.Thread(target=self._run, name="uplink", daemon=True)
        self._thread.start()

    def look(self, parts: Parts, now: Moment) -> None:
        """Take what was answered, and hand over the next part when it is time. Raises OSError."""
        while not self._done.empty():
            part, refused = self._done.get()
            self._busy = False
            self._take(parts, part, refused, now)
        if self._busy or now.monotonic_us < self._not_before_us:
            return
        following = self._next(parts, now)
        if following is not None:
            self._busy = True
            self._waiting.put(following)

    def _next(self, parts: Parts, now: Moment) -> AuditPart | None:
        try:
            return parts.next()
        except EdgesealError as error:  # a damaged tile: who reads the log has to see it, the writer goes on
            self._refused(f"it cannot be read: {error}", now)
            return None

    def stop(self, timeout_s: float) -> None:
        """What is on its way is sent again after the next start."""
        if not self._busy:
            self._waiting.put(None)
            self._thread.join(timeout_s)

    def _take(self, parts: Parts, part: AuditPart, refused: str, now: Moment) -> None:
        if refused:
            self._refused(refused, now)
            return
        self._said = ""
        parts.accepted(part)
        self._not_before_us = now.monotonic_us + (EVERY_US if part.is_last else 0)

    def _refused(self, reason: str, now: Moment) -> None:
        self._not_before_us = now.monotonic_us + RETRY_US
        if reason != self._said:
            say(f"<4>the uplink did not take a part of the log: {reason}")
        self._said = reason

    def _run(self) -> None:
        client = UplinkClient(self._socket)
        while (part := self._waiting.get()) is not None:
            try:
                answer = client.audit(part)
            except (OSError, EdgesealError) as error:
                self._done.put((part, str(error)))
                continue
            self._done.put((part, "" if isinstance(answer, Accepted) else answer.detail))
        client.close()
