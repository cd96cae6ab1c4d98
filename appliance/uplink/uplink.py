"""Everything of the service, driven round by round from one thread: socket in, spool, transport out."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from pathlib import Path

from appliance.core.clock import Clock, Moment
from appliance.core.errors import EdgesealError
from appliance.formats.device import UplinkConfig
from appliance.formats.uplink_message import MAX_PACKET, Accepted, Status, UplinkAnswer, encode_uplink_message
from appliance.machine.entry import StopFlag
from appliance.machine.notify import say
from appliance.machine.packets import Connection, Packet, PacketServer
from appliance.uplink.desk import Desk
from appliance.uplink.keeping import Keeper
from appliance.uplink.line import Line
from appliance.uplink.metrics import status_of
from appliance.uplink.outbox import Outbox
from appliance.uplink.site import Site
from appliance.uplink.spoolfile import SpoolDamagedError, SpoolUnwritableError
from appliance.uplink.stock import Stock
from appliance.uplink.teller import Teller

SERVICE = "edgeseal-uplink"
MAX_ROUND = 256  # requests of one commit,
LONGEST_WAIT_S = 3600.0
GATHER_S = 0.004  # and how long more are waited for while they keep coming

Answers = list[tuple[Connection, UplinkAnswer]]


class Uplink:
    """See the module."""

    def __init__(
        self,
        site: Site,
        config: UplinkConfig,
        listener: socket.socket,
        *,
        spool: Path,
        old_spool: Path,
        senders: Mapping[str, frozenset[int]],
        readers: frozenset[int],
        teller: Teller,
        clock: Clock,
        first_pause_s: float,
    ) -> None:
        """Raises EdgesealError when the spool cannot be opened."""
        self._clock = clock
        self._teller = teller
        self._outbox = Outbox(spool, clock())
        self._keeper = Keeper(self._outbox, config)
        self._line = Line(site, config, self._outbox, teller, clock, spool.parent, first_pause_s=first_pause_s)
        self._stock = Stock(self._outbox, self._keeper, self._line, teller, old_spool)
        self._desk = Desk(
            self._outbox,
            self._keeper,
            device=site.device,
            senders=senders,
            readers=readers,
            flying=self._line.lanes.in_flight,
            status=self._status,
        )
        self._server = PacketServer(listener, max_packet=MAX_PACKET)
        self._server.watch(self._line.fileno(), self._line.drain)

    def watch(self, stop: StopFlag) -> None:
        """End a round at the stop signal."""
        self._server.watch(stop.fileno(), stop.drain)

    def started(self) -> None:
        """Say that the service is there, and begin to connect."""
        if self._outbox.replaced is not None:
            self._teller.tell("spool-replaced", "failure", reason=self._outbox.replaced)
        self._teller.tell("service-started", service=SERVICE)
        say(f"<6>spool {self._outbox.epoch} holds {self._outbox.rows} messages")
        self._line.start()

    def round(self, timeout: float) -> None:
        """One group commit: requests in, acknowledgements out, all with one fsync, then the answers.

        Raises EdgesealError when the transport has died, which only a bug can do: systemd starts us anew.
        """
        packets = self._gather(min(timeout, self._wait()))
        moment = self._clock()
        answers: Answers = []
        try:
            for packet in packets:
                answers.append((packet.connection, self._desk.take(packet.connection.peer.uid, packet.data, moment)))
            self._line.take_events(moment)
            self._stock.tend(moment)
            self._stock.commit(moment)
            self._desk.committed()
        except (SpoolDamagedError, SpoolUnwritableError) as error:
            answers = self._withdrawn(answers, packets, error)
            self._stock.failed(error, moment)
        for connection, answer in answers:
            self._server.answer(connection, encode_uplink_message(answer))
        self._send(moment)
        self._stock.report(answers)

    @property
    def line(self) -> str:
        """One line for people."""
        state = "connected" if self._line.connected else "no broker"
        return f"{state}, {self._outbox.rows} spooled, {self._line.courier.tally.acknowledged} acknowledged"

    def stop(self) -> None:
        """Finish what was handed in, hang up, close."""
        self.round(0)
        self._line.stop()
        moment = self._clock()
        try:
            self._line.take_events(moment)
            self._outbox.commit(moment)
        except (SpoolDamagedError, SpoolUnwritableError) as error:
            say(f"<4>spool: {error}")  # what was acknowledged only now is sent again at the next start
        self._teller.tell("service-stopped", service=SERVICE, reason="asked to")
        self._teller.stop()
        self._server.close()
        self._outbox.close()

    def _gather(self, timeout: float) -> list[Packet]:
        packets = self._server.round(timeout)
        end = time.monotonic() + GATHER_S
        while packets and len(packets) < MAX_ROUND and time.monotonic() < end:
            more = self._server.round(0)
            if not more:
                break
            packets += more
        return packets

    def _wait(self) -> float:
        due = [one for one in (self._stock.due_us(), self._line.courier.due_us()) if one is not None]
        return max(0, min(due) - self._clock().monotonic_us) / 1e6 if due else LONGEST_WAIT_S

    def _send(self, moment: Moment) -> None:
        if not self._line.alive:
            raise EdgesealError("the transport has died")
        try:
            self._line.fill(moment)
        except (SpoolDamagedError, SpoolUnwritableError) as error:
            self._stock.failed(error, moment)

    def _withdrawn(
        self, answers: Answers, packets: list[Packet], error: SpoolDamagedError | SpoolUnwritableError
    ) -> Answers:
        """Nothing of this round was kept."""
        reason = error.reason if isinstance(error, SpoolUnwritableError) else "unwritable"
        told: Answers = []
        for connection, answer in answers:
            kept = self._desk.withdraw(answer, reason, error.message) if isinstance(answer, Accepted) else answer
            told.append((connection, kept))
        for packet in packets[len(answers) :]:
            told.append((packet.connection, self._desk.turn_away(packet.data, reason, error.message)))
        return told

    def _status(self, request_id: int) -> Status:
        return status_of(request_id, self._outbox, self._keeper, self._desk, self._line)
