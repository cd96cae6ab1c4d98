"""MQTT 5 over mutual TLS 1.3: keeps a connection to one of the site's brokers, in a thread of its own.

What is published here is not kept: what the broker did not acknowledge when the connection ends is the service's to
send again. The service's thread never waits for the network.
"""

from __future__ import annotations

import collections
import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from appliance.core.clock import Clock
from appliance.core.errors import EdgesealError
from appliance.uplink.brokers import Broker, Ending, Rota
from appliance.uplink.carrier import Carrier, Link
from appliance.uplink.dialect import Publish
from appliance.uplink.events import (
    Acknowledged,
    Connected,
    Heard,
    Lost,
    Rejected,
    Sent,
    TransportEvent,
)
from appliance.uplink.frames import ProtocolError
from appliance.uplink.opening import EndedError, Opening
from appliance.uplink.tls import about_us, in_words
from appliance.uplink.wire import StoppedError

__all__ = (
    "Acknowledged", "Broker", "Connected", "Heard", "Link", "Lost", "Opening", "Rejected", "Sent", "Transport",
    "TransportEvent",
)  # fmt: skip

STEP_S = 1.0
STOP_S = 5.0
LAST_WORDS_S = 2.0


@dataclass(frozen=True)
class _HangUp:
    reason: str
    ending: Ending


@dataclass(frozen=True)
class _Outcome:
    ending: Ending
    reason: str
    connect_sent: bool
    ours: bool
    connected: bool


class Transport:
    """Keeps a connection up. report() and begin() are called in the transport's thread.

    begin: what the next connection begins with; an EdgesealError of it is a failed attempt. clock: to know whether the
    dates of certificates can be checked. unheard: messages to us that were too large or too many, dropped.
    """

    def __init__(
        self,
        brokers: tuple[Broker, ...],
        report: Callable[[TransportEvent], None],
        *,
        link: Link,
        begin: Callable[[], Opening],
        clock: Clock,
    ) -> None:
        self._report = report
        self._link = link
        self._begin = begin
        self._clock = clock
        self._dice = random.SystemRandom().random
        self._rota = Rota(
            brokers, return_s=link.return_s, first_pause_s=link.pause_s, longest_pause_s=link.longest_pause_s
        )
        self._stopping = threading.Event()
        self._queue: collections.deque[tuple[int, int | None, Publish | _HangUp]] = collections.deque()
        self._awake = False
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._connection = 0
        self.unheard = 0
        self._thread = threading.Thread(target=self._run, name="transport", daemon=True)

    def start(self) -> None:
        """Begin to connect, after a pause of at most link.pause_s."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """False once the thread has ended after its start."""
        return self._thread.ident is None or self._thread.is_alive()

    def publish(self, connection: int, token: int, message: Publish) -> None:
        """Send on this connection, in the order of calls; if it has gone by then, the message is dropped here.

        flush() must follow, once for any number of messages.
        """
        self._queue.append((connection, token, message))

    def say(self, connection: int, message: Publish) -> None:
        """As publish, but nothing is reported about it."""
        self._queue.append((connection, None, message))

    def hang_up(self, connection: int, reason: str, *, walk: bool = False) -> None:
        """End this connection in order, after what was published before, and connect anew. Lost has the reason.

        walk: to the next broker, because this one is of no use.
        """
        self._queue.append((connection, None, _HangUp(reason, "failed" if walk else "worked")))
        self.flush()

    def flush(self) -> None:
        """Wake the transport."""
        if not self._awake:
            self._awake = True
            with contextlib.suppress(BlockingIOError):  # it is full of wake-ups already
                self._wake_writer.send(b"w")

    def stop(self) -> None:
        """Send what was published, disconnect and end the thread; or leave it behind when it looks up a name."""
        self._stopping.set()
        self._awake = False
        self.flush()
        self._thread.join(STOP_S)

    def _run(self) -> None:
        self._stopping.wait(self._rota.start(self._dice()))
        while not self._stopping.is_set():
            self._connection += 1
            broker = str(self._rota.present)
            outcome = self._carry()
            if self._stopping.is_set():
                return
            self._report(
                Lost(self._connection, outcome.reason, broker, outcome.connect_sent, outcome.ours, outcome.connected)
            )
            self._stopping.wait(self._rota.ended(outcome.ending, self._dice()))

    def _carry(self) -> _Outcome:
        """Run one connection to its end."""
        carrier: Carrier | None = None
        ours = False
        try:
            carrier = self._open()
            self._serve(carrier)
        except EndedError as error:
            reason, ours = str(error), error.ours
        except StoppedError:
            reason = "we were asked to stop"
        except ProtocolError as error:
            reason = f"the broker broke the protocol: {error}"
        except (EdgesealError, OSError) as error:
            reason, ours = in_words(error), about_us(error)
        except Exception as error:  # paho raises almost anything on what it does not expect; the broker is not trusted
            reason = f"the broker broke the protocol: {type(error).__name__}: {error}"
        if carrier is None:
            return _Outcome("failed", reason, connect_sent=False, ours=ours, connected=False)
        carrier.close()
        self.unheard += carrier.session.unheard
        return _Outcome(carrier.ending, reason, connect_sent=True, ours=ours, connected=carrier.session.connected)

    def _open(self) -> Carrier:
        return Carrier(
            self._connection,
            self._link,
            self._rota,
            self._begin(),
            clock=self._clock,
            dice=self._dice,
            report=self._report,
            stopping=self._stopping.is_set,
            wake=self.flush,
        )

    def _serve(self, carrier: Carrier) -> None:
        session = carrier.session
        while not self._stopping.is_set():
            if session.step(self._wake_reader, STEP_S):
                self._slept()
            self._send(carrier)
            carrier.tend()
        end = time.monotonic() + LAST_WORDS_S
        while session.connected and self._queue and time.monotonic() < end:
            self._send(carrier)
            session.step(self._wake_reader, 0.05)
        session.goodbye()
        raise StoppedError

    def _slept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_reader.recv(4096)
        self._awake = False  # before the queue is read: what comes now wakes us again

    def _send(self, carrier: Carrier) -> None:
        session = carrier.session
        while self._queue:
            connection, token, message = self._queue[0]
            if connection == session.number:
                if isinstance(message, _HangUp):
                    carrier.leave(message.reason, message.ending)
                elif carrier.leaving or not session.ready:
                    break
                else:
                    session.publish(message, token)
            self._queue.popleft()
        session.flush()
