"""The rules at the uplink's socket: who may say what, and what becomes of it."""

from __future__ import annotations

from appliance.core.errors import DecodeError
from appliance.formats.update_report import encode_update_report
from appliance.formats.uplink_message import (
    MAX_PACKET,
    Accepted,
    AskStatus,
    PublishUpdateReport,
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
    """Takes requests. device: whose messages may leave. Uids, each for one thing: publishers may hand in verdicts,
    reporters how an update ended, readers may ask for the status.
    """

    def __init__(
        self,
        outbox: Outbox,
        *,
        device: str,
        publishers: frozenset[int],
        reporters: frozenset[int],
        readers: frozenset[int],
    ) -> None:
        self._outbox = outbox
        self._device = device
        self._publishers = publishers
        self._reporters = reporters
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
        if isinstance(request, PublishUpdateReport):
            return self._report(uid, request)
        return self._publish(uid, request)

    def _publish(self, uid: int, request: PublishVerdict) -> Accepted | Refused:
        if uid not in self._publishers:
            return self._refuse(request.id, "not-allowed", f"uid {uid} may not publish verdicts")
        if request.verdict.device != self._device:
            return self._refuse(request.id, "not-allowed", "the verdict names another device")
        answer = self._spool(request.id, "verdict", encode_verdict(request.verdict))
        self.accepted += isinstance(answer, Accepted)
        return answer

    def _report(self, uid: int, request: PublishUpdateReport) -> Accepted | Refused:
        if uid not in self._reporters:
            return self._refuse(request.id, "not-allowed", f"uid {uid} may not report updates")
        if request.report.device != self._device:
            return self._refuse(request.id, "not-allowed", "the report names another device")
        return self._spool(request.id, "update", encode_update_report(request.report))

    def _spool(self, request_id: int, kind: str, payload: bytes) -> Accepted | Refused:
        sequence = self._outbox.add(payload, kind=kind)
        if sequence is None:
            return self._refuse(request_id, "full", f"the spool holds {self._outbox.used} bytes")
        return Accepted(id=request_id, sequence=sequence)

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
