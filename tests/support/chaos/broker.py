"""mosquitto for the chaos test: TLS 1.3 with client certificates for the device, a plain listener for the consumer."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from builder.host.toolstree import vm_tree
from tests.integration.services_harness import Authority

_START_S = 20.0


class ChaosBroker:
    """port: for devices. reader_port: for the consumer. keeps: whether sessions outlive an orderly end."""

    def __init__(self, directory: Path, authority: Authority, *, keeps: bool, extra: tuple[str, ...] = ()) -> None:
        """extra: more lines for its settings."""
        directory.mkdir(parents=True)
        certificate, key = authority.issue("broker", address="127.0.0.1")
        (directory / "broker.pem").write_bytes(certificate)
        (directory / "broker.key").write_bytes(key)
        (directory / "ca.pem").write_bytes(authority.pem())
        self.port, self.reader_port = free_port(), free_port()
        self.starts = 0
        self._starter = ThreadPoolExecutor(1)  # the sandbox dies with the thread that started it
        self._directory = directory
        self._command = vm_tree().command(["mosquitto"], network=True, writable=[directory])
        self._settings = directory / "mosquitto.conf"
        self._settings.write_text("\n".join((*self._lines(keeps), *extra, "")))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> ChaosBroker:
        """Start it and wait until it listens."""
        with (self._directory / "mosquitto.log").open("ab") as log:
            words = [*self._command, "-c", str(self._settings)]
            self._process = self._starter.submit(subprocess.Popen, words, stderr=log, stdout=log).result()
        end = time.monotonic() + _START_S
        while not self._listens():
            assert self._process.poll() is None, (self._directory / "mosquitto.log").read_text()
            assert time.monotonic() < end, "the broker does not listen"
            time.sleep(0.02)
        self.starts += 1
        return self

    @property
    def pid(self) -> int:
        """Of mosquitto itself, inside of its sandbox."""
        assert self._process is not None
        found = descendant(self._process.pid, "mosquitto")
        assert found is not None, "mosquitto does not run"
        return found

    def stop(self) -> None:
        """SIGTERM: where it keeps something, it writes it down now."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9: what it had accepted and not passed on is gone."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            os.kill(self.pid, number)
            self._process.wait(_START_S)
        self._process = None

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.reader_port)) == 0

    def _lines(self, keeps: bool) -> tuple[str, ...]:
        here = self._directory
        return (
            "user root",
            "per_listener_settings true",
            f"listener {self.port} 127.0.0.1",
            f"cafile {here}/ca.pem",
            f"certfile {here}/broker.pem",
            f"keyfile {here}/broker.key",
            "require_certificate true",
            "use_identity_as_username true",
            "tls_version tlsv1.3",
            f"listener {self.reader_port} 127.0.0.1",
            "allow_anonymous true",
            "max_queued_messages 0",
            "max_inflight_messages 1000",
            f"persistence {'true' if keeps else 'false'}",
            f"persistence_location {here}/",
        )


def descendant(pid: int, name: str) -> int | None:
    """The process called `name` at or below `pid`."""
    try:
        if Path(f"/proc/{pid}/comm").read_text().strip() == name:
            return pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return None
    found = (descendant(int(child), name) for child in children)
    return next((one for one in found if one is not None), None)


def free_port() -> int:
    """On loopback, free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
