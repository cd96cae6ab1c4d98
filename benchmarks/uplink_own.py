"""edgeseal-uplink itself, the real process with its settings as shipped, except for the size of its budget."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from appliance.core.errors import EdgesealError
from appliance.formats.uplink_message import Status
from appliance.machine.clock import system_clock
from appliance.machine.uplink_client import UplinkClient
from appliance.uplink.outbox import Outbox
from benchmarks.uplink_load import hand_in, verdict_body
from benchmarks.uplink_site import Figures, Site, memory_mb, wait, written_bytes
from tests.support.chaos.consumer import Consumer
from tests.support.chaos.device import DEVICE, NAMESPACE, provision
from tests.support.chaos.relay import Relay
from tests.support.chaos.supervisor import Supervisor

BUDGET = 2 << 30
IN_FLIGHT = 50  # as shipped
_FILL = 1000  # rows of one commit when a backlog is made without the socket


class Own:
    """One device below `site`. batch: whether its backlog travels in batches. port: of the broker, or a relay."""

    def __init__(self, site: Site, name: str, *, batch: bool, port: int | None = None) -> None:
        self.directory = site.directory / name
        self.directory.mkdir()
        self.spool = self.directory / "outbox.sqlite"
        self.socket = self.directory / "uplink.sock"
        self.clock = self.directory / "no-clock-offset"
        where = {"port": site.sink.port if port is None else port, "delivery": "broker"}
        sizes = {"data_bytes": BUDGET, "receive_maximum": IN_FLIGHT}
        self.config = provision(self.directory, site.authority, batch=batch, **where, **sizes)  # type: ignore[arg-type]
        self._supervisor: Supervisor | None = None

    def start(self) -> float:
        """Seconds until it is ready: the interpreter, the spool, the socket."""
        words = [str(path) for path in (self.config, self.spool, self.directory / "audit.sock", self.clock)]
        self.socket.unlink(missing_ok=True)
        (self.directory / "notify").unlink(missing_ok=True)
        begun = time.perf_counter()
        arguments = ["-m", "tests.support.chaos.subject", *words]
        self._supervisor = Supervisor(arguments, self.socket, self.directory, _unit_environment())
        self._supervisor.wait_ready(120)
        return time.perf_counter() - begun

    @property
    def pid(self) -> int:
        """Of the service."""
        assert self._supervisor is not None
        return self._supervisor.process.pid

    def status(self) -> Status:
        """What it says of itself."""
        client = UplinkClient(str(self.socket))
        try:
            return client.status()
        finally:
            client.close()

    def stop(self) -> None:
        """In order."""
        if self._supervisor is not None:
            self._supervisor.stop()
            self._supervisor = None

    def kill(self) -> None:
        """kill -9, and no restart."""
        assert self._supervisor is not None
        self._supervisor.end()
        self._supervisor = None

    def drained_in(self, rows: int, within_s: float) -> float:
        """Messages a second from the first that leaves to the last; of those that left, where time runs out."""
        client = UplinkClient(str(self.socket))
        try:
            wait(lambda: client.status().spooled < rows, "the first delivery", within_s)
            before, begun = client.status().spooled, time.perf_counter()
            end = begun + within_s
            left = before
            while left > 0 and time.perf_counter() < end:
                time.sleep(0.01)
                left = client.status().spooled
            return (before - left) / (time.perf_counter() - begun)
        finally:
            client.close()


def _unit_environment() -> dict[str, str]:
    """What the service's unit sets, as on the device."""
    lines = (Path(__file__).parents[1] / "appliance/units/edgeseal-uplink.service").read_text().splitlines()
    words = [word for line in lines if line.startswith("Environment=") for word in line.split("=", 1)[1].split()]
    return dict(word.split("=", 1) for word in words)


def measure(site: Site, *, messages: int, backlog: int) -> Figures:
    """All figures. The sink is stopped before and after."""
    own = Own(site, "own-batched", batch=True)
    own.start()
    in_rate = messages / hand_in(own.socket, DEVICE, messages)
    written_in = written_bytes(own.pid)
    site.sink.start()
    batched = own.drained_in(messages, 120)
    written = written_bytes(own.pid) / messages
    own.stop()
    site.sink.kill()
    figures = Figures("edgeseal-uplink", durable=True, in_rate=in_rate, drain_batched=batched, written=written)
    figures = replace(figures, note=f"{written_in / messages:.0f} bytes of them in")
    figures = replace(figures, **_loss(site, min(messages, 5000)))  # type: ignore[arg-type]
    figures = replace(figures, wire=_wire(site, batch=True))
    return replace(figures, **_million(site, backlog))  # type: ignore[arg-type]


def wire_single(site: Site) -> float:
    """Bytes of TCP for a message, one by one, without batches."""
    return _wire(site, batch=False)


def drain_single(site: Site, messages: int, name: str) -> float:
    """Messages a second, one by one, without batches. name: a new one each time."""
    own = Own(site, name, batch=False)
    own.start()
    hand_in(own.socket, DEVICE, messages)
    site.sink.start()
    rate = own.drained_in(messages, 120)
    own.stop()
    site.sink.kill()
    return rate


def _loss(site: Site, messages: int) -> dict[str, int]:
    own = Own(site, "own-loss", batch=True)
    own.start()
    hand_in(own.socket, DEVICE, messages)
    own.kill()
    site.sink.start()
    consumer = Consumer(site.sink.reader_port, namespace=NAMESPACE.topic, device=DEVICE, receipts=False)
    own.start()
    wait(lambda: own.status().spooled == 0, "an empty spool")
    time.sleep(0.5)
    own.stop()
    consumer.close()
    site.sink.kill()
    return {"accepted": messages, "lost": messages - len({one.sequence for one in consumer.arrivals})}


def _wire(site: Site, *, batch: bool, messages: int = 5000) -> float:
    site.sink.start()
    relay = Relay(site.sink.port, seed=1)
    own = Own(site, f"own-wire-{batch}", batch=batch, port=relay.port)
    relay.cut()
    own.start()
    hand_in(own.socket, DEVICE, messages)
    relay.heal()
    before = relay.up
    wait(lambda: own.status().spooled == 0, "an empty spool", 90)
    own.stop()
    site.sink.kill()
    return (relay.up - before) / messages


def _million(site: Site, backlog: int) -> dict[str, float | int]:
    own = Own(site, "own-million", batch=True)
    fill(own.spool, backlog)
    own.start()
    own.stop()  # once before: the files of the database are warm for every candidate alike
    start_s = own.start()
    wait(lambda: own.status().spooled >= backlog, "the whole backlog", 60)
    resident = memory_mb(own.pid, "VmRSS")
    site.sink.start()
    own.drained_in(backlog, 30)
    peak = memory_mb(own.pid, "VmHWM")
    own.stop()
    site.sink.kill()
    return {"start_s": start_s, "backlog_rows": backlog, "resident_mb": resident, "peak_mb": peak}


def fill(spool: Path, rows: int) -> None:
    """A spool with `rows` verdicts, made by the service's own code. Raises EdgesealError."""
    moment = system_clock()()
    outbox = Outbox(spool, moment)
    for number in range(1, rows + 1):
        outbox.add("data", "verdict", verdict_body(number, DEVICE) + b"\n", moment)
        if number % _FILL == 0:
            outbox.commit(moment)
    outbox.commit(moment)
    outbox.close()
    if not spool.exists():
        raise EdgesealError("the backlog was not made")
