"""What systemd does for the uplink: keeps its socket open, gives it its credentials, and starts it again at once."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

# Puts descriptor 3 in place and says so, as systemd does, then becomes the service.
_LAUNCHER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
_ROOT = Path(__file__).resolve().parents[3]
_STOP_S = 20.0
_PAUSE_S = 0.1  # after a start that failed by itself


class Supervisor:
    """arguments: of the Python interpreter, which becomes the uplink. kills are ours; crashes are its own ends."""

    def __init__(
        self, arguments: list[str], path: Path, directory: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        """path: of the listening socket. directory: has `credentials`; gets `uplink.log`. environment: more of it."""
        self.kills = 0
        self.crashes: list[int] = []
        self.log = directory / "uplink.log"
        self._arguments = arguments
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        self._listener.listen(64)
        notify = directory / "notify"
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(notify))
        self._ready = threading.Event()
        self._environment = {
            "NOTIFY_SOCKET": str(notify),
            "CREDENTIALS_DIRECTORY": str(directory / "credentials"),
            "PYTHONPATH": str(_ROOT),
            "PATH": os.environ["PATH"],
            **(environment or {}),
        }
        self._stopping = False
        self._killing = False
        self._lock = threading.Lock()
        self.process = self._start()
        threading.Thread(target=self._read_notices, name="notify", daemon=True).start()
        self._keeper = threading.Thread(target=self._keep, name="supervisor", daemon=True)
        self._keeper.start()

    def wait_ready(self, within_s: float = 30.0) -> None:
        """Until it said READY=1 after its latest start."""
        assert self._ready.wait(within_s), f"the uplink was not ready in time: {self.log.read_text()[-2000:]}"

    def kill(self) -> None:
        """kill -9; it is started again at once."""
        with self._lock:
            if self.process.poll() is None:
                self._killing = True
                self.kills += 1
                self._ready.clear()
                self.process.send_signal(signal.SIGKILL)

    def end(self) -> None:
        """kill -9, and no restart."""
        self._stopping = True
        self.process.kill()
        self._keeper.join()
        self._listener.close()

    def stop(self) -> int:
        """SIGTERM, no restart; the exit status."""
        self._stopping = True
        with self._lock:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
        finally:
            self._keeper.join()
            self._listener.close()

    def _start(self) -> subprocess.Popen[bytes]:
        descriptor = self._listener.fileno()
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-c", _LAUNCHER, str(descriptor), *self._arguments],
                env=self._environment,
                stdout=log,
                stderr=log,
                pass_fds=(descriptor,),
            )

    def _keep(self) -> None:
        while True:
            code = self.process.wait()
            if self._stopping:
                return
            if not self._killing:
                self.crashes.append(code)
                time.sleep(_PAUSE_S)
            with self._lock:
                self._killing = False
                self.process = self._start()

    def _read_notices(self) -> None:
        while True:
            if b"READY=1" in self._notify.recv(4096):
                self._ready.set()
