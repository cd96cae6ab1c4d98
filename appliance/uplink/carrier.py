"""One attempt at a connection, from the look at our certificate to the last byte. Runs in the transport's thread."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.core.clock import Clock
from appliance.uplink.brokers import FIRST_PAUSE_S, LONGEST_PAUSE_S, STABLE_S, Ending, Rota
from appliance.uplink.events import TransportEvent
from appliance.uplink.opening import EndedError, Opening
from appliance.uplink.probe import Probe
from appliance.uplink.session import Session
from appliance.uplink.tls import Identity, check_broker, check_own, tls_context
from appliance.uplink.wire import Wire, dial

CONNECT_S: Final = 30.0
LEAVE_S: Final = 5.0


@dataclass(frozen=True)
class Link:
    """What holds for every connection. ca: the only certificates that are trusted. device: our client id and name.

    return_s: how long a stand-in has the connection before an earlier broker is tried. pause_s, longest_pause_s: limits
    of the first and of the longest pause after a failure.
    """

    device: str
    ca: Path
    keepalive_s: float
    return_s: float
    pause_s: float = FIRST_PAUSE_S
    longest_pause_s: float = LONGEST_PAUSE_S


class Carrier:
    """Opens in its constructor. session: carries the messages. leaving: nothing new may be sent.

    Methods raise EndedError when it is over, ProtocolError, EdgesealError, OSError, StoppedError, or what paho raises.
    """

    def __init__(
        self,
        number: int,
        link: Link,
        rota: Rota,
        opening: Opening,
        *,
        clock: Clock,
        dice: Callable[[], float],
        report: Callable[[TransportEvent], None],
        stopping: Callable[[], bool],
        wake: Callable[[], None],
    ) -> None:
        self._rota = rota
        self._dice = dice
        self._stopping = stopping
        self._wake = wake
        self._leaving: tuple[str, Ending, float] | None = None
        self._probe: Probe | None = None
        now = clock()
        identity = Identity(opening.certificate, opening.key)
        check_own(identity, link.device, now)
        checked = now.quality != "unknown"
        self._context = tls_context(link.ca, identity, check_times=checked)
        self._wire = Wire(_dial(rota, link, self._context, stopping))
        self.session = Session(
            number, str(rota.present), self._wire,
            device=link.device, keepalive_s=link.keepalive_s, unchecked_times=not checked, report=report,
        )  # fmt: skip
        self._opened_at = time.monotonic()
        self._look_at = self._opened_at + rota.next_look(dice())
        self._settled = False
        try:
            self.session.open(opening)
        except BaseException:
            self._wire.close()
            raise

    @property
    def ending(self) -> Ending:
        """How it has ended."""
        if self._leaving is not None:
            return self._leaving[1]
        if self.session.taken_over:
            return "taken-over"
        return "worked" if self.session.worked or self._settled else "failed"

    @property
    def leaving(self) -> bool:
        """We are about to hang up: nothing new is sent, what is in flight is waited for."""
        return self._leaving is not None

    def leave(self, reason: str, ending: Ending = "worked") -> None:
        """Hang up soon."""
        self._leaving = self._leaving or (reason, ending, time.monotonic() + LEAVE_S)

    def tend(self) -> None:
        """What time brings: the connection counts as stable, an earlier broker is looked for, we leave."""
        now = time.monotonic()
        if self._leaving is not None and (self.session.idle or now > self._leaving[2]):
            self.session.goodbye()
            raise EndedError(self._leaving[0])
        if not self._settled and self.session.connected and now - self._opened_at > STABLE_S:
            self._settled = True
            self._rota.settled()
        if self._rota.earlier and self.session.connected:
            self._look_back(now)

    def close(self) -> None:
        """Free the socket."""
        self._wire.close()

    def _look_back(self, now: float) -> None:
        if self._probe is None and now > self._look_at:
            self._probe = Probe(self._rota.earlier, self._context, self._stopping, self._wake)
        elif self._probe is not None and not self._probe.running:
            found, self._probe = self._probe.found, None
            self._look_at = now + self._rota.next_look(self._dice())
            if found is not None and not self.leaving:
                self._rota.go_back(found)
                self.leave(f"going back to {found}, which answers again", "moving")


def _dial(rota: Rota, link: Link, context: ssl.SSLContext, stopping: Callable[[], bool]) -> ssl.SSLSocket:
    broker = rota.present
    sock = dial(
        broker.host,
        broker.port,
        context,
        deadline=time.monotonic() + CONNECT_S,
        user_timeout_s=1.25 * link.keepalive_s,
        stopping=stopping,
    )
    try:
        check_broker(sock)
    except BaseException:
        sock.close()
        raise
    return sock
