"""The rules at the uplink's socket: who may say what, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from appliance.core.clock import Moment
from appliance.core.errors import DecodeError
from appliance.formats.uplink_message import (
    KINDS,
    MAX_PACKET,
    Accepted,
    AskStatus,
    PublishRequest,
    RefusalReason,
    Refused,
    Status,
    UplinkAnswer,
    body_of,
    decode_uplink_request,
    encode_body,
)
from appliance.uplink.keeping import Keeper
from appliance.uplink.outbox import Outbox
from appliance.uplink.ranges import RangeSet
from appliance.uplink.spooled import Stream


class Desk:
    """Takes requests. refusals: since start, by reason. accepted: since start, by kind."""

    def __init__(
        self,
        outbox: Outbox,
        keeper: Keeper,
        *,
        device: str,
        senders: Mapping[str, frozenset[int]],
        readers: frozenset[int],
        flying: Callable[[Stream], RangeSet],
        status: Callable[[int], Status],
    ) -> None:
        """device: whose messages may leave. senders: user numbers that may hand in a kind; readers: ask for the status.

        flying: messages that are on the wire, which are not dropped. status(id): the answer to that question.
        """
        self._outbox = outbox
        self._keeper = keeper
        self._device = device
        self._senders = senders
        self._readers = readers
        self._flying = flying
        self._status = status
        self.accepted = dict.fromkeys(KINDS, 0)
        self._taken: dict[str, int] = {}
        self.refusals: dict[RefusalReason, int] = {}

    def take(self, uid: int, data: bytes, moment: Moment) -> UplinkAnswer:
        """Carry out one request. An Accepted may be sent only after the outbox was committed."""
        if len(data) > MAX_PACKET:
            return self.refuse(0, "too-large", f"a message has at most {MAX_PACKET} bytes")
        try:
            request = decode_uplink_request(data)
        except DecodeError as error:
            return self.refuse(0, "malformed", error.message)
        if isinstance(request, AskStatus):
            if uid not in self._readers:
                return self.refuse(request.id, "not-allowed", f"uid {uid} may not ask for the status")
            return self._status(request.id)
        return self._publish(uid, request, moment)

    def refuse(self, request_id: int, reason: RefusalReason, detail: str) -> Refused:
        """A refusal, counted."""
        self.refusals[reason] = self.refusals.get(reason, 0) + 1
        return Refused(id=request_id, reason=reason, detail=detail)

    def withdraw(self, answer: Accepted, reason: RefusalReason, detail: str) -> Refused:
        """The commit failed: what take() accepted was not kept."""
        self._taken.clear()
        return self.refuse(answer.id, reason, detail)

    def committed(self) -> None:
        """What take() accepted is durable."""
        for kind, count in self._taken.items():
            self.accepted[kind] += count
        self._taken.clear()

    def turn_away(self, data: bytes, reason: RefusalReason, detail: str) -> Refused:
        """Refuse a request without carrying it out."""
        try:
            return self.refuse(decode_uplink_request(data).id, reason, detail)
        except DecodeError as error:
            return self.refuse(0, "malformed", error.message)

    def _publish(self, uid: int, request: PublishRequest, moment: Moment) -> Accepted | Refused:
        name, body = body_of(request)
        kind = KINDS[name]
        if uid not in self._senders[name]:
            return self.refuse(request.id, "not-allowed", f"uid {uid} may not send {kind.what}")
        if body.device != self._device:
            return self.refuse(request.id, "not-allowed", f"the {name} names another device")
        data = encode_body(body)
        if len(data) > kind.limit:
            return self.refuse(request.id, "too-large", f"{name}: {len(data)} bytes, at most {kind.limit} are allowed")
        if not self._keeper.fits(kind.stream, len(data)) and not self._keeper.make_room(
            kind.stream, len(data), self._flying(kind.stream)
        ):
            used = self._outbox.counts(kind.stream).bytes
            return self.refuse(request.id, "full", f"the stream {kind.stream} holds {used} bytes")
        self._taken[name] = self._taken.get(name, 0) + 1
        return Accepted(id=request.id, stream=kind.stream, sequence=self._outbox.add(kind.stream, name, data, moment))
