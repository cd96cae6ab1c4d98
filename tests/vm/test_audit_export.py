"""A stick that is plugged in gets the audit log: verified where it is read, unmounted before it is pulled out."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from appliance.formats.audit_log import decode_entry
from appliance.formats.signed_note import decode_vkey
from builder.audit.directory import LogDirectory
from builder.audit.policy import Policy
from builder.audit.verify import verify_log
from builder.host.sandbox import Sandbox
from builder.host.toolstree import tools_tree
from builder.rootfs.files import EXPORT_LABEL, EXPORT_MOUNT
from tests.support.disk import DiskEditor
from tests.support.machine import AUDIT_LOG, Machine

pytestmark = pytest.mark.xdist_group("vm-export")

STICK_BYTES = 64 << 20
UNMOUNTED = f"""
import time
for _ in range(300):
    result = {EXPORT_MOUNT!r} not in open("/proc/mounts").read()
    if result:
        break
    time.sleep(0.2)
"""
HAS_NO_KEY = "systemctl show --property=InaccessiblePaths,PrivatePIDs,User edgeseal-audit-export.service"


def new_stick(directory: Path) -> Path:
    """An empty one with our label."""
    directory.mkdir()
    stick = directory / "stick.img"
    with stick.open("wb") as stream:
        stream.truncate(STICK_BYTES)
    tools_tree().run(["mkfs.fat", "-F", "32", "-n", EXPORT_LABEL, stick], reason="format a stick", writable=[directory])
    return stick


def pulled_out(stick: Path, tree: Sandbox) -> Path:
    """The files of a stick that is in no machine."""
    words = ["mcopy", "-s", "-n", "-i", stick, "::/edgeseal-audit", stick.parent]
    tree.run(words, reason="read the stick", writable=[stick.parent], environment={"MTOOLS_SKIP_CHECK": "1"})
    return stick.parent / "edgeseal-audit"


def test_a_stick_gets_a_log_that_verifies(used_device: tuple[Machine, DiskEditor], tmp_path: Path) -> None:
    vm, _ = used_device
    stick = new_stick(tmp_path / "stick")
    vm.connections = dataclasses.replace(vm.connections, medium=stick, medium_writable=True, plugged=False)
    vm.boot()
    keys = [decode_vkey(line) for line in vm.text(f"{AUDIT_LOG}/vkey").splitlines()]
    assert "User=edgeseal-audit" in vm.succeed(HAS_NO_KEY.split())
    vm.plug_in_medium()
    told = vm.told("log-exported")
    assert told["logs"] == 1
    assert vm.python(UNMOUNTED), "it may be pulled out when it was copied"
    [said] = [entry for entry in vm.audit_log() if entry.event.kind == "log-exported"]
    assert (said.sender.uid, said.sender.unit) == (701, "edgeseal-audit-export.service")
    [began] = [entry for entry in vm.audit_log() if entry.event.kind == "log-export-began"]
    vm.shut_down()

    [device] = sorted(path for path in pulled_out(stick, vm.lab.tree).iterdir() if path.is_dir())
    [copy] = sorted(device.iterdir())
    found = verify_log(copy, keys, Policy((), {}, {}, None), since=None)
    assert [finding.sentence() for finding in found.findings] == []
    assert found.size > began.index
    log = LogDirectory(copy)
    number, place = divmod(began.index, 256)
    entry = log.entries(number, min(256, found.size - 256 * number))[place]
    assert decode_entry(entry, index=began.index) == began
