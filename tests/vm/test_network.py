"""Zones and conduits on the booted image: what is scanned, who reaches whom, what is told, what is put right."""

from __future__ import annotations

import re
import time

import pytest

from appliance.formats.identities import USERS
from builder.vm.config import BROKER_ADDRESS, BROKER_PORT
from builder.vm.deadline import IN_GUEST_S, wait_until
from builder.vm.repositories import VENDOR_ADDRESS, VENDOR_PORT
from tests.support.machine import Machine
from tests.support.vm_zone import zone_host

pytestmark = pytest.mark.xdist_group("vm-thawed")

DEVICE = {"uplink": "10.0.2.15", "cell": "192.168.30.10"}
# (zone, link, a host of it): two zones lie behind one link; the last two hosts are in no zone, or in no conduit
ZONES = [
    ("site", "uplink", "10.0.2.5/24"),
    ("vendor-dmz", "uplink", "10.0.2.101/24"),
    ("cell", "cell", "192.168.30.20/24"),
    ("cell, no peer of any conduit", "cell", "192.168.30.200/24"),
]
RULESET = "/usr/lib/edgeseal/nftables.conf"
TELL_S = 120.0


@pytest.mark.parametrize(("zone", "link", "address"), ZONES, ids=[zone for zone, _, _ in ZONES])
def test_a_scan_finds_nothing(vm: Machine, zone: str, link: str, address: str) -> None:
    before = dropped(vm)
    with zone_host(vm.vm, link, address, DEVICE[link]) as host:
        tcp = host.scan("-sS", "-p-", "--min-rate", "3000")
        udp = host.scan("-sU", "--top-ports", "200", "--min-rate", "1000")
        assert (tcp.states, tcp.scanned) == ({"filtered": 65_535}, 65_535)
        assert (udp.states, udp.scanned) == ({"open|filtered": 200}, 200)
    assert dropped(vm) - before > 50_000, "the scan did not reach the device"
    assert told_drop(vm, reason="in-no-conduit", source=address.partition("/")[0])


def test_the_scan_would_see_a_device_that_is_open(vm: Machine) -> None:
    """Without a ruleset, and without who puts it back, the kernel answers for ports that nobody listens on."""
    vm.succeed(["systemctl", "stop", "edgeseal-network.service"])
    vm.succeed(["nft", "flush", "ruleset"])
    for link, address in (("uplink", "10.0.2.5/24"), ("cell", "192.168.30.20/24")):
        with zone_host(vm.vm, link, address, DEVICE[link]) as host:
            assert host.scan("-sS", "--top-ports", "20").states == {"closed": 20}


def test_what_the_cell_may_ask_is_answered_and_nothing_else(vm: Machine) -> None:
    with zone_host(vm.vm, "cell", "192.168.30.20/24", DEVICE["cell"]) as technician:
        assert technician.answers_echo()
    with zone_host(vm.vm, "cell", "192.168.30.200/24", DEVICE["cell"]) as stranger:
        assert not stranger.answers_echo()


def test_only_the_uplink_reaches_the_broker(vm: Machine) -> None:
    def attempt(cgroup: str, user: str) -> str:
        uid = USERS.get(f"edgeseal-{user}", 0)
        return vm.vm.agent.connect(
            unit=f"edgeseal-{cgroup}.service", uid=uid, address=BROKER_ADDRESS, port=BROKER_PORT, timeout_s=3
        )

    assert attempt("uplink", "uplink") == "connected"
    for cgroup, user in (
        ("update", "update"),
        ("inference", "inference"),
        ("agent", "root"),
        ("agent", "uplink"),  # the user alone is not enough
        ("update", "uplink"),
        ("uplink", "update"),  # nor is the control group
        ("uplink", "root"),
    ):
        assert attempt(cgroup, user) == "no answer", f"{user} in {cgroup}"
    assert told_drop(vm, reason="out-wrong-service", destination=BROKER_ADDRESS, port=BROKER_PORT)
    assert (
        vm.vm.agent.connect(
            unit="edgeseal-uplink.service", uid=USERS["edgeseal-uplink"], address=VENDOR_ADDRESS, port=VENDOR_PORT
        )
        == "no answer"
    )


def test_a_rule_from_outside_is_told_and_put_right(vm: Machine) -> None:
    vm.succeed(["nft", "insert", "rule", "inet", "edgeseal", "input", "tcp", "dport", "22", "accept"])
    wait_until(
        lambda: "ruleset-restored" in vm.audit_events(), what="it is put right", within_s=TELL_S, every_s=IN_GUEST_S
    )
    assert "dport 22" not in vm.succeed(["nft", "list", "ruleset"])
    [told] = [entry.event.fields for entry in vm.audit_log() if entry.event.kind == "ruleset-drift"]
    assert told["differences"] == "chain inet edgeseal input: rule added: tcp dport 22 accept"
    assert re.fullmatch(r"nft \(process \d+\)", str(told["by"]))


def test_a_service_that_starts_again_keeps_its_conduit_and_is_no_drift(vm: Machine) -> None:
    seen = vm.audit_events().count("broker-connected")
    vm.succeed(["systemctl", "restart", "edgeseal-uplink.service"])
    wait_until(
        lambda: vm.audit_events().count("broker-connected") > seen,
        what="it is back",
        within_s=TELL_S,
        every_s=IN_GUEST_S,
    )
    time.sleep(5)  # longer than a difference may pass by itself
    assert "ruleset-drift" not in vm.audit_events()


def test_the_boot_says_what_is_in_force(vm: Machine) -> None:
    digest = vm.python(f"import hashlib\nresult = hashlib.sha256(open('{RULESET}', 'rb').read()).hexdigest()")
    entries = {entry.event.kind: entry for entry in vm.audit_log()}
    assert entries["ruleset-loaded"].event.fields["sha256"] == digest
    assert entries["ruleset-loaded"].event.fields["closed"] == 0
    assert entries["ruleset-loaded"].sender.unit == "edgeseal-network.service"
    assert entries["slot-filled"].event.fields == {"slot": "broker", "addresses": BROKER_ADDRESS}
    assert not {"ruleset-drift", "ruleset-load-failed", "slots-refused", "drops-unseen"} & entries.keys()
    listed = vm.succeed(["nft", "list", "set", "inet", "edgeseal", "cg_uplink"])
    assert '"system.slice/edgeseal-uplink.service"' in listed
    assert "NFT" not in vm.succeed(["journalctl", "-b", "-p", "warning", "--no-pager", "-o", "cat", "_PID=1"])


def test_a_ruleset_that_cannot_be_loaded_leaves_the_device_closed(vm: Machine) -> None:
    """The sealed file is covered by a broken one; then what a boot does is done again: no interface comes up."""
    broken = vm.read(RULESET).replace(b"goto x_in-spoofed", b"goto nowhere")
    vm.write("/run/broken.conf", broken, mode=0o644)
    vm.succeed(["systemctl", "stop", "systemd-networkd.service", "systemd-networkd.socket", "edgeseal-ruleset.service"])
    vm.succeed(["mount", "--bind", "/run/broken.conf", RULESET])
    vm.python(DOWN)
    vm.fail(["systemctl", "start", "systemd-networkd.service"])
    assert vm.run(["systemctl", "show", "-P", "ActiveState", "systemd-networkd.service"]).stdout.strip() == "inactive"
    assert vm.run(["systemctl", "show", "-P", "ActiveState", "edgeseal-ruleset.service"]).stdout.strip() == "failed"
    for link in ("uplink0", "cell0"):
        assert int(vm.text(f"/sys/class/net/{link}/flags"), 16) & 1 == 0, f"{link} is up"
    vm.run(["systemctl", "restart", "edgeseal-network.service"])
    wait_until(
        lambda: "ruleset-load-failed" in vm.audit_events(), what="it is told", within_s=TELL_S, every_s=IN_GUEST_S
    )
    [told, *_] = [entry.event.fields for entry in vm.audit_log() if entry.event.kind == "ruleset-load-failed"]
    assert "No such file or directory" in str(told["reason"])
    assert "table inet edgeseal_closed" in vm.succeed(["nft", "list", "ruleset"])


DOWN = """
import fcntl, socket, struct
SIOCSIFFLAGS = 0x8914
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
    for link in (b"uplink0", b"cell0"):
        fcntl.ioctl(door, SIOCSIFFLAGS, struct.pack("16sh14x", link, 0))
"""


def dropped(vm: Machine) -> int:
    """Packets that came in and that no conduit carries, by the ruleset's own counter."""
    listed = vm.succeed(["nft", "list", "chain", "inet", "edgeseal", "x_in-no-conduit"])
    counted = re.search(r"counter packets (\d+)", listed)
    assert counted is not None, listed
    return int(counted[1])


def told_drop(vm: Machine, **wanted: str | int) -> bool:
    """Whether the audit log tells of such a drop; it does within some seconds."""

    def told() -> bool:
        entries = [entry.event.fields for entry in vm.audit_log() if entry.event.kind == "conduit-drop"]
        return any(wanted.items() <= entry.items() for entry in entries)

    return wait_until(told, what=f"the audit log tells of a drop: {wanted}", within_s=TELL_S, every_s=IN_GUEST_S)
