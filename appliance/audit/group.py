"""Group commit: what was taken is answered when it is durable; security events at once, all others together, soon."""

from __future__ import annotations

from appliance.audit.writer import Submission, Writer
from appliance.core.clock import Moment
from appliance.formats.audit_event import encode_audit_answer
from appliance.formats.audit_log import Sender
from appliance.machine.packets import Connection, Packet, PacketServer

WINDOW_US = 10_000
"""Longest wait before the commit. With the commit itself it stays below the 50 ms that are promised."""
AT_MOST = 512  # answers that wait


class Group:
    """Collects events of all connections; answers keep the order of each connection."""

    def __init__(self, server: PacketServer, writer: Writer) -> None:
        self._server = server
        self._writer = writer
        self._answers: list[tuple[Connection, bytes]] = []
        self._urgent = False
        self._since_us = 0

    def take(self, packets: list[Packet], now: Moment) -> None:
        """Append what came. Raises OSError."""
        if packets and not self._answers:
            self._since_us = now.monotonic_us
        for packet in packets:
            taken = self._writer.take(Submission(_sender(packet), packet.data))
            self._answers.append((packet.connection, encode_audit_answer(taken.answer)))
            self._urgent = self._urgent or taken.urgent

    def wait_s(self, now: Moment, otherwise: float) -> float:
        """How long there is nothing to do when nothing comes."""
        if not self._answers:
            return otherwise
        return 0.0 if self._is_due(now) else (self._since_us + WINDOW_US - now.monotonic_us) / 1_000_000

    def settle(self, now: Moment, *, at_once: bool = False) -> bool:
        """Commit and answer, if it is time; whether nobody waits any more. Raises OSError."""
        if self._answers and not at_once and not self._is_due(now):
            return False
        self._writer.commit()
        for connection, answer in self._answers:
            self._server.answer(connection, answer)
        self._answers.clear()
        self._urgent = False
        return True

    def _is_due(self, now: Moment) -> bool:
        old = now.monotonic_us - self._since_us >= WINDOW_US
        return self._urgent or old or len(self._answers) >= AT_MOST


def _sender(packet: Packet) -> Sender:
    peer = packet.connection.peer
    return Sender(uid=peer.uid, pid=peer.pid, unit=peer.unit)
