"""Drops from the kernel's log into the audit log: the socket, and when its counts are told."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.core.errors import EdgesealError
from appliance.machine.notify import say
from appliance.network.drops import Drops, Kind, Told
from appliance.network.sockets import DropSocket, interface_name
from appliance.network.teller import Teller

AGAIN_S = 60.0


class DropWatch:
    """Driven round by round. The ruleset is watched also when its log cannot be heard."""

    def __init__(self, drops: Drops, teller: Teller, *, flush_s: float) -> None:
        self._drops = drops
        self._teller = teller
        self._flush_s = flush_s
        self._flush_at: float | None = None
        self._open_at = 0.0
        self._sequence: int | None = None
        self._told = ""
        self.socket: DropSocket | None = None
        self._open()

    @property
    def seen(self) -> int:
        """Drops since the start."""
        return self._drops.seen

    def watched(self) -> Sequence[DropSocket]:
        """What to wait for."""
        return () if self.socket is None else (self.socket,)

    def wait_s(self, now: float) -> float:
        """Until there is something to tell, or to try again."""
        if self.socket is None:
            return max(0.0, self._open_at - now)
        return self._flush_s if self._flush_at is None else max(0.0, self._flush_at - now)

    def read(self) -> None:
        """Take in what the kernel has told."""
        if self.socket is None:
            return
        found = self.socket.read()
        for logged in found.logged:
            self._count_gap(logged.sequence)
            kind = Kind(logged.reason, interface_name(logged.index), logged.flow)
            self._drops.add(kind)
        if found.unreadable:
            say(f"<4>{found.unreadable} messages of nflog are not in its format")
            self._drops.lost(found.unreadable)

    def round(self, now: float) -> None:
        """Tell when it is time; open the socket again when it could not be."""
        if self.socket is None and now >= self._open_at:
            self._open_at = now + AGAIN_S
            self._open()
        if self._flush_at is None and self._drops.waiting:
            self._flush_at = now + self._flush_s
        elif self._flush_at is not None and now >= self._flush_at:
            self._flush_at = None
            for told in self._drops.take(now):
                self._tell(told)

    def _open(self) -> None:
        try:
            self.socket = DropSocket()
        except EdgesealError as error:
            if str(error) != self._told:
                self._told = str(error)
                say(f"<3>drops cannot be seen: {error}")
                self._teller.tell("drops-unseen", "failure", reason=self._told[:1024])

    def _count_gap(self, sequence: int | None) -> None:
        """The kernel numbers what it tells: what is missing found no room in our buffer."""
        if sequence is None:
            return
        if self._sequence is not None and sequence > self._sequence + 1:
            self._drops.lost(sequence - self._sequence - 1)
        self._sequence = sequence

    def _tell(self, told: Told) -> None:
        flow = told.kind.flow
        self._teller.tell(
            "conduit-drop",
            "failure",
            reason=told.kind.reason[:128],
            interface=told.kind.interface,
            protocol=flow.protocol,
            source=flow.source,
            destination=flow.destination,
            port=flow.port,
            count=told.count,
            untold=told.untold,
        )
