"""The rules at the uplink's socket: who may say what, and what becomes of it."""

from __future__ import annotations

from appliance.core.errors import DecodeError
from appliance.formats.uplink_message import (
    MAX_PACKET,
    Accepted,
    AskStatus,
    PublishVerdict,
    RefusalReason,
    Refused,
    Status,
    UplinkAnswer,
    decode_uplink_request,
)
from appliance.formats.verdict import encode_verdict
from appliance.uplink.outbox import Outbox


class Desk:
    """Takes requests. device: whose verdicts may leave. publishers: uids that may hand in verdicts, and nothing else.

    readers: uids that may ask for the status.
    """

    def __init__(self, outbox: Outbox, *, device: str, publishers: frozenset[int], readers: frozenset[int]) -> None:
        self._outbox = outbox
        self._device = device
        self._publishers = publishers
        self._readers = readers
        self.connected = False
        self.accepted = 0
        self.acknowledged = 0
        self.refused = 0

    def take(self, uid: int, data: bytes) -> UplinkAnswer:
        """Carry out one request. An Accepted may be sent only after the outbox was committed."""
        if len(data) > MAX_PACKET:
            return self._refuse(0, "too-large", f"a message has at most {MAX_PACKET} bytes")
        try:
            request = decode_uplink_request(data)
        except DecodeError as error:
            return self._refuse(0, "malformed", error.message)
        if isinstance(request, AskStatus):
            return self._status(uid, request)
        return self._publish(uid, request)

    def _publish(self, uid: int, request: PublishVerdict) -> Accepted | Refused:
        if uid not in self._publishers:
            return self._refuse(request.id, "not-allowed", f"uid {uid} may not publish verdicts")
        if request.verdict.device != self._device:
            return self._refuse(request.id, "not-allowed", "the verdict names another device")
        sequence = self._outbox.add(encode_verdict(request.verdict))
        if sequence is None:
            return self._refuse(request.id, "full", f"the spool holds {self._outbox.used} bytes")
        self.accepted += 1
        return Accepted(id=request.id, sequence=sequence)

    def _status(self, uid: int, request: AskStatus) -> Status | Refused:
        if uid not in self._readers:
            return self._refuse(request.id, "not-allowed", f"uid {uid} may not ask for the status")
        return Status(
            id=request.id,
            connected=self.connected,
            spooled=self._outbox.rows,
            spooled_bytes=self._outbox.used,
            accepted=self.accepted,
            acknowledged=self.acknowledged,
            refused=self.refused,
        )

    def _refuse(self, request_id: int, reason: RefusalReason, detail: str) -> Refused:
        self.refused += 1
        return Refused(id=request_id, reason=reason, detail=detail)
