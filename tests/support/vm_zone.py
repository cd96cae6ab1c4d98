"""A host in a zone of a virtual device: a network namespace of this machine, on the hub of one of its network cards."""

from __future__ import annotations

import socket
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from builder.vm.arguments import NETWORK_CARDS
from builder.vm.deadline import wait_until
from builder.vm.machine import VirtualMachine

TAP, ROUTER = "zone0", "net"
# Runs inside the namespace: opens a tap device there and sends the open file to who started it.
_OPEN_TAP = f"""
import fcntl, os, socket, struct
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
tap = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", b"{TAP}", IFF_TAP | IFF_NO_PI))
socket.send_fds(socket.socket(fileno=0), [b"t"], [tap])
"""


@dataclass(frozen=True)
class Ports:
    """What a scan saw. states: `open`, `closed`, `filtered` -> how many ports."""

    states: dict[str, int]
    scanned: int


@dataclass(frozen=True)
class ZoneHost:
    """holder: the process whose network namespace it is. device: the device's address there."""

    holder: int
    device: str

    def run(self, words: Sequence[str], *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A program of this machine, in the zone."""
        command = ["nsenter", f"--net=/proc/{self.holder}/ns/net", *words]
        return subprocess.run(command, capture_output=True, text=True, check=check)

    def scan(self, *options: str) -> Ports:
        """nmap against the device, without asking first whether it is there."""
        return read_scan(self._nmap("-Pn", "-T5", "--max-retries", "0", *options))

    def answers_echo(self) -> bool:
        """Whether the device answers an echo request within some seconds."""
        said = self._nmap("-sn", "-PE", "--host-timeout", "20s")
        status = ElementTree.fromstring(said).find("host/status")
        return status is not None and status.attrib["state"] == "up"

    def _nmap(self, *options: str) -> str:
        """Its XML. By the kernel's own table it knows the device's link address: it does not ask."""
        quiet = ("-n", "--disable-arp-ping", "--send-ip")
        return self.run(["nmap", *quiet, "-oX", "-", *options, self.device]).stdout


def read_scan(said: str) -> Ports:
    """nmap's XML: ports by state, those that it only counts included."""
    root = ElementTree.fromstring(said)
    states: dict[str, int] = {}
    for port in root.iter("port"):
        state = port.find("state")
        assert state is not None
        states[state.attrib["state"]] = states.get(state.attrib["state"], 0) + 1
    for extra in root.iter("extraports"):
        states[extra.attrib["state"]] = states.get(extra.attrib["state"], 0) + int(extra.attrib["count"])
    info = root.find("scaninfo")
    assert info is not None, said
    return Ports(states, int(info.attrib["numservices"]))


@contextmanager
def zone_host(machine: VirtualMachine, link: str, address: str, device: str) -> Iterator[ZoneHost]:
    """A host with `address`/prefix length on `link` of a running machine. device: the device's address there.

    It knows the device's link address without asking, and on the uplink the emulator's router is cut off: what is
    refused, the device refuses itself, and nobody answers in its place.
    """
    hub = next(hub for hub, card in enumerate(NETWORK_CARDS["x86_64"]) if card[0] == link)
    mac = NETWORK_CARDS["x86_64"][hub][2]
    name = f"{link}-zone"
    with _namespace() as holder:
        host = ZoneHost(holder, device)
        tap = _open_tap(host)
        host.run(["ip", "addr", "add", address, "dev", TAP])
        host.run(["ip", "link", "set", TAP, "up"])
        host.run(["ip", "neigh", "replace", device, "lladdr", mac, "dev", TAP])
        with tap:
            machine.qmp.hand_over(tap.fileno(), name)
        machine.qmp.execute("netdev_add", type="tap", id=name, fd=name)
        machine.qmp.execute("netdev_add", type="hubport", id=f"{name}-port", hubid=hub, netdev=name)
        if link == "uplink":
            machine.qmp.execute("set_link", name=ROUTER, up=False)
        try:
            yield host
        finally:
            if link == "uplink":
                machine.qmp.execute("set_link", name=ROUTER, up=True)
            machine.qmp.execute("netdev_del", id=f"{name}-port")
            machine.qmp.execute("netdev_del", id=name)


@contextmanager
def _namespace() -> Iterator[int]:
    with subprocess.Popen(["unshare", "--net", "sleep", "infinity"]) as holder:
        own, new = Path("/proc/self/ns/net").readlink(), Path(f"/proc/{holder.pid}/ns/net")
        wait_until(lambda: new.readlink() != own, what="a network namespace", within_s=20)
        try:
            yield holder.pid
        finally:
            holder.kill()


class _Open:
    """A file by its descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._file = open(descriptor, "r+b", buffering=0)  # noqa: SIM115

    def fileno(self) -> int:
        return self._file.fileno()

    def __enter__(self) -> _Open:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _open_tap(host: ZoneHost) -> _Open:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = ["nsenter", f"--net=/proc/{host.holder}/ns/net", sys.executable, "-c", _OPEN_TAP]
        subprocess.run(command, stdin=theirs, check=True)
        _, [descriptor], _, _ = socket.recv_fds(ours, 1, 1)
    return _Open(descriptor)
