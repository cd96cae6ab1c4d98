"""What a service tells systemd: ready, alive, stopping. Without systemd (tests) nothing is sent."""

from __future__ import annotations

import os
import socket
import sys
import time

ALIVE_EVERY_S = 5.0  # far below any WatchdogSec=


class Notifier:
    """Speaks sd_notify on NOTIFY_SOCKET."""

    def __init__(self, address: str | None) -> None:
        """address: the value of NOTIFY_SOCKET; None for nobody."""
        self._next = 0.0
        self._address = None if address is None else address.replace("@", "\0", 1)
        self._socket = None if address is None else socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    @classmethod
    def from_environment(cls) -> Notifier:
        """As systemd set it up."""
        return cls(os.environ.get("NOTIFY_SOCKET"))

    def ready(self, status: str) -> None:
        """The service can be used."""
        self._send(f"READY=1\nSTATUS={status}")

    def alive(self, status: str) -> None:
        """Feed the watchdog. status: one line for `systemctl status`. It may be called often: few are sent."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + ALIVE_EVERY_S
            self._send(f"WATCHDOG=1\nSTATUS={status}")

    def stopping(self) -> None:
        """The service is going down on purpose."""
        self._send("STOPPING=1")

    def _send(self, text: str) -> None:
        if self._socket is not None and self._address is not None:
            self._socket.sendto(text.encode(), self._address)


def say(line: str) -> None:
    """One line for the journal."""
    print(line, file=sys.stderr, flush=True)
