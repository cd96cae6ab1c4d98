"""The site of the uplink benchmarks: one broker to which every candidate delivers, over mutual TLS 1.3."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.integration.services_harness import Authority
from tests.support.chaos.broker import ChaosBroker
from tests.support.chaos.device import DEVICE


@dataclass(frozen=True)
class Figures:
    """What was measured of one candidate; None: it has no such thing.

    durable: it waits for the disk before it says that a message is kept. in_rate: messages kept a second. drain,
    drain_batched: delivered a second, of a backlog. lost: of `accepted`, after kill -9. start_s: until ready, with
    backlog_rows waiting; resident_mb: then; peak_mb: at the most while it drains. written: bytes to the disk for a
    message, in and out again. wire: bytes of TCP for a message delivered.
    """

    name: str
    durable: bool = False
    in_rate: float | None = None
    drain: float | None = None
    drain_batched: float | None = None
    accepted: int = 0
    lost: int | None = None
    start_s: float | None = None
    backlog_rows: int = 0
    resident_mb: float | None = None
    peak_mb: float | None = None
    written: float | None = None
    wire: float | None = None
    note: str = ""


@dataclass
class Site:
    """sink: stopped in the beginning. directory: on a real disk, empty."""

    directory: Path
    authority: Authority
    sink: ChaosBroker
    certificate: Path
    key: Path

    @property
    def ca(self) -> Path:
        """The site's authority."""
        return self.directory / "sink" / "ca.pem"


@contextmanager
def site() -> Iterator[Site]:
    """A site below a directory of its own, which is removed."""
    directory = Path(tempfile.mkdtemp(prefix="edgeseal-bench-"))
    authority = Authority.make("site CA")
    sink = ChaosBroker(directory / "sink", authority, keeps=False)
    certificate, key = authority.issue(DEVICE, address=None)
    (directory / "device.pem").write_bytes(certificate)
    (directory / "device.key").write_bytes(key)
    try:
        yield Site(directory, authority, sink, directory / "device.pem", directory / "device.key")
    finally:
        sink.kill()
        shutil.rmtree(directory, ignore_errors=True)


def written_bytes(pid: int) -> int:
    """What the process has caused to be written to the disk (proc(5), write_bytes)."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


def memory_mb(pid: int, field: str) -> float:
    """field: VmRSS, now, or VmHWM, the most so far; megabytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(field))


def wait(condition: Callable[[], bool], what: str, within_s: float = 60.0) -> float:
    """Seconds it took to come true. Raises AssertionError."""
    begun = time.perf_counter()
    while not condition():
        assert time.perf_counter() < begun + within_s, f"still waiting for: {what}"
        time.sleep(0.005)
    return time.perf_counter() - begun


def end(process: subprocess.Popen[bytes]) -> None:
    """kill -9, and wait."""
    process.kill()
    process.wait()
