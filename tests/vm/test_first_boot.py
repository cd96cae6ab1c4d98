"""What is true of a device after its first boot, under Secure Boot and with a TPM."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.host.paths import source_root
from builder.vm.config import BROKER_ADDRESS, BROKER_PORT
from builder.vm.repositories import SITE_ADDRESS, SITE_PORT, VENDOR_ADDRESS, VENDOR_PORT
from builder.vm.snapshot import Snapshot
from tests.support.machine import Machine
from tests.support.pcap import Packet, read_packets

pytestmark = pytest.mark.xdist_group("vm-thawed")

SYSCTLS = source_root() / "builder/rootfs/static/usr/lib/sysctl.d/90-edgeseal.conf"
DEVICE_ADDRESS = "10.0.2.15"
LISTEN = "0A"
EFI_GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"


def test_secure_boot_is_on_and_the_kernel_is_locked_down(vm: Machine) -> None:
    for variable, value in (("SecureBoot", 1), ("SetupMode", 0)):
        assert vm.read(f"/sys/firmware/efi/efivars/{variable}-{EFI_GLOBAL}")[4] == value
    assert "[integrity]" in vm.text("/sys/kernel/security/lockdown")
    assert vm.text("/sys/module/module/parameters/sig_enforce") == "Y"
    assert vm.text("/sys/module/dm_verity/parameters/require_signatures") == "Y"


def test_it_runs_version_1_from_slot_a_and_nothing_failed(vm: Machine) -> None:
    assert (vm.booted_slot(), vm.image_version()) == ("a", 1)
    assert vm.succeed(["systemctl", "--failed", "--no-legend", "--plain"]) == ""
    assert vm.succeed(["systemctl", "is-system-running"]).strip() == "running"


def test_the_root_is_sealed_and_the_data_partition_is_encrypted_and_runs_nothing(vm: Machine) -> None:
    mounts = {line.split()[1]: line.split() for line in vm.text("/proc/mounts").splitlines()}
    device, _, kind, options = mounts["/"][:4]
    assert (device, kind) == ("/dev/mapper/root", "erofs")
    assert "ro" in options.split(",")
    device, _, kind, options = mounts["/var"][:4]
    assert (device, kind) == ("/dev/mapper/data", "ext4")
    assert {"nosuid", "nodev", "noexec"} <= set(options.split(","))
    luks = vm.python("result = open('/dev/disk/by-partlabel/data', 'rb').read(8).hex()")
    assert bytes.fromhex(luks) == b"LUKS\xba\xbe\x00\x02"


def test_every_kernel_setting_of_ours_is_in_force(vm: Machine) -> None:
    wanted = dict(line.split(" = ", 1) for line in SYSCTLS.read_text().splitlines() if " = " in line)
    found = vm.python(
        f"names = {list(wanted)!r}\n"
        "from pathlib import Path\n"
        "result = {name: Path('/proc/sys/' + name.replace('.', '/')).read_text() for name in names}"
    )
    assert len(wanted) > 40
    assert {name: " ".join(value.split()) for name, value in found.items()} == wanted


def test_nothing_listens(vm: Machine) -> None:
    tables = vm.python(
        "result = {}\n"
        "for name in ('tcp', 'udp', 'udplite', 'raw', 'icmp', 'packet'):\n"
        "    try: result[name] = open('/proc/net/' + name).read().splitlines()[1:]\n"
        "    except FileNotFoundError: pass"
    )
    assert [line for line in tables.pop("tcp") if line.split()[3] == LISTEN] == []
    assert {name: lines for name, lines in tables.items() if lines} == {}
    assert not vm.python("import os\nresult = os.path.exists('/proc/net/if_inet6')"), "IPv6 is on"


def test_from_power_on_it_speaks_to_the_peers_of_its_conduits_and_to_nobody_else(first_boot: Snapshot) -> None:
    packets = read_packets(_capture(first_boot))
    spoken = [packet for packet in packets if packet.kind == "tcp"]
    assert any(packet.target == f"{BROKER_ADDRESS}:{BROKER_PORT}" for packet in spoken), "it never reached the broker"
    assert [packet for packet in packets if not _allowed(packet)] == []


def test_a_crash_leaves_no_core_dump(vm: Machine) -> None:
    crash = "import os, resource; resource.setrlimit(resource.RLIMIT_CORE, (-1, -1)); os.chdir('/var/tmp'); os.abort()"
    assert vm.run(["python3", "-I", "-c", crash]).rc == -6
    assert vm.python("import os\nresult = os.listdir('/var/tmp')") == []
    assert vm.text("/proc/sys/kernel/core_pattern") == "|/bin/false"


def test_the_boot_is_in_the_audit_log(vm: Machine) -> None:
    events = vm.audit_events()
    assert events[:3] == ["log-began", "epoch-began", "boot-started"]
    for kind in ("boot-started", "recovery-key-escrowed", "model-loaded", "broker-connected", "boot-judged"):
        assert kind in events


def _capture(snapshot: Snapshot) -> Path:
    return snapshot.memory.with_name("network.pcap")


def _allowed(packet: Packet) -> bool:
    peers = {
        BROKER_ADDRESS: f"{BROKER_ADDRESS}:{BROKER_PORT}",
        VENDOR_ADDRESS: f"{VENDOR_ADDRESS}:{VENDOR_PORT}",
        SITE_ADDRESS: f"{SITE_ADDRESS}:{SITE_PORT}",
    }
    if packet.kind == "arp":
        return packet.source in (DEVICE_ADDRESS, *peers, "10.0.2.2", "0.0.0.0")
    device = f"{DEVICE_ADDRESS}:"
    return packet.kind == "tcp" and (
        (packet.source.startswith(device) and packet.target in peers.values())
        or (packet.target.startswith(device) and packet.source in peers.values())
    )
