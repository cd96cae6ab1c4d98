"""One process in a network namespace of its own, and the calls that it takes. The lab is a handful of these.

`Station` runs inside (`python -m tests.support.netlab_station FD`), `start` gives the other end: a `Remote` whose
methods are those of `Station`. A namespace lives as long as its process: nothing is left behind when a test is killed.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import select
import shlex
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.support.netlab_vlan import add_vlan, mac_of

ROOT = Path(__file__).resolve().parents[2]
CGROUPS = Path("/sys/fs/cgroup")
SO_MARK = 36
IPV6_HDRINCL = 36
ETH_P_ALL = 3
_LENGTH = struct.Struct("!I")


class Identity:
    """Who sends on the device: a user and a cgroup, by its path in cgroup v2. None: that of the lab's own process."""

    def __init__(self, uid: int, cgroup: str | None) -> None:
        self.uid, self.cgroup = uid, cgroup

    def __repr__(self) -> str:
        return f"user {self.uid} in {Path(self.cgroup).name if self.cgroup else 'no cgroup of ours'}"


class Station:
    """What a process in a namespace does when it is told. Sockets are named by the number that opening them gave."""

    def __init__(self) -> None:
        self._sockets: dict[int, socket.socket] = {}
        self._raw: dict[tuple[int, int, str | None], int] = {}
        self._wires: dict[str, socket.socket] = {}
        self._held: list[int] = []

    # ---- the namespace itself

    def command(self, words: Sequence[str], text: str = "") -> str:
        """Run a program here. Raises RuntimeError with what it said when it fails."""
        done = subprocess.run(words, input=text, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip() or done.returncode}")
        return done.stdout

    def vlan(self, parent: str, name: str, tag: int) -> None:
        """Add the VLAN link `name`; it lives as long as this process."""
        self._held += add_vlan(parent, name, tag)

    def mac(self, interface: str) -> str:
        return mac_of(interface)

    def sysctl(self, values: dict[str, str]) -> None:
        for name, value in values.items():
            (Path("/proc/sys") / name).write_text(value)

    def forget_connections(self) -> None:
        """Empty the connection tracking table: IPCTNL_MSG_CT_DELETE without a filter."""
        kind, flags = 1 << 8 | 2, 1 | 4  # NFNL_SUBSYS_CTNETLINK; NLM_F_REQUEST, NLM_F_ACK
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as netfilter:  # NETLINK_NETFILTER
            netfilter.bind((0, 0))
            netfilter.send(struct.pack("=IHHIIBBH", 20, kind, flags, 1, 0, 0, 0, 0))
            (code,) = struct.unpack_from("=i", netfilter.recv(4096), 16)
        if code:
            raise OSError(-code, f"connections are not forgotten: {os.strerror(-code)}")

    # ---- frames

    def wire(self, interface: str) -> None:
        """Listen for whole frames on `interface` from now on; `frames` gives them."""
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(ETH_P_ALL))
        wire.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
        wire.bind((interface, ETH_P_ALL))
        self._wires[interface] = wire

    def send_frames(self, interface: str, frames: Iterable[bytes]) -> None:
        """Put frames onto `interface` as they are."""
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as wire:
            wire.bind((interface, 0))
            for frame in frames:
                wire.send(frame)

    def frames(self, interface: str, seconds: float = 0.0) -> list[bytes]:
        """What came in on `interface` since the last call; waits up to `seconds` for the first frame."""
        found: list[bytes] = []
        wire = self._wires[interface]
        select.select([wire], [], [], seconds)
        while True:
            try:
                frame, where = wire.recvfrom(65535)
            except BlockingIOError:
                return found
            if where[2] != socket.PACKET_OUTGOING:
                found.append(frame)

    def time_frame(self, interface: str, frame: bytes, count: int) -> float:
        """Seconds that `count` times the same frame take, until the other end has decided about the last one."""
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as wire:
            wire.bind((interface, 0))
            begun = time.perf_counter()
            for _ in range(count):
                wire.send(frame)
            return time.perf_counter() - begun

    def time_datagram(self, number: int, address: tuple[Any, ...], count: int) -> float:
        """Seconds that `count` datagrams take, also when the ruleset refuses them."""
        used = self._sockets[number]
        begun = time.perf_counter()
        for _ in range(count):
            with suppress(PermissionError):
                used.sendto(b"", address)
        return time.perf_counter() - begun

    # ---- sockets with an identity

    def open(self, identity: Identity, family: int, kind: int, protocol: int = 0) -> int:
        """A socket that a process with this user, in this cgroup, has opened."""
        made = _opened_by(identity, family, kind, protocol)
        self._sockets[made.fileno()] = made
        return made.fileno()

    def bind(self, number: int, address: tuple[Any, ...], listen: bool = False) -> None:
        self._sockets[number].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._sockets[number].bind(address)
        if listen:
            self._sockets[number].listen(64)

    def connect(self, number: int, address: tuple[Any, ...], seconds: float) -> bool:
        """Whether the connection came about in time."""
        used = self._sockets[number]
        used.settimeout(seconds)
        try:
            used.connect(address)
        except OSError:
            return False
        return True

    def accept(self, number: int, seconds: float) -> int | None:
        self._sockets[number].settimeout(seconds)
        try:
            made, _ = self._sockets[number].accept()
        except TimeoutError:
            return None
        self._sockets[made.fileno()] = made
        return made.fileno()

    def send(self, number: int, data: bytes, address: tuple[Any, ...] | None = None) -> bool:
        """Whether the kernel took it: a packet that the ruleset drops on output is EPERM here."""
        try:
            if address is None:
                self._sockets[number].sendall(data)
            else:
                self._sockets[number].sendto(data, address)
        except OSError:
            return False
        return True

    def receive(self, number: int, seconds: float) -> tuple[bytes, Any] | None:
        """Data and the sender, or None when nothing came in time. Empty data: the other end has closed."""
        self._sockets[number].settimeout(seconds)
        try:
            return self._sockets[number].recvfrom(65535)
        except OSError:
            return None

    def name(self, number: int) -> Any:
        return self._sockets[number].getsockname()

    def option(self, number: int, level: int, name: int, value: int | bytes) -> None:
        self._sockets[number].setsockopt(level, name, value)

    def close(self, number: int) -> None:
        self._sockets.pop(number).close()

    def send_packets(self, packets: Iterable[tuple[Identity, int, bytes, str]]) -> list[int]:
        """Send whole IP packets through raw sockets: (who, mark, packet, device). Gives errno of each, 0 for sent."""
        return [self._send_packet(*packet) for packet in packets]

    def _send_packet(self, identity: Identity, mark: int, packet: bytes, device: str) -> int:
        family = socket.AF_INET if packet[0] >> 4 == 4 else socket.AF_INET6
        key = (family, identity.uid, f"{identity.cgroup} {device}")
        if key not in self._raw:
            self._raw[key] = self._open_raw(identity, family, device)
        used = self._sockets[self._raw[key]]
        used.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
        if family == socket.AF_INET:
            target: tuple[Any, ...] = (socket.inet_ntoa(packet[16:20]), 0)
        else:
            target = (socket.inet_ntop(socket.AF_INET6, packet[24:40]), 0, 0, 0)
        try:
            used.sendto(packet, target)
        except OSError as error:
            return error.errno or -1
        return 0

    def _open_raw(self, identity: Identity, family: int, device: str) -> int:
        number = self.open(identity, family, socket.SOCK_RAW, socket.IPPROTO_RAW)
        used = self._sockets[number]
        used.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        used.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 << 20)
        used.setblocking(False)
        if family == socket.AF_INET6:
            used.setsockopt(socket.IPPROTO_IPV6, IPV6_HDRINCL, 1)
        else:
            used.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        return number


def _opened_by(identity: Identity, family: int, kind: int, protocol: int) -> socket.socket:
    """The kernel notes user and cgroup when a socket is made: a child takes both on, makes it and hands it over."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        try:
            if identity.cgroup is not None:
                (CGROUPS / identity.cgroup / "cgroup.procs").write_text(str(os.getpid()))
            if kind == socket.SOCK_RAW:  # its right has to outlive the change of user: only the user of files changes
                ctypes.CDLL(None).setfsuid(identity.uid)
            else:
                os.setgroups([])
                os.setresuid(identity.uid, identity.uid, identity.uid)
            made = socket.socket(family, kind, protocol)
            socket.send_fds(theirs, [b"x"], [made.fileno()])
        finally:
            os._exit(0)
    with ours, theirs:
        theirs.close()
        _, numbers, _, _ = socket.recv_fds(ours, 1, 1)
        os.waitpid(child, 0)
    if not numbers:
        raise RuntimeError(f"no socket for {identity}")
    return socket.socket(fileno=numbers[0])


class Remote:
    """A `Station` in another process: its methods, called from here."""

    def __init__(self, process: subprocess.Popen[bytes], line: socket.socket) -> None:
        self.process, self._line = process, line

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            _put(self._line, (name, arguments))
            fine, answer = _take(self._line)
            if not fine:
                raise RuntimeError(answer)
            return answer

        return call

    def stop(self) -> None:
        self._line.close()
        self.process.wait(timeout=10)


def start(*, cgroups: Path | None = None) -> Remote:
    """A new namespace with a process in it. cgroups: where cgroup v2 is; nft looks for it at CGROUPS only."""
    ours, theirs = socket.socketpair()
    words = [sys.executable, "-m", "tests.support.netlab_station", str(theirs.fileno())]
    if cgroups is None:
        words = ["unshare", "--net", *words]
    else:
        mounted = ["mount", "--bind", str(cgroups), str(CGROUPS)]
        words = ["unshare", "--net", "--mount", "sh", "-c", f"{shlex.join(mounted)} && exec {shlex.join(words)}"]
    process = subprocess.Popen(words, pass_fds=[theirs.fileno()], cwd=ROOT)
    theirs.close()
    return Remote(process, ours)


def _put(line: socket.socket, value: Any) -> None:
    data = pickle.dumps(value)
    line.sendall(_LENGTH.pack(len(data)) + data)


def _take(line: socket.socket) -> Any:
    (size,) = _LENGTH.unpack(_exactly(line, _LENGTH.size))
    return pickle.loads(_exactly(line, size))


def _exactly(line: socket.socket, size: int) -> bytes:
    parts = []
    while size:
        part = line.recv(min(size, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def main(number: int) -> None:
    """Take calls until the other end closes."""
    station = Station()
    with socket.socket(fileno=number) as line:
        while True:
            try:
                name, arguments = _take(line)
            except EOFError:
                return
            try:
                answer = (True, getattr(station, name)(*arguments))
            except Exception as error:
                answer = (False, f"{type(error).__name__}: {error}")
            _put(line, answer)


if __name__ == "__main__":
    from tests.support.netlab_station import main as serve  # one module, so that pickled names are the same

    serve(int(sys.argv[1]))
