"""The audit log of a real boot: measured, anchored in the TPM, told by the kernel what an intruder tried."""

from __future__ import annotations

import pytest

from appliance.formats.signed_note import decode_vkey
from tests.support.machine import AUDIT_LOG, Machine

pytestmark = pytest.mark.xdist_group("vm-thawed")

INTRUDER = (
    "import os\n"
    "try:\n"
    "    os.waitpid(os.posix_spawn('/run/audited', ['x'], {}), 0)\n"
    "    result = 0\n"
    "except OSError as error:\n"
    "    result = error.errno\n"
)


def test_the_boot_is_measured_and_anchored(vm: Machine) -> None:
    entries = {entry.event.kind: entry for entry in vm.audit_log()}
    measured = entries["boot-measured"].event.fields
    assert measured["slot"] == vm.booted_slot()
    assert str(measured["root_hash"]) in vm.text("/proc/cmdline")
    assert measured["pcr_11"] not in ("0" * 64, "unknown")
    assert "log-anchored" in entries
    assert "credential-loaded" in entries
    names = [decode_vkey(line).name.rpartition("/")[2] for line in vm.text(f"{AUDIT_LOG}/vkey").splitlines()]
    assert names[1:] == ["epoch", "tpm"]


def test_a_refused_program_is_in_the_log(vm: Machine) -> None:
    vm.succeed(["mount", "-o", "remount,exec", "/run"])
    vm.write("/run/audited", vm.read("/usr/bin/systemctl"), mode=0o755)
    assert vm.python(INTRUDER) == 13
    told = vm.told("program-refused", path="/run/audited")
    assert told["operation"] == "EXECUTE"
    [entry, *_] = [entry for entry in vm.audit_log() if entry.event.kind == "program-refused"]
    assert entry.sender.unit == "edgeseal-watch.service"


def test_a_unit_that_fails_is_in_the_log(vm: Machine) -> None:
    vm.succeed(["systemctl", "kill", "--signal=KILL", "edgeseal-network.service"])
    assert vm.told("service-failed", unit="edgeseal-network")["action"] == "end well"
