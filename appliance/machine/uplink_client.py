"""How the other services reach the uplink."""

from __future__ import annotations

from appliance.core.clock import Moment
from appliance.core.errors import EdgesealError
from appliance.formats.alarm import Alarm
from appliance.formats.audit_part import AuditPart
from appliance.formats.update_report import UpdateReport
from appliance.formats.uplink_message import (
    Accepted,
    AskStatus,
    PublishAlarm,
    PublishAuditPart,
    PublishRequest,
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
from appliance.machine.notify import say
from appliance.machine.packets import PacketClient

ANSWER_TIMEOUT_S = 30.0
ALARM_TIMEOUT_S = 2.0


class UplinkClient:
    """One producer of messages."""

    def __init__(self, path: str, *, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self._client = PacketClient(path, timeout_s=timeout_s)
        self._last_id = 0

    def publish(self, verdict: Verdict) -> Accepted | Refused:
        """Hand over a verdict; Accepted means that it is durable. Raises OSError: it may or may not have been kept."""
        return self._hand_over(PublishVerdict(id=self._next_id(), verdict=verdict))

    def report(self, report: UpdateReport) -> Accepted | Refused:
        """Hand over how an update ended; as `publish`."""
        return self._hand_over(PublishUpdateReport(id=self._next_id(), report=report))

    def alarm(self, alarm: Alarm) -> Accepted | Refused:
        """Hand over an alarm; as `publish`."""
        return self._hand_over(PublishAlarm(id=self._next_id(), alarm=alarm))

    def audit(self, part: AuditPart) -> Accepted | Refused:
        """Hand over a part of the audit log; as `publish`."""
        return self._hand_over(PublishAuditPart(id=self._next_id(), part=part))

    def status(self) -> Status:
        """Raises OSError when the uplink cannot be reached, EdgesealError when it refuses."""
        answer = self._ask(AskStatus(id=self._next_id()))
        if not isinstance(answer, Status):
            raise EdgesealError("the uplink did not tell its status")
        return answer

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    def _hand_over(self, message: PublishRequest) -> Accepted | Refused:
        answer = self._ask(message)
        if isinstance(answer, Status):
            raise EdgesealError("the uplink answered a message with its status")
        return answer

    def _ask(self, request: UplinkRequest) -> UplinkAnswer:
        return decode_uplink_answer(self._client.ask(encode_uplink_message(request)))

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id


class AlarmBell:
    """Raises and clears alarms of one service, best effort: whoever raises one has other work to do.

    An alarm is handed over when its state changes. One that the uplink did not take is tried again by the next set().
    """

    def __init__(self, path: str, device: str) -> None:
        self._client = UplinkClient(path, timeout_s=ALARM_TIMEOUT_S)
        self._device = device
        self._active: dict[str, bool] = {}
        self._said: set[str] = set()

    def set(self, name: str, active: bool, text: str, moment: Moment) -> None:
        """The state `name` begins or ends. A state that never began does not end. Raises nothing."""
        if self._active.get(name, False) == active:
            return
        refused = self._ring(
            Alarm(
                device=self._device,
                boot_id=moment.boot_id,
                name=name,
                active=active,
                text=text[:256] or "no reason is known",
                monotonic_us=moment.monotonic_us,
            )
        )
        if refused is None:
            self._active[name] = active
            self._said.discard(name)
        elif name not in self._said:
            self._said.add(name)
            say(f"<4>alarm {name}: the uplink did not take it: {refused}")

    def _ring(self, alarm: Alarm) -> str | None:
        """Why it was not taken."""
        try:
            answer = self._client.alarm(alarm)
        except (OSError, EdgesealError) as error:
            return str(error)
        return answer.detail if isinstance(answer, Refused) else None
