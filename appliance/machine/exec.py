"""The one door of the device to other programs."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from appliance.core.errors import EdgesealError

_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin", "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0"}


@dataclass(frozen=True)
class Finished:
    """rc: exit status, or minus the signal; None when the deadline passed and the program was killed."""

    rc: int | None
    stdout: bytes
    stderr: bytes


def execute(command: Sequence[str], *, timeout_s: int) -> Finished:
    """Run a program with a fixed environment, to its end or the deadline. Raises OSError when it cannot start."""
    with subprocess.Popen(
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_ENVIRONMENT,
        start_new_session=True,
    ) as process:
        try:
            stdout, stderr = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # its children hold the pipes open otherwise
            stdout, stderr = process.communicate()
            return Finished(None, stdout, stderr)
        return Finished(process.returncode, stdout, stderr)


def run(command: Sequence[str], *, reason: str, timeout_s: int) -> bytes:
    """Run a program and return its standard output, which may be secret and is never part of an error.

    reason: why, as an infinitive clause; it becomes the error message. Raises EdgesealError.
    """
    try:
        finished = execute(command, timeout_s=timeout_s)
    except OSError as error:
        raise EdgesealError(f"cannot {reason}: {command[0]}: {error.strerror}") from error
    if finished.rc is None:
        raise EdgesealError(f"cannot {reason}: {command[0]} did not end within {timeout_s} s")
    if finished.rc != 0:
        said = finished.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise EdgesealError(f"cannot {reason}: {command[0]} exited {finished.rc}: {said[-1]}")
    return finished.stdout
