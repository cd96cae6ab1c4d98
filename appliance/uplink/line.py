"""The way out: transport, dialect and what is in flight, as one thing for the service's thread."""

from __future__ import annotations

import collections
import contextlib
import socket
import threading
from pathlib import Path

from appliance.core.clock import Clock, Moment
from appliance.core.errors import EdgesealError
from appliance.formats.device import UplinkConfig
from appliance.formats.uplink_envelope import CERTIFICATE_REQUEST_LEVEL, topic_of
from appliance.machine.notify import say
from appliance.uplink.courier import Courier
from appliance.uplink.dialect import Dialect, HangUp, Publish, Reaction, Receipt, Renewed, Say
from appliance.uplink.dialects import make_dialect
from appliance.uplink.events import Acknowledged, Connected, Heard, Lost, Rejected, Sent, TransportEvent
from appliance.uplink.lanes import Lanes
from appliance.uplink.outbox import Outbox
from appliance.uplink.renewal import Notice, Renewer, Us
from appliance.uplink.site import Site
from appliance.uplink.takeover import AT_ONCE
from appliance.uplink.teller import Teller
from appliance.uplink.tls import Identity
from appliance.uplink.transport import Link, Opening, Transport

PATIENCE_US = 600_000_000
ASK_EVERY_US = 1_000_000  # it reads files


class Line:
    """connects: connections since start; connected_us: monotonic time of the last, 0 for none; broker: of the last."""

    def __init__(
        self,
        site: Site,
        config: UplinkConfig,
        outbox: Outbox,
        teller: Teller,
        clock: Clock,
        directory: Path,
        *,
        first_pause_s: float,
    ) -> None:
        """directory: where the service keeps things."""
        self._site = site
        self._config = config
        self._outbox = outbox
        self._teller = teller
        self._clock = clock
        self._directory = directory
        self._dialect = self._make_dialect()
        us = Us(site.device, site.ca, Identity(site.certificate, site.key), config.renew_percent)
        self._renewer = Renewer(directory / "identity", us, self._notice)
        self._speaking = threading.Lock()  # the transport's thread asks for the will
        shares = {"live": config.data.share, "backlog": config.data.backlog_share, "audit": config.audit.share}
        self.lanes = Lanes(shares)  # type: ignore[arg-type]
        receipt_us = config.receipt_s * 1_000_000 if config.delivery == "historian" else None
        self.courier = Courier(outbox, self.lanes, self._publish, receipt_us=receipt_us)
        self.connects = self.connected_us = self._connection = self._asked_us = 0
        self.broker = ""
        self._events: collections.deque[TransportEvent] = collections.deque()
        self._awake = False
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        link = Link(
            device=site.device,
            ca=site.ca,
            keepalive_s=config.keepalive_s,
            return_s=config.return_s,
            pause_s=first_pause_s,
        )
        self._transport = Transport(site.brokers, self._report, link=link, begin=self._begin, clock=clock)

    @property
    def connected(self) -> bool:
        """The broker accepted us."""
        return self.lanes.connected

    @property
    def alive(self) -> bool:
        """False once the transport's thread has ended by itself."""
        return self._transport.alive

    @property
    def has_room(self) -> bool:
        """Whether more of an old backlog could be sent."""
        return self.connected and not self._dialect.holds and self.lanes.waiting("backlog").count < AT_ONCE

    def fileno(self) -> int:
        """Readable when there are events."""
        return self._wake_reader.fileno()

    def drain(self) -> None:
        """Empty the descriptor; take_events() must follow."""
        with contextlib.suppress(BlockingIOError):
            self._wake_reader.recv(4096)
        self._awake = False  # before the events are read: what comes now wakes us again

    def start(self) -> None:
        """Begin to connect."""
        self._transport.start()

    def stop(self) -> None:
        """Say goodbye."""
        self._say(self._dialect.closing() if self.connected else ())
        self._transport.stop()

    def fill(self, moment: Moment) -> None:
        """Send all that may be in flight. Raises SpoolDamagedError, SpoolUnwritableError."""
        self._ask_for_certificate(moment)
        with self._speaking:
            if self.courier.fill(self._dialect, moment):
                self._transport.flush()

    def renew(self) -> None:
        """The spool has a new epoch: nothing that is in flight is of it."""
        with self._speaking:
            self._say(self._dialect.closing() if self.connected else ())
            self._dialect = self._make_dialect()
        if self.connected:
            self._hang_up("the spool was replaced")
        self.courier.replaced()

    def take_events(self, moment: Moment) -> None:
        """What the transport reported since the last call. Raises SpoolDamagedError, SpoolUnwritableError."""
        while self._events:
            event = self._events.popleft()
            if isinstance(event, Connected):
                self._connected(event, moment)
            elif isinstance(event, Lost):
                self._lost(event)
            elif event.connection != self._connection or not self.connected:
                continue
            elif isinstance(event, Acknowledged | Sent):
                self.courier.acknowledged(event.token, moment)
            elif isinstance(event, Rejected):
                self._rejected(event, moment)
            elif isinstance(event, Heard):
                with self._speaking:
                    reactions = self._dialect.heard(event.topic, event.payload)
                for reaction in reactions:
                    self._react(reaction, moment)

    def _connected(self, event: Connected, moment: Moment) -> None:
        self._connection, self.broker = event.connection, event.broker
        self.connects += 1
        self.connected_us = moment.monotonic_us
        self.courier.opened(min(event.receive_maximum, self._config.receive_maximum), event.maximum_packet_size)
        with self._speaking:
            self._say(self._dialect.opened(event.broker))
        self._renewer.connected(moment)
        self._teller.forget("lost", "full", "rejected")
        self._teller.tell("broker-connected", broker=event.broker)
        if event.unsubscribed:
            topics = " ".join(event.unsubscribed)
            self._teller.once("unsubscribed", topics, kind="subscription-refused", broker=event.broker, topics=topics)
        if event.unchecked_times:
            self._teller.once("unchecked", kind="broker-dates-unchecked", broker=event.broker)

    def _ask_for_certificate(self, moment: Moment) -> None:
        """In Sparkplug a birth goes before everything; but a host that stays away must not lock the device out."""
        if moment.monotonic_us - self._asked_us < ASK_EVERY_US:
            return
        self._asked_us = moment.monotonic_us
        waits = self._dialect.holds and moment.monotonic_us - self.connected_us < PATIENCE_US
        request = self._renewer.request(moment) if self.connected and not waits else None
        if request is not None:
            topic = topic_of(self._site.namespace, self._site.device, CERTIFICATE_REQUEST_LEVEL)
            self._say((Publish(topic, request),))

    def _lost(self, event: Lost) -> None:
        self.courier.closed()
        say(f"<4>no broker: {event.reason}")
        self._teller.once("lost", event.reason, kind="broker-lost", broker=event.broker, reason=event.reason)

    def _rejected(self, event: Rejected, moment: Moment) -> None:
        flight = self.lanes.flights.get(event.token)
        self.courier.rejected(event.token, event.code, moment)
        if flight is not None:
            self._teller.once(
                "rejected",
                flight.stream,
                event.reason,
                kind="message-rejected",
                broker=self.broker,
                stream=flight.stream,
                sequence=flight.first,
                reason=event.reason,
            )

    def _react(self, reaction: Reaction, moment: Moment) -> None:
        if isinstance(reaction, Receipt):
            self.courier.received(reaction)
        elif isinstance(reaction, Say):
            self._say((reaction.publish,))
        elif isinstance(reaction, HangUp):
            self._say(self._dialect.closing())
            self._hang_up(reaction.reason, walk=True)
        elif isinstance(reaction, Renewed) and self._renewer.heard(reaction.data, moment):
            self._say(self._dialect.closing())
            self._hang_up("the site gave a new certificate")

    def _hang_up(self, reason: str, *, walk: bool = False) -> None:
        self._transport.hang_up(self._connection, reason, walk=walk)
        self.courier.closed()

    def _say(self, messages: tuple[Publish, ...]) -> None:
        for message in messages:
            self._transport.say(self._connection, message)
        if messages:
            self._transport.flush()

    def _publish(self, token: int, message: Publish) -> None:
        self._transport.publish(self._connection, token, message)

    def _report(self, event: TransportEvent) -> None:
        """Called in the transport's thread."""
        if isinstance(event, Lost):
            self._renewer.lost(event)
            if not event.connect_sent:
                with self._speaking:
                    self._dialect.unsent()
        self._events.append(event)
        if not self._awake:
            self._awake = True
            with contextlib.suppress(BlockingIOError):
                self._wake_writer.send(b"w")

    def _begin(self) -> Opening:
        """Called in the transport's thread."""
        with self._speaking:
            try:
                will = self._dialect.will()
            except OSError as error:
                raise EdgesealError(f"cannot begin a connection: {error.strerror}") from error
            ours = self._renewer.identity()
            return Opening(will, self._dialect.subscriptions(), ours.certificate, ours.key)

    def _make_dialect(self) -> Dialect:
        return make_dialect(
            self._site, self._config, epoch=self._outbox.epoch, directory=self._directory, clock=self._clock
        )

    def _notice(self, notice: Notice) -> None:
        self._teller.tell(notice.kind, "failure" if notice.failed else "success", **notice.fields)
