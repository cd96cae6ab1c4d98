"""`python -m benchmarks.audit`: what an event costs until it is durable and signed, a log until it is open or verified.

The real service as a process, on this machine's disk. Floors are those of issue 6; beside every time stand what the
same disk takes for one fdatasync and what the processor takes to hash, because seconds are the machine's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from appliance.audit.keyring import make_keyring
from appliance.audit.signing import Signing
from appliance.audit.store import TileLog
from appliance.core.clock import Moment
from appliance.formats.audit_event import AuditEvent
from appliance.formats.audit_log import Sender, encode_entry, make_entry
from appliance.formats.device import AuditConfig
from appliance.formats.signed_note import decode_vkey
from appliance.machine.audit_client import AuditClient
from benchmarks import baseline
from builder.audit.policy import Policy
from builder.audit.verify import verify_log
from builder.host.workers import in_processes, processors
from tests.integration.audit.service_lab import AuditLab, packet
from tests.integration.services_harness import Service
from tests.support.audit_log import read_log

FLOORS = {
    "events_per_s": 5000.0,
    "p99_ms": 50.0,
    "verify_per_s": 100_000.0,
    "resident_mb": 40.0,
    "open_s": 1.0,
}
SENDERS = 4
PIPELINED = 64
_SENDER = """
import socket, time
sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
sock.connect({socket!r})
end, count = time.monotonic() + {seconds}, 0
while time.monotonic() < end:
    for _ in range({pipelined}):
        sock.send({data!r})
    for _ in range({pipelined}):
        count += b"recorded" in sock.recv(4096)
print(count)
"""
CONFIG = AuditConfig(sender_rate=100_000, sender_burst=1_000_000, log_bytes=1 << 30)


def main(argv: Sequence[str] | None = None) -> int:
    """argv: without the program's name. Returns 1 when a floor is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement with the service")
    parser.add_argument("--entries", type=int, default=1_000_000, help="of the log that is opened")
    arguments = parser.parse_args(argv)
    result = measure(arguments.seconds, arguments.entries)
    missed = [name for name, floor in FLOORS.items() if not _holds(name, result[name], floor)]
    result["missed"] = missed
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        _show(result)
    return 1 if missed else 0


def measure(seconds: float, entries: int) -> dict[str, Any]:
    """Everything, as plain data."""
    with _place() as place:
        found: dict[str, Any] = {"cpus": len(os.sched_getaffinity(0)), "load_before": os.getloadavg()[0]}
        found |= {"hashing_s": baseline.hashing(), "fdatasync_ms": _fdatasync(place)}
        found |= _throughput(place, seconds)
    with _place() as place:
        found |= _latency(place, seconds)
    with _place() as place:
        found |= _large(place, entries)
    return found


def _throughput(place: Path, seconds: float) -> dict[str, Any]:
    """Events of SENDERS processes, PIPELINED in flight of each; each is answered when it is durable and signed."""
    lab = AuditLab(place, CONFIG)
    service = lab.start()
    data = packet("boot-judged", reason="a sentence of the usual length", seconds=1)
    program = _SENDER.format(socket=str(lab.socket), data=data, pipelined=PIPELINED, seconds=seconds)
    begun = time.perf_counter()
    senders = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) for _ in range(SENDERS)]
    total = sum(int(sender.communicate()[0]) for sender in senders)
    took = time.perf_counter() - begun  # starting the senders included
    resident = _resident(service)
    service.stop()
    if len(read_log(lab.log)) < total:
        raise AssertionError("events were acknowledged that are not in the log")
    return {"events": total, "events_per_s": total / took, "resident_mb": resident}


def _latency(place: Path, seconds: float) -> dict[str, Any]:
    """100 events a second, half of them security events, from one client that waits for each answer."""
    lab, took = AuditLab(place, CONFIG), list[float]()
    service = lab.start()
    client = AuditClient(str(lab.socket))
    begun = time.perf_counter()
    for number in range(int(seconds * 100)):
        time.sleep(max(0.0, begun + number / 100 - time.perf_counter()))
        before = time.perf_counter()
        if number % 2:
            client.record("service-started", service="a")
        else:
            client.record("boot-judged", reason="a", seconds=1)
        took.append((time.perf_counter() - before) * 1000)
    client.close()
    service.stop()
    took.sort()
    return {"p50_ms": statistics.median(took), "p99_ms": took[len(took) * 99 // 100], "slowest_ms": took[-1]}


def _large(place: Path, entries: int) -> dict[str, Any]:
    """A log of many entries: how long it takes to open and to verify (signature, tree, every entry's form)."""
    now = Moment("1" * 32, 1, 1)
    state = place / "state"
    state.mkdir()
    keys = make_keyring(state, "edgeseal.audit/bench", now)
    log = TileLog.create(place / "tlog", state / "store", keys.origin)
    sign = Signing(keys, None)
    (place / "tlog" / "vkey").write_text("".join(f"{line}\n" for line in keys.vkeys))
    sender = Sender(uid=703, pid=1, unit="edgeseal-inference.service")
    began: dict[str, str | int | bool] = {
        "origin": keys.origin,
        "vkey": keys.vkeys[0],
        "previous": "",
        "old_log": "",
        "reason": "a benchmark",
    }
    epoch: dict[str, str | int | bool] = {"epoch": 1, "vkey": keys.vkeys[1], "handover": ""}
    events = [AuditEvent(kind="log-began", result="success", fields=began)]
    events += [AuditEvent(kind="epoch-began", result="success", fields=epoch)]
    usual = AuditEvent(kind="service-started", result="success", fields={"service": "edgeseal-inference"})
    for start in range(0, entries, 4096):
        end = min(entries, start + 4096)
        said = [events[index] if index < len(events) else usual for index in range(start, end)]
        log.append(
            [encode_entry(make_entry(event, sender, now, index=start + at, boot=1)) for at, event in enumerate(said)]
        )
        log.commit(sign)
        if start % (4096 * 8) == 0:
            log.publish()
    log.publish()
    log.close()
    opened = _timed(lambda: TileLog.open(place / "tlog", state / "store").close())
    took = _timed(lambda: _verify(place / "tlog", keys.vkeys[0], entries))
    return {"entries": entries, "open_s": opened, "verify_per_s": entries / took}


def _verify(directory: Path, vkey: str, expected: int) -> None:
    """As `edgeseal audit verify` does: entries, tree, signatures, epochs, in a process for each processor."""
    review = verify_log(
        directory,
        [decode_vkey(vkey)],
        Policy((), {}, {}, None),
        since=None,
        run=lambda function, tasks: in_processes(function, tasks, jobs=processors()),
    )
    if not review.ok or review.size != expected:
        raise AssertionError(f"{review.size} entries: {review.findings}")


def _timed(what: Callable[[], None]) -> float:
    begun = time.perf_counter()
    what()
    return time.perf_counter() - begun


def _fdatasync(place: Path) -> float:
    """Milliseconds for 4 KiB, the median of 100."""
    descriptor = os.open(place / "probe", os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(descriptor, 0, 1 << 20)
    found = []
    for number in range(100):
        os.pwrite(descriptor, bytes([number]) * 4096, number * 4096)
        found.append(_timed(lambda: os.fdatasync(descriptor)) * 1000)
    os.close(descriptor)
    return statistics.median(found)


def _resident(service: Service) -> float:
    text = Path(f"/proc/{service.process.pid}/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) / 1000


def _holds(name: str, value: float, floor: float) -> bool:
    return value >= floor if name.endswith("_per_s") else value <= floor


@contextmanager
def _place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        yield Path(name)


def _show(result: dict[str, Any]) -> None:
    table = Table(title="audit log")
    for heading in ("what", "measured", "floor"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for name, value in result.items():
        if isinstance(value, float | int) and not isinstance(value, bool):
            table.add_row(name, f"{value:,.2f}", f"{FLOORS[name]:,.0f}" if name in FLOORS else "")
    Console().print(table)
    if result["missed"]:
        Console().print(f"missed: {', '.join(result['missed'])}")


if __name__ == "__main__":
    sys.exit(main())
