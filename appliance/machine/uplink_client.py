"""How the other services reach the uplink."""

from __future__ import annotations

from appliance.core.errors import EdgesealError
from appliance.formats.update_report import UpdateReport
from appliance.formats.uplink_message import (
    Accepted,
    AskStatus,
    PublishUpdateReport,
    PublishVerdict,
    Refused,
    Status,
    UplinkAnswer,
    UplinkRequest,
    decode_uplink_answer,
    encode_uplink_message,
)
from appliance.formats.verdict import Verdict
from appliance.machine.packets import PacketClient

ANSWER_TIMEOUT_S = 30.0


class UplinkClient:
    """One producer of messages."""

    def __init__(self, path: str) -> None:
        self._client = PacketClient(path, timeout_s=ANSWER_TIMEOUT_S)
        self._last_id = 0

    def publish(self, verdict: Verdict) -> Accepted | Refused:
        """Hand over a verdict; Accepted means that it is durable. Raises OSError: it may or may not have been kept."""
        return self._hand_over(PublishVerdict(id=self._next_id(), verdict=verdict))

    def report(self, report: UpdateReport) -> Accepted | Refused:
        """Hand over how an update ended; as `publish`."""
        return self._hand_over(PublishUpdateReport(id=self._next_id(), report=report))

    def status(self) -> Status:
        """Raises OSError when the uplink cannot be reached, EdgesealError when it refuses."""
        answer = self._ask(AskStatus(id=self._next_id()))
        if not isinstance(answer, Status):
            raise EdgesealError("the uplink did not tell its status")
        return answer

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    def _hand_over(self, message: PublishVerdict | PublishUpdateReport) -> Accepted | Refused:
        answer = self._ask(message)
        if isinstance(answer, Status):
            raise EdgesealError("the uplink answered a message with its status")
        return answer

    def _ask(self, request: UplinkRequest) -> UplinkAnswer:
        return decode_uplink_answer(self._client.ask(encode_uplink_message(request)))

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id
