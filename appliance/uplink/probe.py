"""Does an earlier broker answer again? Asked beside the connection in use, which nobody gives up for a guess."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable

from appliance.core.errors import EdgesealError
from appliance.uplink.brokers import Broker
from appliance.uplink.tls import check_broker
from appliance.uplink.wire import StoppedError, dial

PROBE_S = 10.0


class Probe:
    """TCP and TLS to each of `brokers` in turn, in a thread of its own, and nothing of MQTT.

    A CONNECT with our name would take the connection in use over, when both brokers are one cluster.
    """

    def __init__(
        self,
        brokers: tuple[Broker, ...],
        context: ssl.SSLContext,
        stopping: Callable[[], bool],
        done: Callable[[], None],
    ) -> None:
        """done: called in the probe's thread at its end."""
        self._brokers = brokers
        self._context = context
        self._stopping = stopping
        self._done = done
        self.found: Broker | None = None
        self.running = True
        threading.Thread(target=self._run, name="probe", daemon=True).start()

    def _run(self) -> None:
        try:
            self.found = next(filter(self._answers, self._brokers), None)
        finally:
            self.running = False
            self._done()

    def _answers(self, broker: Broker) -> bool:
        deadline = time.monotonic() + PROBE_S
        try:
            with dial(
                broker.host, broker.port, self._context,
                deadline=deadline, user_timeout_s=PROBE_S, stopping=self._stopping,
            ) as sock:  # fmt: skip
                check_broker(sock)
        except (OSError, EdgesealError, StoppedError):
            return False
        return True
