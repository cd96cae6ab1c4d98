"""A transport under test: what it reports, its certificates, and brokers to talk to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from appliance.core.clock import Moment, TimeQuality
from appliance.uplink.dialect import Publish
from appliance.uplink.events import TransportEvent
from appliance.uplink.transport import Broker, Link, Opening, Transport
from tests.integration.services_harness import Authority

DEVICE = "line-3-cell-7"
NOW_S = 1_780_000_000
WITHIN_S = 15.0

Event = TypeVar("Event", bound=TransportEvent)


class Listener:
    """Collects what a transport reports."""

    def __init__(self) -> None:
        self.events: list[TransportEvent] = []
        self._changed = threading.Condition()

    def __call__(self, event: TransportEvent) -> None:
        """report()."""
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def wait(self, condition: Callable[[list[TransportEvent]], bool], what: str, *, within_s: float = WITHIN_S) -> None:
        """Until `condition` of all events holds; fails the test at the deadline."""
        with self._changed:
            held = self._changed.wait_for(lambda: condition(self.events), within_s)
        assert held, f"still waiting for {what}; last events: {self.events[-5:]}"

    def of(self, kind: type[Event]) -> list[Event]:
        """All of one kind."""
        with self._changed:
            return [event for event in self.events if isinstance(event, kind)]

    def nth(self, kind: type[Event], number: int = 1, *, within_s: float = WITHIN_S) -> Event:
        """The `number`-th event of a kind, waited for."""
        self.wait(
            lambda events: sum(isinstance(event, kind) for event in events) >= number,
            f"{kind.__name__} number {number}",
            within_s=within_s,
        )
        return self.of(kind)[number - 1]


def clock(quality: TimeQuality = "synchronised", wall_s: int = NOW_S) -> Callable[[], Moment]:
    """A clock that stands still."""
    return lambda: Moment(boot_id="0" * 32, monotonic_us=1, wall_us=wall_s * 1_000_000, quality=quality)


class Site:
    """A site's CA and this device's certificate, as files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority.make("site CA")
        self.ca = directory / "site-ca.pem"
        self.ca.write_bytes(self.authority.pem())
        self.certificate, self.key = directory / "device.pem", directory / "device.key"
        self.give(*self.authority.issue(DEVICE, address=None))
        self.will: Publish | None = None
        self.subscriptions: tuple[str, ...] = ()

    def give(self, certificate: bytes, key: bytes) -> None:
        """Another certificate for the device."""
        self.certificate.write_bytes(certificate)
        self.key.write_bytes(key)

    def begin(self) -> Opening:
        """For a Transport."""
        return Opening(self.will, self.subscriptions, self.certificate, self.key)

    @contextmanager
    def transport(
        self,
        *ports: int,
        host: str = "127.0.0.1",
        quality: TimeQuality = "synchronised",
        wall_s: int | None = None,
        keepalive_s: float = 30.0,
        return_s: float = 600.0,
        pause_s: float = 0.05,
        longest_pause_s: float = 0.2,
    ) -> Iterator[tuple[Transport, Listener]]:
        """A running one, for brokers at these ports; stopped at the end."""
        listener = Listener()
        link = Link(DEVICE, self.ca, keepalive_s, return_s, pause_s=pause_s, longest_pause_s=longest_pause_s)
        brokers = tuple(Broker(host, port) for port in ports)
        now = int(time.time()) if wall_s is None else wall_s
        transport = Transport(brokers, listener, link=link, begin=self.begin, clock=clock(quality, now))
        transport.start()
        try:
            yield transport, listener
            assert transport.alive
        finally:
            transport.stop()
        assert not transport.alive or not ports
