"""How the other services reach the audit log's writer."""

from __future__ import annotations

from appliance.core.errors import EdgesealError
from appliance.formats.audit_event import AuditEvent, EventResult, Recorded, decode_audit_answer, encode_event
from appliance.machine.notify import say
from appliance.machine.packets import PacketClient

ANSWER_TIMEOUT_S = 30.0  # an emulated machine may need seconds for one fsync


class AuditClient:
    """Records events of one service."""

    def __init__(self, path: str) -> None:
        self._client = PacketClient(path, timeout_s=ANSWER_TIMEOUT_S)

    def record(self, kind: str, result: EventResult = "success", **fields: str | int | bool) -> int:
        """Record an event; returns its sequence number once it is durable.

        A second attempt is made when the writer was restarted meanwhile, so an event may stand twice in the log.
        Raises EdgesealError when it was refused or the writer cannot be reached.
        """
        packet = encode_event(AuditEvent(kind=kind, result=result, fields=fields))
        try:
            answer = decode_audit_answer(self._ask_twice(packet))
        except OSError as error:
            raise EdgesealError(f"cannot record {kind}: the audit log is not reachable: {error}") from error
        if not isinstance(answer, Recorded):
            raise EdgesealError(f"cannot record {kind}: {answer.detail}")
        return answer.sequence

    def try_record(self, kind: str, result: EventResult = "success", **fields: str | int | bool) -> None:
        """Record an event; when that is not possible, say so in the journal and go on."""
        try:
            self.record(kind, result, **fields)
        except EdgesealError as error:
            say(f"<3>audit: {error}")

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    def _ask_twice(self, packet: bytes) -> bytes:
        try:
            return self._client.ask(packet)
        except ConnectionError:
            return self._client.ask(packet)
