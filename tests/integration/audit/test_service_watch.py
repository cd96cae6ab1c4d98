"""edgeseal-watch beside the kernel of this machine: what it saw stands in the audit log, once; nothing forged does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from appliance.formats.device import AuditConfig
from tests.integration.audit.service_lab import AuditLab
from tests.integration.services_harness import Service, wait_until

WATCH = """
from pathlib import Path
from appliance.machine.entry import run_service
from appliance.watch.service import Settings, serve
settings = Settings(audit_socket={audit!r}, kernel_log=Path({kernel_log!r}), position=Path({position!r}))
raise SystemExit(run_service(lambda: serve(settings)))
"""
FORBIDDEN = "import ctypes, os\nctypes.CDLL(None).prctl(22, 1, 0, 0, 0)\nos.getppid()"
"""Strict seccomp, then a system call that it does not allow."""
FORGED = "device-mapper: verity: 253:9: data block 4711 is corrupted"


def start_watch(lab: AuditLab, kernel_log: str = "/dev/kmsg") -> Service:
    program = WATCH.format(audit=str(lab.socket), kernel_log=kernel_log, position=str(lab.directory / "position"))
    return Service("watch", program, lab.directory).ready()


@pytest.fixture
def lab(tmp_path: Path) -> AuditLab:
    """The kernel's log of this boot, which is read from its beginning, may have a lot to tell."""
    return AuditLab(tmp_path, AuditConfig(sender_rate=10_000, sender_burst=100_000))


def test_a_process_that_seccomp_killed_is_in_the_log_once(lab: AuditLab) -> None:
    with lab.running():
        watch = start_watch(lab)
        child = subprocess.Popen([sys.executable, "-c", FORBIDDEN])
        assert child.wait(60) == -9
        Path("/dev/kmsg").write_text(FORGED)

        def told() -> list[dict[str, str | int | bool]]:
            killed = [entry.event.fields for entry in lab.told("seccomp-killed")]
            return [fields for fields in killed if fields["program"] == str(Path(sys.executable).resolve())]

        wait_until(lambda: told(), "the kill in the log")
        before = len(told())
        assert watch.stop() == 0
        again = start_watch(lab)  # it goes on where the one before stopped
        assert again.stop() == 0
        assert len(told()) == before
    assert "service-stopped" in lab.kinds()
    assert not [entry for entry in lab.told("block-corrupted") if entry.event.fields["block"] == 4711]


def test_a_source_that_cannot_be_read_is_told_of_and_the_other_goes_on(lab: AuditLab) -> None:
    with lab.running():
        watch = start_watch(lab, kernel_log=str(lab.directory / "no-log"))
        assert watch.stop() == 0
    [told] = lab.told("intake-unavailable")
    assert told.event.fields["source"] == "log"
    assert "No such file or directory" in str(told.event.fields["reason"])
    assert told.event.result == "failure"
