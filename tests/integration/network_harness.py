"""edgeseal-network as the device runs it: its Python, its libnftables, its python3-nftables, from the image's lock.

It runs in a network namespace of its own, where a test may change the ruleset behind its back. The audit log is the
real service. Needs root, as the packet filter does.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from appliance.formats.audit_log import LogEntry
from appliance.formats.device import (
    DeviceConfig,
    FrameSource,
    InferenceConfig,
    Namespace,
    UplinkConfig,
    encode_device_config,
)
from appliance.formats.network_policy import NetworkPolicy, encode_network_policy
from builder.archive.fetch import fetch
from builder.host.paths import source_root
from builder.host.toolstree import default_pool, tools_tree
from builder.lock.codec import decode_lock
from builder.lock.store import lock_path
from builder.network.ruleset import compile_ruleset
from builder.rootfs.files import SERVICE_UIDS
from builder.rootfs.layers import find_package, package_tree, wheel_tree
from tests.integration.services_harness import Service, listening_socket, wait_until
from tests.support.audit_log import audit_program, read_log

PROFILE = "virtual-x86_64"
SITE = "/run/site"
SENDER = """
import contextlib, socket, sys
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(int(sys.argv[3])):
    with contextlib.suppress(PermissionError):
        sender.sendto(b"", (sys.argv[1], int(sys.argv[2])))
"""
TO_ITSELF = """
import socket
listener = socket.create_server(("127.0.0.1", 0))
socket.create_connection(listener.getsockname(), timeout=2).close()
"""
FIGHTER = """
import sys, nftables
nft = nftables.Nftables()
print("ready", flush=True)
while True:
    nft.cmd(sys.argv[1])
"""
LISTENER = """
import time
from appliance.network.sockets import DropSocket
held = DropSocket()
print("ready", flush=True)
time.sleep(600)
"""
NETWORK = """
from pathlib import Path
from appliance.machine.entry import run_service
from appliance.network.service import serve
from appliance.network.settings import Settings
settings = Settings(ruleset=Path({ruleset!r}), policy=Path({policy!r}), audit_socket={audit!r}, flush_s=2.0)
raise SystemExit(run_service(lambda: serve(settings)))
"""


def device_packages() -> dict[Path, str]:
    """What the device has beside the tools: python3-nftables and msgspec, from the lock of its image."""
    lock = decode_lock(lock_path(PROFILE).read_bytes(), file=PROFILE)
    package = find_package(lock, "python3-nftables")
    wheel = next(wheel for wheel in lock.wheels if wheel.name == "msgspec")
    pool = default_pool()
    fetch(msgspec.structs.replace(lock, packages=(package,), wheels=(wheel,)), pool, offline=False)
    return {
        package_tree(package, pool) / "usr/lib/python3/dist-packages/nftables": f"{SITE}/nftables",
        wheel_tree(wheel, pool) / "msgspec": f"{SITE}/msgspec",
        source_root() / "appliance": f"{SITE}/appliance",
    }


@dataclass
class NetworkDevice:
    """A network namespace with the service's files. cgroups: what the service sees as the cgroup tree."""

    directory: Path
    namespace: int
    packages: Mapping[Path, str]
    cgroups: Path
    audit: Service
    process: subprocess.Popen[bytes] | None = None
    said: list[str] = field(default_factory=list)

    # ---- files

    @property
    def ruleset(self) -> Path:
        return self.directory / "nftables.conf"

    def seal(self, policy: NetworkPolicy) -> None:
        """Put policy and ruleset where the root has them."""
        (self.directory / "network.json").write_bytes(encode_network_policy(policy))
        self.ruleset.write_bytes(compile_ruleset(policy, name="test", uids=SERVICE_UIDS))

    def site_says(self, data: bytes) -> None:
        """The credential edgeseal.network."""
        (self.directory / "credentials" / "edgeseal.network").write_bytes(data)

    def start_unit(self, service: str) -> Path:
        """The cgroup of a unit appears."""
        path = self.cgroups / "system.slice" / f"edgeseal-{service}.service"
        path.mkdir(parents=True)
        return path

    # ---- programs inside

    def command(self, words: Sequence[str], *, network: int | None = None) -> list[str]:
        """A program of the device in its network namespace, as root there."""
        tree = tools_tree().root
        bound = [f"--ro-bind {source} {inside}".split() for source, inside in self.packages.items()]
        return [
            *("nsenter", f"--net=/proc/{network or self.namespace}/ns/net", "bwrap", "--die-with-parent", "--clearenv"),
            *("--ro-bind", f"{tree}/usr", "/usr", "--ro-bind", f"{tree}/etc", "/etc"),
            *(word for name in ("bin", "sbin", "lib", "lib64") for word in ("--symlink", f"usr/{name}", f"/{name}")),
            *("--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--dir", "/run"),
            *("--ro-bind", "/sys", "/sys", "--ro-bind", str(self.cgroups), "/sys/fs/cgroup"),
            *(word for words in bound for word in words),
            *("--bind", str(self.directory), str(self.directory)),
            *("--setenv", "PATH", "/usr/sbin:/usr/bin", "--setenv", "LC_ALL", "C.UTF-8"),
            *("--setenv", "PYTHONPATH", SITE, "--setenv", "PYTHONDONTWRITEBYTECODE", "1"),
            *("--setenv", "CREDENTIALS_DIRECTORY", str(self.directory / "credentials")),
            *("--setenv", "NOTIFY_SOCKET", str(self.directory / "notify")),
            "--",
            *words,
        ]

    def nft(self, commands: str, *options: str) -> str:
        """Change or ask the ruleset as anybody with the right might; the device's own nft."""
        done = subprocess.run(
            self.command(["nft", *options, "-f", "-"]), input=commands.encode(), capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def listed(self) -> str:
        return self.nft("list ruleset\n", "--numeric")

    def load_as_at_boot(self) -> None:
        """What edgeseal-ruleset.service does."""
        subprocess.run(self.command(["nft", "--file", str(self.ruleset)]), check=True)

    def link_up(self, name: str, address: str) -> None:
        """An interface with nobody at its other end."""
        self._inside("sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6")  # it would speak by itself
        self._inside("ip", "link", "add", name, "type", "veth", "peer", "name", "nobody")
        self._inside("ip", "addr", "add", address, "dev", name)
        for end in (name, "nobody"):
            self._inside("ip", "link", "set", end, "up")

    def send_udp(self, address: str, port: int, *, packets: int = 1) -> None:
        """As root, which is no service: the ruleset refuses it, and the socket says so."""
        self._inside(sys.executable, "-c", SENDER, address, str(port), str(packets))

    def reaches_itself(self) -> bool:
        """Whether a connection comes through loopback."""
        self._inside("ip", "link", "set", "lo", "up")
        return self._inside(sys.executable, "-c", TO_ITSELF, check=False) == 0

    @contextmanager
    def fighter(self, commands: str) -> Iterator[None]:
        """A process that changes the ruleset again and again, without a pause."""
        with self._beside("-c", FIGHTER, commands):
            yield

    @contextmanager
    def listener_of_drops(self) -> Iterator[None]:
        """A process that has the group of the kernel's log that drops go to."""
        with self._beside("-c", LISTENER):
            yield

    @contextmanager
    def _beside(self, *words: str) -> Iterator[None]:
        """The device's Python runs a program that says when it has begun."""
        with subprocess.Popen(self.command(["python3", *words]), stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            try:
                yield
            finally:
                process.kill()

    def _inside(self, *words: str, check: bool = True) -> int:
        return subprocess.run(
            ["nsenter", f"--net=/proc/{self.namespace}/ns/net", *words], capture_output=True, check=check
        ).returncode

    # ---- the service

    def start(self) -> NetworkDevice:
        """Start the service and wait until it is ready."""
        self.launch()
        wait_until(lambda: self._heard("READY=1"), f"the service to be ready\n{self.log}")
        return self

    def launch(self) -> None:
        """Start the service."""
        program = NETWORK.format(
            ruleset=str(self.ruleset),
            policy=str(self.directory / "network.json"),
            audit=str(self.directory / "audit.sock"),
        )
        self.said.clear()
        with (self.directory / "network.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(["python3", "-c", program]), stderr=log, stdout=log, stdin=subprocess.DEVNULL
            )

    def stop(self) -> int:
        """SIGTERM, and its exit status."""
        assert self.process is not None
        os.kill(self._pid, signal.SIGTERM)
        status = self.process.wait(60)
        self.process = None
        return status

    def end(self) -> int:
        """The exit status of a service that ends by itself."""
        assert self.process is not None
        status = self.process.wait(60)
        self.process = None
        return status

    @contextmanager
    def halted(self) -> Iterator[None]:
        """It gets no processor time for the length of a block."""
        os.kill(self._pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._pid, signal.SIGCONT)

    @property
    def log(self) -> str:
        return (self.directory / "network.log").read_text()

    # ---- what was told

    def entries(self, kind: str) -> list[LogEntry]:
        """The audit log's entries of a kind, its signature and its tree verified."""
        return [entry for entry in read_log(self.directory / "tlog") if entry.event.kind == kind]

    def fields(self, kind: str) -> list[dict[str, str | int | bool]]:
        return [entry.event.fields for entry in self.entries(kind)]

    def wait_for(self, kind: str, number: int = 1) -> dict[str, str | int | bool]:
        """The fields of the entry of a kind that is the `number`th."""
        wait_until(lambda: len(self.entries(kind)) >= number, f"{kind} number {number}\n{self.log}")
        return self.entries(kind)[number - 1].event.fields

    def processor_s(self) -> float:
        """Processor time that the service has used."""
        words = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def _pid(self) -> int:
        """Of the service; bubblewrap waits for it."""
        assert self.process is not None
        pid = self.process.pid
        while children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            pid = int(children[0])
        return pid

    def _heard(self, word: str) -> bool:
        if any(word in text for text in self.said):
            return True
        assert self.process is not None
        assert self.process.poll() is None, f"the service ended with {self.process.poll()}: {self.log}"
        return False


@contextmanager
def network_device(directory: Path, policy: NetworkPolicy) -> Iterator[NetworkDevice]:
    """A device with `policy` sealed into it, nothing loaded yet, the audit log running."""
    cgroups = _unified() / f"edgeseal-test-{os.getpid()}-{directory.name}"
    cgroups.mkdir()
    (directory / "credentials").mkdir()
    (directory / "device.json").write_bytes(encode_device_config(_config()))
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(str(directory / "notify"))
    listener = listening_socket(directory / "audit.sock")
    program = audit_program(directory, directory / "device.json")
    audit = Service("audit", program, directory, listener=listener).ready()
    with new_namespace() as namespace:
        device = NetworkDevice(directory, namespace, device_packages(), cgroups, audit)
        device.seal(policy)
        threading.Thread(target=_listen, args=(notify, device.said), daemon=True).start()
        try:
            yield device
        finally:
            if device.process is not None:
                device.process.kill()
                device.process.wait()
            audit.stop()
            for path in sorted((path for path in cgroups.rglob("*") if path.is_dir()), reverse=True):
                path.rmdir()
            cgroups.rmdir()


@contextmanager
def new_namespace() -> Iterator[int]:
    """A network namespace; the process that holds it."""
    with subprocess.Popen(["unshare", "--net", "sleep", "infinity"]) as holder:
        own, new = Path("/proc/self/ns/net").readlink(), Path(f"/proc/{holder.pid}/ns/net")
        wait_until(lambda: new.readlink() != own, "a network namespace")
        try:
            yield holder.pid
        finally:
            holder.kill()


def _listen(notify: socket.socket, said: list[str]) -> None:
    while True:
        said.append(notify.recv(4096).decode())


def _config() -> DeviceConfig:
    return DeviceConfig(
        product="net",
        profile="net",
        version=1,
        development=True,
        inference=InferenceConfig(model="none", source=FrameSource(kind="virtio")),
        uplink=UplinkConfig(namespace=Namespace(enterprise="example", site="net")),
    )


def _unified() -> Path:
    """Where cgroup v2 is."""
    unified = Path("/sys/fs/cgroup/unified")
    return unified if unified.is_dir() else unified.parent
