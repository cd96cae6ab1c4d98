"""edgeseal-audit as a real process: its boot, its clock and its TPM are the test's."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

from appliance.formats.audit_event import AuditAnswer, AuditEvent, EventResult, decode_audit_answer, encode_event
from appliance.formats.audit_log import LogEntry
from appliance.formats.device import (
    AuditConfig,
    DeviceConfig,
    FrameSource,
    InferenceConfig,
    Namespace,
    UplinkConfig,
    encode_device_config,
)
from appliance.machine.audit_client import AuditClient
from tests.integration.services_harness import Service, listening_socket
from tests.support.audit_log import audit_program, read_log

DEVICE = "line-3-cell-7"
USUAL = AuditConfig()
FIRST_BOOT, SECOND_BOOT, THIRD_BOOT = ("1" * 32, "2" * 32, "3" * 32)
_BEFORE = """
import socket, time
from pathlib import Path
import appliance.machine.clock as clock
import appliance.audit.service as service
BASE = Path({directory!r})
clock._BOOT_ID = BASE / "boot-id"
real = time.time_ns
clock.time = type("Moved", (), dict(
    time_ns=staticmethod(lambda: real() + int((BASE / "moved-ns").read_text())),
    time=staticmethod(time.time),
    clock_gettime_ns=staticmethod(lambda which: time.clock_gettime_ns(which) + int((BASE / "later-ns").read_text())),
    CLOCK_BOOTTIME=time.CLOCK_BOOTTIME))
def open_tpm(path):
    if not path.exists():
        return None
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path))
    def transmit(command):
        sock.sendall(command)
        return sock.recv(4096)
    return transmit
service.open_tpm = open_tpm
"""


class AuditLab:
    """One device's audit log below a directory."""

    def __init__(self, directory: Path, audit: AuditConfig = USUAL) -> None:
        self.directory = directory
        self.log = directory / "tlog"
        self.socket = directory / "audit.sock"
        self.uplink = directory / "uplink.sock"
        (directory / "credentials").mkdir()
        (directory / "credentials" / "edgeseal.device-id").write_text(DEVICE)
        self.configure(audit)
        self.boot(FIRST_BOOT)
        self.let_pass(0)
        self._listener = listening_socket(self.socket)

    def configure(self, audit: AuditConfig) -> None:
        """From the next start on."""
        config = DeviceConfig(
            product="label-check",
            profile="line-3",
            version=7,
            development=False,
            inference=InferenceConfig(model="orientation", source=FrameSource(kind="virtio")),
            uplink=UplinkConfig(namespace=Namespace(enterprise="example", site="plant")),
            audit=audit,
        )
        (self.directory / "device.json").write_bytes(encode_device_config(config))

    def boot(self, boot_id: str) -> None:
        """The next start is in this boot."""
        (self.directory / "boot-id").write_text(boot_id)

    def move_clock(self, seconds: int) -> None:
        """At once, against the host's; the file is replaced whole."""
        (self.directory / "moved.new").write_text(str(seconds * 1_000_000_000))
        (self.directory / "moved.new").replace(self.directory / "moved-ns")

    def let_pass(self, seconds: int) -> None:
        """So much time at once, for every clock."""
        self.move_clock(seconds)
        (self.directory / "later.new").write_text(str(seconds * 1_000_000_000))
        (self.directory / "later.new").replace(self.directory / "later-ns")

    def start(self) -> Service:
        """Ready."""
        program = audit_program(self.directory, self.directory / "device.json", uplink=self.uplink)
        program = program.replace('base / "no-tpm"', 'base / "tpm.sock"')
        before = _BEFORE.format(directory=str(self.directory))
        return Service("audit", before + program, self.directory, listener=self._listener).ready()

    @contextlib.contextmanager
    def running(self) -> Iterator[AuditClient]:
        """From a start to a clean end."""
        service = self.start()
        client = AuditClient(str(self.socket))
        try:
            yield client
            client.close()
            assert service.stop() == 0, service.log.read_text()
        finally:
            if service.process.poll() is None:
                service.kill()

    def entries(self) -> list[LogEntry]:
        """Signature and tree verified."""
        return read_log(self.log)

    def kinds(self) -> list[str]:
        """Of all entries."""
        return [entry.event.kind for entry in self.entries()]

    def told(self, kind: str) -> list[LogEntry]:
        """Entries of a kind."""
        return [entry for entry in self.entries() if entry.event.kind == kind]


class Raw:
    """A connection without a client: packets out, answers in."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(60)
        self.socket.connect(str(path))

    def say(self, data: bytes) -> AuditAnswer:
        """One packet, one answer."""
        self.socket.sendall(data)
        return self.answer()

    def answer(self) -> AuditAnswer:
        """The next one."""
        return decode_audit_answer(self.socket.recv(1 << 16))


def packet(kind: str, result: EventResult = "success", **fields: str | int | bool) -> bytes:
    """An event."""
    return encode_event(AuditEvent(kind=kind, result=result, fields=fields))
