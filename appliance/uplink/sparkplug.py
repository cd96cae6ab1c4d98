"""Sparkplug B 3.0 as the uplink's dialect: this device is one edge node, its messages are metrics of NDATA.

Alarms, verdicts, update reports and gap records are metrics (appliance.formats.sparkplug_metrics). What is no metric,
the parts of the audit log above all, travels by the JSON dialect beside it, on topics of its own.
"""

from __future__ import annotations

from appliance.core.clock import Clock
from appliance.core.errors import DecodeError
from appliance.formats.sparkplug import (
    REBIRTH,
    SEQUENCES,
    HostState,
    Metric,
    NodeMessage,
    Payload,
    Value,
    decode_host_state,
    node_topic,
    state_topic,
)
from appliance.formats.sparkplug_metrics import BDSEQ_METRIC, body_values
from appliance.uplink.dialect import Dialect, HangUp, Publish, Reaction, Say, Sending
from appliance.uplink.sparkplug_births import BirthCounter
from appliance.uplink.sparkplug_content import acquired_ms, birth_metrics, identity_values
from appliance.uplink.sparkplug_payload import decode_payload, encode_payload
from appliance.uplink.spooled import Spooled

REBIRTH_BURST = 5  # then one a second: a birth is fifty times as large as the command that asks for it
_US = 1_000_000


class SparkplugDialect:
    """See the module. One session of Sparkplug lasts from opened() to closing() or the end of the connection.

    will() and unsent() may be called in another thread than the rest, as the transport does.
    """

    def __init__(
        self,
        *,
        json: Dialect,
        group: str,
        device: str,
        epoch: str,
        primary_host: str,
        births: BirthCounter,
        clock: Clock,
        walks: bool,
    ) -> None:
        """device: the edge node's id. primary_host: nothing is said before it is online; empty for none.

        walks: there are several brokers, so that a host that is offline here may be online at the next one.
        """
        self._json = json
        self._node = (group, device)
        self._epoch = epoch
        self._primary = primary_host
        self._state_topic = state_topic(primary_host) if primary_host else None
        self._command_topic = self._topic("NCMD")
        self._births = births
        self._clock = clock
        self._walks = walks
        self._broker = ""
        self._hosts: dict[str, HostState] = {}  # by broker, as the host counts its timestamps
        self._born = False
        self._since = clock()
        self._seq = 0
        self._current: dict[int, tuple[Value, int]] = {}
        self._rebirth_due_us = 0

    def will(self) -> Publish:
        """NDEATH with the next bdSeq, which is durable when this returns. Raises OSError."""
        return self._death(self._births.take())

    def unsent(self) -> None:
        """The number of that will was in no CONNECT: the next one has it."""
        self._births.unused()

    def subscriptions(self) -> tuple[str, ...]:
        """Our commands, the primary host's state, and what the JSON dialect wants."""
        state = () if self._state_topic is None else (self._state_topic,)
        return (self._command_topic, *state, *self._json.subscriptions())

    def opened(self, broker: str = "") -> tuple[Publish, ...]:
        """The birth, or nothing until the primary host has said on this connection that it is online."""
        self._born = False
        self._broker = broker
        return () if self._primary else (self._birth(),)

    def closing(self) -> tuple[Publish, ...]:
        """NDEATH, if there was a birth."""
        if not self._born or self._births.current is None:
            return ()
        self._born = False
        return (self._death(self._births.current),)

    @property
    def holds(self) -> bool:
        """True before the birth, and from the moment when the primary host goes offline."""
        state = self._hosts.get(self._broker)
        return not self._born or (state is not None and not state.online)

    def heard(self, topic: str, payload: bytes) -> tuple[Reaction, ...]:
        """The host's state, a command, or something for the JSON dialect. Never raises."""
        try:
            if topic == self._state_topic:
                return self._host_said(decode_host_state(payload))
            if topic == self._command_topic:
                return self._commanded(decode_payload(payload))
        except DecodeError:
            return ()
        return self._json.heard(topic, payload)

    def encode(self, message: Spooled, sending: Sending) -> Publish:
        """One NDATA with QoS 0, which takes the next seq: it must be sent, and in the order of these calls."""
        body = body_values(message.kind, message.body)
        if body is None:
            return self._json.encode(message, sending)
        now = self._clock()
        timestamp = acquired_ms(message, sending, now)
        historical = self._historical(message, sending)
        if not historical:
            self._current.update((metric.alias, (value, timestamp)) for metric, value in body)
        metrics = tuple(
            Metric(alias=metric.alias, timestamp=timestamp, value=value, historical=historical)
            for metric, value in (*identity_values(message, sending, self._epoch), *body)
        )
        self._seq = (self._seq + 1) % SEQUENCES
        return self._publish("NDATA", Payload(now.wall_us // 1000, self._seq, metrics))

    def encode_batch(self, messages: tuple[Spooled, ...], sending: Sending) -> None:
        """None: each NDATA has one message, so that a lost one takes no other with it."""

    def _historical(self, message: Spooled, sending: Sending) -> bool:
        """True for what was accepted before the birth: a host must not take it for the state of now.

        Never for the alarm lane: an alarm that came up while nobody listened is to be acted on all the same.
        """
        if sending.lane != "live":
            return sending.lane == "backlog"
        return message.boot_id != self._since.boot_id or message.monotonic_us < self._since.monotonic_us

    def _host_said(self, state: HostState) -> tuple[Reaction, ...]:
        """A state older than the last one of this broker came late: it says nothing about now."""
        known = self._hosts.get(self._broker)
        if known is not None and state.timestamp < known.timestamp:
            return ()
        self._hosts[self._broker] = state
        if state.online:
            return () if self._born else (Say(self._birth()),)
        if self._born or self._walks:
            return (HangUp(f"the primary host {self._primary} is offline"),)
        return ()

    def _commanded(self, command: Payload) -> tuple[Reaction, ...]:
        """Node Control/Rebirth is the one metric that can be written."""
        asked = any(metric.name == REBIRTH and metric.value is True for metric in command.metrics)
        return (Say(self._birth()),) if asked and not self.holds and self._may_be_reborn() else ()

    def _may_be_reborn(self) -> bool:
        """REBIRTH_BURST at once, then one a second."""
        now_us = self._clock().monotonic_us
        due_us = max(self._rebirth_due_us, now_us - (REBIRTH_BURST - 1) * _US)
        if due_us > now_us:
            return False
        self._rebirth_due_us = due_us + _US
        return True

    def _birth(self) -> Publish:
        now = self._clock()
        if not self._born:
            self._since = now
        self._born, self._seq = True, 0
        now_ms = now.wall_us // 1000
        metrics = birth_metrics(self._births.current or 0, self._current, now_ms)
        return self._publish("NBIRTH", Payload(now_ms, 0, metrics))

    def _death(self, bdseq: int) -> Publish:
        now_ms = self._clock().wall_us // 1000
        metric = Metric(BDSEQ_METRIC.name, None, now_ms, BDSEQ_METRIC.datatype, bdseq)
        death = self._publish("NDEATH", Payload(now_ms, None, (metric,)))
        return Publish(death.topic, death.payload, qos=1, content_type="")

    def _publish(self, message: NodeMessage, payload: Payload) -> Publish:
        return Publish(self._topic(message), encode_payload(payload), qos=0, content_type="")

    def _topic(self, message: NodeMessage) -> str:
        group, node = self._node
        return node_topic(group, message, node)
