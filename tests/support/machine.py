"""A virtual machine as VM tests speak of it: boot it, ask it, break it, pull its plug.

Every wait has a deadline and ends early when the emulator has died, the boot leads nowhere, or the unit has failed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.core.errors import EdgesealError
from appliance.formats.audit_log import LogEntry
from appliance.formats.frame import Frame
from builder.host.sandbox import Sandbox
from builder.signing.keyset import KeySet
from builder.vm.agent import Finished
from builder.vm.boot_stages import require_hope
from builder.vm.broker import Broker
from builder.vm.config import DiskFile
from builder.vm.deadline import IN_GUEST_S, wait_until
from builder.vm.machine import Connections, VirtualMachine
from builder.vm.site import Site
from builder.vm.snapshot import Snapshot, freeze, thaw
from builder.vm.state import MachineState, Wanted, make_state
from builder.vm.swtpm import manufacture_tpm
from tests.support.audit_log import FETCH, fetched, verified

BOOT_S = 600.0
UNIT_S = 300.0
AUDIT_LOG = "/var/lib/edgeseal-audit/tlog"


@dataclass(frozen=True)
class Lab:
    """What all machines of one test worker share.

    scratch: a directory with a short path. credentials: what each is told beside the broker.
    """

    tree: Sandbox
    site: Site
    broker: Broker
    keys: KeySet
    scratch: Path
    cpus: int
    credentials: dict[str, bytes]

    @property
    def connections(self) -> Connections:
        """How machines are connected here."""
        return Connections(broker_port=self.broker.port, capture=True, cpus=self.cpus)


class Machine:
    """One device with its disk, firmware variables and TPM, switched on or off."""

    def __init__(self, lab: Lab, name: str, state: MachineState, connections: Connections | None = None) -> None:
        self.lab = lab
        self.name = name
        self.state = state
        self.connections = connections or lab.connections
        self._starts = 0
        self._vm: VirtualMachine | None = None

    @classmethod
    def fresh(
        cls,
        lab: Lab,
        name: str,
        disk: Path,
        *,
        architecture: str = "x86_64",
        directory: Path | None = None,
    ) -> Machine:
        """A new device with this disk image in place: the test may edit it while the device is off.

        directory: for its lasting state; by default in the lab, where it goes away with the lab.
        """
        wanted = Wanted(
            architecture="arm64" if architecture == "arm64" else "x86_64",
            keys=lab.keys,
            tpm=architecture == "x86_64",
            credentials=lab.site.credentials() | lab.credentials,
            name=name,
        )
        return cls(lab, name, make_state(directory or lab.scratch / name, wanted, disk, lab.tree, in_place=True))

    @classmethod
    def thawed(cls, lab: Lab, name: str, snapshot: Snapshot, connections: Connections | None = None) -> Machine:
        """A device that goes on where the snapshot was made. connections: with the same devices as there."""
        directory = lab.scratch / name
        vm = thaw(snapshot, directory, lab.tree, connections or lab.connections)
        machine = cls(lab, name, vm.state, connections)
        machine._vm = vm
        return machine

    # ---- power

    def start(self) -> None:
        """Switch it on and return at once."""
        assert self._vm is None, f"{self.name} is on already"
        self._starts += 1
        directory = self.lab.scratch / self.name / f"start-{self._starts}"
        self._vm = VirtualMachine(directory, self.state, self.lab.tree, self.connections)
        self._vm.agent  # noqa: B018 (connected now, so that its hello is not missed)

    def boot(self, *, within_s: float = BOOT_S) -> None:
        """Switch it on and wait until its system is up and nothing is starting any more."""
        self.start()
        self.wait_for_agent(within_s=within_s)
        self.wait_for_unit("multi-user.target", within_s=within_s)
        self.wait_for_unit("boot-complete.target", within_s=within_s)
        self.wait_for_unit("edgeseal-modules-closed.service", within_s=within_s)  # the last one to start

    def pull_the_plug(self) -> None:
        """Cut the power."""
        self.vm.kill()
        self._vm = None

    def shut_down(self) -> None:
        """Switch it off in order."""
        with contextlib.suppress(EdgesealError):  # it may be gone before it answers
            self.vm.agent.run(["systemctl", "--no-block", "poweroff"])
        assert self.vm.wait_for_end(within_s=UNIT_S), f"{self.name} did not shut down"
        self.vm.stop()
        self._vm = None

    def freeze(self) -> Snapshot:
        """Save it as it is and switch it off."""
        snapshot = freeze(self.vm, self.state.directory / "memory")
        self._vm = None
        return snapshot

    def drop(self) -> None:
        """Switch it off, if it is on, and forget what it wrote in the lab."""
        if self._vm is not None:
            self.pull_the_plug()
        shutil.rmtree(self.lab.scratch / self.name, ignore_errors=True)

    @property
    def vm(self) -> VirtualMachine:
        """The running emulator."""
        assert self._vm is not None, f"{self.name} is off"
        return self._vm

    @property
    def is_on(self) -> bool:
        """Whether there is a running emulator."""
        return self._vm is not None

    # ---- waiting

    def wait_for_agent(self, *, within_s: float = BOOT_S) -> None:
        """Until the test agent of this boot has said hello."""
        wait_until(self._poll_hello, what=f"{self.name}: the agent", within_s=within_s, check=self._require_hope)

    def wait_for_another_boot(self, *, within_s: float = BOOT_S) -> None:
        """Until the agent of a later boot than the last one seen says hello."""
        hello = self.vm.agent.hello
        self.vm.agent.wait_for_hello(within_s=within_s, other_than=hello.boot_id if hello else None)

    def wait_for_unit(self, unit: str, *, within_s: float = UNIT_S) -> None:
        """Until the unit is active; fails at once when it has failed."""

        def active() -> bool:
            states = self.run(["systemctl", "show", "-P", "ActiveState", unit]).stdout.split()
            assert states != ["failed"], f"{unit} failed:\n{self._journal_of(unit)}"
            return states == ["active"]

        what = f"{self.name}: {unit} is active"
        wait_until(active, what=what, within_s=within_s, check=self._require_hope, every_s=IN_GUEST_S)

    def wait_for_console(self, pattern: str, *, within_s: float = BOOT_S) -> re.Match[str]:
        """Until the console has said something that matches."""
        return self.vm.console.wait_for(pattern, within_s=within_s)

    def wait_for_journal(self, unit: str, pattern: str, *, within_s: float = UNIT_S) -> None:
        """Until the unit's status line or journal of this boot says something that matches."""

        def said() -> bool:
            status = self.run(["systemctl", "show", "-P", "StatusText", unit]).stdout
            return re.search(pattern, status + self._journal_of(unit)) is not None

        what = f"{self.name}: {unit} says {pattern}"
        wait_until(said, what=what, within_s=within_s, check=self.vm.require_alive, every_s=IN_GUEST_S)

    def told(self, kind: str, **fields: object) -> dict[str, object]:
        """Wait until the audit log has such an event; the fields of the last one."""
        self.wait_for_unit("edgeseal-audit.service", within_s=BOOT_S)
        found: list[dict[str, object]] = []

        def there() -> bool:
            for entry in self.audit_log():
                said = dict(entry.event.fields)
                if entry.event.kind == kind and fields.items() <= said.items():
                    found.append(said)
            return bool(found)

        what = f"the log has {kind} {fields}"
        wait_until(there, what=what, within_s=BOOT_S, check=self.vm.require_alive, every_s=IN_GUEST_S)
        return found[-1]

    def wait_for_root(self, *, within_s: float = BOOT_S) -> int:
        """Until systemd runs from the verified root of a slot; that root's version, as the console has it."""
        wanted = re.compile(r"Welcome to edgeseal [a-z0-9-]+ (\d+)( DEVELOPMENT)?!")
        hit = wait_until(
            lambda: wanted.search(self.console),
            what=f"{self.name}: a root is up",
            within_s=within_s,
            check=self._require_hope,
        )
        return int(hit[1])

    def wait_for_reset(self, *, within_s: float = UNIT_S) -> None:
        """Until the machine resets, by whatever cause."""
        self.vm.qmp.wait_for_event("RESET", within_s=within_s, since=len(self.vm.qmp.events))

    # ---- asking

    def run(self, argv: Sequence[str], *, timeout_s: int = 120) -> Finished:
        """Run a program as root, whatever comes of it."""
        return self.vm.agent.run(argv, timeout_s=timeout_s)

    def succeed(self, argv: Sequence[str], *, timeout_s: int = 120) -> str:
        """Run a program as root that must exit 0; its standard output."""
        done = self.run(argv, timeout_s=timeout_s)
        assert done.rc == 0, f"{' '.join(argv)} exited {done.rc}: {done.stderr}{done.stdout}"
        return done.stdout

    def fail(self, argv: Sequence[str], *, timeout_s: int = 120) -> str:
        """Run a program as root that must not exit 0; its standard error."""
        done = self.run(argv, timeout_s=timeout_s)
        assert done.rc != 0, f"{' '.join(argv)} should have failed, it said: {done.stdout}"
        return done.stderr

    def python(self, source: str) -> Any:
        """Run source as root in the agent's process; what it leaves in `result`."""
        return self.vm.agent.python(source)

    def python_without_answer(self, source: str) -> None:
        """Run source that ends the machine."""
        self.vm.agent.python_without_answer(source)

    def read(self, path: str) -> bytes:
        """A file of the device."""
        return self.vm.agent.read(path)

    def text(self, path: str) -> str:
        """A file of the device, without white space around it."""
        return self.read(path).decode().strip()

    def write(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        """Write a file of the device, durably."""
        self.vm.agent.write(path, data, mode=mode)

    def set_clock(self, seconds: int) -> None:
        """Set the system's clock. seconds: Unix time."""
        self.python(f"import time\ntime.clock_settime(time.CLOCK_REALTIME, {seconds})")

    def clock(self) -> int:
        """The system's clock, Unix seconds."""
        return int(self.python("import time\nresult = int(time.time())"))

    def plug_in_medium(self) -> None:
        """Put in the medium of its connections."""
        self.vm.plug_in()

    def show(self, frame: Frame) -> None:
        """Hold a picture in front of the camera."""
        self.vm.frames.send(frame)

    @property
    def console(self) -> str:
        """All that this start's console said."""
        return self.vm.console.text()

    def booted_slot(self) -> str:
        """`a` or `b`."""
        return str(self._hello().slot).removeprefix("root-")

    def image_version(self) -> int:
        """IMAGE_VERSION of what runs."""
        return int(self._hello().image_version)

    def audit_log(self) -> list[LogEntry]:
        """The audit log, as it is published every second: its signature and its tree verified."""
        for _ in range(10):
            with contextlib.suppress(KeyError):  # the writer went on while the files were collected
                return verified(fetched(self.python(FETCH.format(directory=AUDIT_LOG))))
        raise AssertionError(f"{self.name}: the audit log cannot be read")

    def audit_events(self) -> list[str]:
        """The kinds of all events in the audit log, oldest first."""
        return [entry.event.kind for entry in self.audit_log()]

    # ---- evidence

    def capture(self) -> Path:
        """What crossed its network interface, as a pcap file."""
        assert self.vm.config.pcap is not None
        return self.vm.config.pcap

    def disk_image(self) -> Path:
        """The disk, while the device is off, as a raw image that may be edited; later starts use it."""
        assert self._vm is None, f"{self.name} is on"
        if self.state.disk.format == "raw":
            return self.state.disk.path
        target = self.state.directory / "disk.raw"
        self.lab.tree.run(
            ["qemu-img", "convert", "-O", "raw", self.state.disk.path, target],
            reason="flatten a disk image",
            writable=[self.state.directory],
            binds=dict.fromkeys(self.state.backing),
        )
        self.state = dataclasses.replace(self.state, disk=DiskFile(target, "raw"), backing=())
        return target

    def with_another_tpm(self) -> Machine:
        """The same disk and firmware variables in a machine with a TPM of its own."""
        assert self._vm is None, f"{self.name} is on"
        assert self.state.tpm is not None
        shutil.rmtree(self.state.tpm)
        manufacture_tpm(self.state.tpm, self.lab.tree)
        return self

    def keep_evidence(self, target: Path) -> list[Path]:
        """Copy consoles and, if the device still answers, its journal into the directory `target`."""
        target.mkdir(parents=True, exist_ok=True)
        kept = []
        for log in sorted((self.lab.scratch / self.name).rglob("*.log")):
            place = target / f"{self.name}-{log.parent.name}-{log.name}"
            shutil.copyfile(log, place)
            kept.append(place)
        if self._vm is not None and self._vm.running and self._vm.agent.hello is not None:
            with contextlib.suppress(EdgesealError):
                journal = target / f"{self.name}-journal.txt"
                journal.write_text(self.run(["journalctl", "--no-pager", "-o", "short-monotonic"]).stdout)
                kept.append(journal)
        return kept

    def _hello(self) -> Any:
        hello = self.vm.agent.hello
        if hello is None:  # restored from a snapshot: the agent spoke before
            return _Identity(
                slot=self.python("from appliance.agent.requests import identity\nresult = identity()[2]"),
                image_version=self.python("from appliance.agent.requests import identity\nresult = identity()[1]"),
            )
        return hello

    def _poll_hello(self) -> bool:
        if self.vm.agent.hello is None:
            self.vm.agent.poll()
        return self.vm.agent.hello is not None

    def _require_hope(self) -> None:
        self.vm.require_alive()
        require_hope(self.console)

    def _journal_of(self, unit: str) -> str:
        return self.run(["journalctl", "-b", "-n", "30", "--no-pager", "-o", "cat", "-u", unit]).stdout


@dataclass(frozen=True)
class _Identity:
    slot: str
    image_version: str
