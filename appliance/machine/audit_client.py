"""How the other services reach the audit log's writer."""

from __future__ import annotations

import contextlib
import queue
import threading

from appliance.core.errors import EdgesealError
from appliance.formats.audit_event import (
    CATALOGUE,
    AuditEvent,
    EventResult,
    Recorded,
    decode_audit_answer,
    encode_event,
)
from appliance.machine.notify import say
from appliance.machine.packets import PacketClient

ANSWER_TIMEOUT_S = 30.0  # an emulated machine may need seconds for one fsync
POSTED_AT_MOST = 256  # events that wait in `post`
CLOSE_S = 10.0


class AuditClient:
    """Records events of one service."""

    def __init__(self, path: str, *, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        """timeout_s: for an answer. An event whose answer nobody waited for is recorded all the same."""
        self._path = path
        self._client = PacketClient(path, timeout_s=timeout_s)
        self._posted: queue.Queue[AuditEvent | None] = queue.Queue(POSTED_AT_MOST)
        self._poster: threading.Thread | None = None
        self._lost = 0

    def record(self, kind: str, result: EventResult = "success", **fields: str | int | bool) -> int:
        """Record an event; returns its index in the log once it is durable.

        A second attempt is made when the writer was restarted meanwhile, so an event may stand twice in the log.
        Raises EdgesealError when it was refused or the writer cannot be reached.
        """
        return _record(self._client, AuditEvent(kind=kind, result=result, fields=fields))

    def try_record(self, kind: str, result: EventResult = "success", **fields: str | int | bool) -> None:
        """Record an event; when that is not possible, say so in the journal and go on."""
        try:
            self.record(kind, result, **fields)
        except EdgesealError as error:
            say(f"<3>audit: {error}")

    def post(self, kind: str, result: EventResult = "success", **fields: str | int | bool) -> None:
        """Record an event without waiting for the writer: what is no security event may be said this way.

        At most POSTED_AT_MOST wait; what is over is counted, and told as `events-lost` when the writer answers again.
        Raises EdgesealError for a security event: who says one waits until it is durable.
        """
        if CATALOGUE[kind].security:
            raise EdgesealError(f"{kind} is a security event, it has to be waited for")
        if self._poster is None:
            self._poster = threading.Thread(target=self._post, name="audit", daemon=True)
            self._poster.start()
        try:
            self._posted.put_nowait(AuditEvent(kind=kind, result=result, fields=fields))
        except queue.Full:
            self._lost += 1

    def close(self) -> None:
        """Hang up, after what was posted and can be recorded within CLOSE_S."""
        if self._poster is not None:
            with contextlib.suppress(queue.Full):
                self._posted.put(None, timeout=CLOSE_S)
                self._poster.join(CLOSE_S)
            self._poster = None
        self._client.close()

    def _post(self) -> None:
        """A connection of its own: answers come in the order of the questions."""
        client = PacketClient(self._path, timeout_s=ANSWER_TIMEOUT_S)
        told = 0
        while (event := self._posted.get()) is not None:
            try:
                _record(client, event)
                if lost := self._lost - told:
                    fields: dict[str, str | int | bool] = {"count": lost, "reason": "the log's writer was slow or gone"}
                    _record(client, AuditEvent(kind="events-lost", result="failure", fields=fields))
                    told += lost
            except EdgesealError as error:
                self._lost += 1
                say(f"<3>audit: {error}")
        client.close()


def _record(client: PacketClient, event: AuditEvent) -> int:
    packet = encode_event(event)
    try:
        answer = decode_audit_answer(_ask_twice(client, packet))
    except OSError as error:
        raise EdgesealError(f"cannot record {event.kind}: the audit log is not reachable: {error}") from error
    if not isinstance(answer, Recorded):
        raise EdgesealError(f"cannot record {event.kind}: {answer.detail}")
    return answer.sequence


def _ask_twice(client: PacketClient, packet: bytes) -> bytes:
    try:
        return client.ask(packet)
    except ConnectionError:
        return client.ask(packet)
