"""A vendor, a site and a device in one process: real TUF repositories on real HTTP, the device's code, files for disks.

What is not here is the machine: booting is choosing an entry as systemd-boot does. tests/vm does it with real ones.
"""

from __future__ import annotations

import errno
import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from appliance.core.clock import Moment
from appliance.formats.alarm import Alarm
from appliance.formats.approval import Approval, Ring, SitePolicy, encode_policy, policy_path
from appliance.formats.audit_event import AuditEvent, EventResult, check_event
from appliance.formats.device import UpdateConfig
from appliance.formats.release import Content, Release, encode_release, latest_path, release_path
from appliance.formats.update_report import UpdateReport
from appliance.formats.update_state import SlotName, UpdateState
from appliance.formats.uplink_message import Accepted, Refused
from appliance.update.client import TrustedRepository
from appliance.update.entries import Entry, Running, boot_order, parse_entry
from appliance.update.esp_files import MountedEntries
from appliance.update.http import HttpSource, Surroundings
from appliance.update.journal import Journal
from appliance.update.ranges import ContentSource
from appliance.update.reports import Reports
from appliance.update.rounds import Origin, Rhythm, Rounds
from appliance.update.rules import Device
from appliance.update.slots import Partition, SlotPartitions
from appliance.update.staging import StagedSlot, stage
from appliance.update.story import Story
from appliance.update.work import Machine, Worker
from tests.support.delta import Published, empty_slot, filled_block, hashed_block, publish, slot_of
from tests.support.tuf_site import DAY, T0, Repository, Site, serve
from tests.support.update_disk import make_uki

PRODUCT, SITE, DEVICE = "press", "plant-4", "press-7"
CONFIG = UpdateConfig(retry_min_s=1, retry_max_s=1, stall_s=5)
AFTER_SUCCESS, AFTER_FAILURE = 3600.0, 60.0
BLOCKS = 96
MOMENT = Moment(boot_id="0b6f" * 8, monotonic_us=99_999, wall_us=0)


class Vendor:
    """Publishes releases of one product."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.repository = Repository()
        self.releases: dict[int, Published] = {}
        self.role = f"firmware-{PRODUCT}"
        self.repository.delegate("targets", self.role, paths=[f"firmware/{PRODUCT}/*"], terminating=True)
        self.repository.release(self.role)

    def publish(self, version: int, **changes: Any) -> Release:
        """A new version, a tenth of whose blocks are new; also as the latest."""
        dice = random.Random(version)
        blocks = [hashed_block(number) for number in range(BLOCKS)]
        for index in dice.sample(range(BLOCKS), BLOCKS // 10):
            blocks[index] = hashed_block(1000 * version + index)
        made = publish(self.directory, [*blocks, filled_block(version)], number=version)
        root = made.release.root
        uki = make_uki(version, root.root_hash, UUID(int=version), UUID(int=version << 64), size=20_000)
        place = Content(sha256=hashlib.sha256(uki).hexdigest(), size=len(uki))
        (self.directory / place.path).parent.mkdir(parents=True, exist_ok=True)
        (self.directory / place.path).write_bytes(uki)
        release = msgspec.structs.replace(made.release, uki=place, **({"built": T0 - 30 * DAY} | changes))
        self.releases[version] = Published(release, made.image, made.hashes, made.repository)
        self.offer(release)
        return release

    def offer(self, release: Release) -> None:
        """Name a manifest in the metadata."""
        data = encode_release(release)
        self.repository.add(self.role, release_path(PRODUCT, release.version), data)
        self.repository.add(self.role, latest_path(PRODUCT), data)
        self.repository.release(self.role)
        for path in (self.directory / "content").rglob("*"):
            if path.is_file():
                self.repository.files[str(path.relative_to(self.directory))] = path.read_bytes()


class Change:
    """The site's change control."""

    def __init__(self) -> None:
        self.repository = Repository()
        self.policy = SitePolicy(
            site=SITE,
            product=PRODUCT,
            sequence=1,
            signed_at=T0,
            mode="approve",
            clock="none",
            time_unknown="install",
            confirm="offline",
            rings=(Ring(name="canary", devices=("press-1",)), Ring(name="all", percent=100)),
        )

    def say(self, **changes: Any) -> SitePolicy:
        """Sign the next policy."""
        self.policy = msgspec.structs.replace(self.policy, sequence=self.policy.sequence + 1, **changes)
        self.repository.add("targets", policy_path(PRODUCT), encode_policy(self.policy))
        self.repository.release()
        return self.policy

    def approve(self, release: Release, *, rings: tuple[str, ...] = ("all",), **changes: Any) -> SitePolicy:
        """Approve exactly this manifest."""
        data = encode_release(release)
        approval = Approval(
            sequence=self.policy.sequence + 1,
            target=release_path(PRODUCT, release.version),
            sha256=hashlib.sha256(data).hexdigest(),
            length=len(data),
            version=release.version,
            rings=rings,
            ticket=f"CHG-{release.version}",
            approvers=("a.meyer", "k.sato"),
        )
        approval = msgspec.structs.replace(approval, **changes)
        others = tuple(each for each in self.policy.approvals if each.target != approval.target)
        return self.say(approvals=(*others, approval))


@dataclass
class Recorder:
    """An audit log in memory that refuses what the catalogue does not know."""

    events: list[AuditEvent] = field(default_factory=list)

    def try_record(self, kind: str, result: EventResult = "success", **fields: str | int | bool) -> None:
        """See AuditClient."""
        self.events.append(check_event(AuditEvent(kind=kind, result=result, fields=dict(fields))))

    @property
    def kinds(self) -> list[str]:
        """Of all events."""
        return [event.kind for event in self.events]

    @property
    def last(self) -> str:
        """The last event in words."""
        return self.events[-1].sentence()


class InTurn:
    """The steps of a device that is on, until it asks for a reboot."""

    def __init__(
        self, rounds: Rounds, worker: Worker, reports: Reports, asked: list[bool], device: Callable[[], Device]
    ) -> None:
        self.rounds = rounds
        self.device = device
        self.worker = worker
        self._reports = reports
        self._asked = asked

    @property
    def wants_reboot(self) -> bool:
        """Whether it left the file for the unit that reboots."""
        return bool(self._asked)

    def run(self, *, at_most: int = 10) -> float:
        """Rounds until there is nothing to do at once; the pause that it then wants."""
        for _ in range(at_most):
            pause = self.rounds.round()
            self._reports.send()
            if pause > 0 or self.wants_reboot:
                return pause
        raise AssertionError("it does not come to rest")


class Uplink:
    """The uplink's end of the socket. reachable: whether anybody answers."""

    def __init__(self) -> None:
        self.reachable = True
        self.reports: list[UpdateReport] = []
        self.alarms: list[Alarm] = []

    def report(self, report: UpdateReport) -> Accepted | Refused:
        """Takes it, if it is reachable."""
        if not self.reachable:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        self.reports.append(report)
        return Accepted(id=1, stream="data", sequence=len(self.reports))

    def alarm(self, alarm: Alarm) -> Accepted:
        """Takes it."""
        self.alarms.append(alarm)
        return Accepted(id=1, stream="alarm", sequence=len(self.alarms))


class TinyDevice:
    """Two slots, an ESP, a journal and the metadata of both repositories."""

    def __init__(self, directory: Path, vendor: Vendor, change: Change, urls: tuple[str, str], *, runs: int) -> None:
        self.directory = directory
        self.vendor, self.change, self.urls = vendor, change, urls
        self.entries = directory / "esp"
        self.entries.mkdir(parents=True)
        (directory / "state").mkdir()
        first = vendor.releases[runs]
        self.slots = {"a": slot_of(first), "b": empty_slot(first)}
        self.holds: dict[str, int] = {"a": runs}
        (self.entries / Entry(runs).name).write_bytes((vendor.directory / first.release.uki.path).read_bytes())
        self.recorder = Recorder()
        self.uplink = Uplink()
        self.wall: int | None = None
        self.slot: SlotName = "a"
        self.epoch = T0 - 60 * DAY
        self.device: dict[str, Any] = {}
        self.should_stop: Callable[[], bool] = lambda: False

    @property
    def version(self) -> int:
        """What runs."""
        return self.holds[self.slot]

    @property
    def names(self) -> list[str]:
        """Boot entries."""
        return sorted(path.name for path in self.entries.iterdir())

    @property
    def state(self) -> UpdateState:
        """As journalled."""
        return Journal(self.directory / "state").load()

    def boot(self, *, healthy: bool = True) -> None:
        """As systemd-boot chooses, and bless it when it is healthy."""
        entry = boot_order([parse_entry(name) for name in self.names])[0]
        if entry.left is not None:
            counted = Entry(entry.version, left=max(0, entry.left - 1), done=entry.done + 1)
            (self.entries / entry.name).rename(self.entries / counted.name)
            entry = counted
        found = [slot for slot, version in self.holds.items() if version == entry.version]
        assert found, f"version {entry.version} is in no slot"
        self.slot = "a" if found[0] == "a" else "b"
        if healthy and entry.left is not None:
            (self.entries / entry.name).rename(self.entries / Entry(entry.version).name)

    def on(self) -> InTurn:
        """Start the update service."""
        asked: list[bool] = []
        release = self.vendor.releases[self.version].release
        other: SlotName = "b" if self.slot == "a" else "a"
        inactive, running = self.slots[other], self.slots[self.slot]

        def stage_it(release: Release, source: ContentSource) -> StagedSlot:
            self.holds.pop(other, None)
            staged = stage(
                release, inactive, running, source, progress=lambda _: None, should_stop=lambda: self.should_stop()
            )
            self.holds[other] = release.version
            return staged

        machine = Machine(
            running=Running(version=self.version, slot=self.slot, root_hash=release.root.root_hash),
            inactive=SlotPartitions(other, *(Partition(Path("x"), area.size) for area in _areas(inactive))),
            files=MountedEntries(self.entries),
            stage=stage_it,
            epoch=None,
            reboot=lambda: asked.append(True),
            tries=3,
            security_epoch=release.security_epoch,
            judgement=lambda _version: None,
        )
        journal = Journal(self.directory / "state")
        reports = Reports(self.directory / "state/reports", self.uplink, device=lambda: DEVICE, clock=lambda: MOMENT)
        story = Story(self.recorder, reports, clock=lambda: 0.0, running=self.version)
        worker = Worker(machine, journal, story, journal.load())

        def facts() -> Device:
            return self._device(release, worker)

        rounds = Rounds(
            worker,
            story,
            device=facts,
            origins=self.origins,
            wall=lambda: self.wall,
            epoch=self.epoch,
            rhythm=Rhythm(AFTER_SUCCESS, lambda _failed: AFTER_FAILURE),
        )
        return InTurn(rounds, worker, reports, asked, facts)

    def update(self) -> InTurn:
        """Run the service until it rests or wants a reboot."""
        service = self.on()
        service.run()
        return service

    def _device(self, release: Release, worker: Worker) -> Device:
        facts: dict[str, Any] = {
            "site": SITE,
            "name": DEVICE,
            "groups": (),
            "product": PRODUCT,
            "profile": release.profile,
            "architecture": release.architecture,
            "version": self.version,
            "security_epoch": release.security_epoch,
            "development": True,
            "slot": self.slot,
            "confirmed": worker.confirmed,
        }
        return Device(**(facts | self.device))

    def origins(self) -> Sequence[Origin]:
        """The network, with both repositories."""
        around = Surroundings(clock=lambda: 0.0, sleep=lambda _seconds: None, draw=lambda: 0.5)
        vendor, site = (
            HttpSource(url, name=name, ca=None, config=CONFIG, attempts=2, around=around, bucket=None)
            for url, name in zip(self.urls, ("vendor repository", "site repository"), strict=True)
        )
        trusted = [
            TrustedRepository(
                self.directory / name, repository.trusted_root(), source, CONFIG, name=f"{name} repository"
            )
            for name, repository, source in (
                ("vendor", self.vendor.repository, vendor),
                ("site", self.change.repository, site),
            )
        ]
        return [Origin("network", vendor=trusted[0], site=trusted[1], content=vendor)]


@dataclass
class Plant:
    """All of it. sites: the two servers, for misbehaviour."""

    vendor: Vendor
    change: Change
    device: TinyDevice
    sites: tuple[Site, Site]


@contextmanager
def plant(directory: Path) -> Iterator[Plant]:
    """Version 1 runs; nothing is approved."""
    (directory / "vendor").mkdir()
    vendor, change = Vendor(directory / "vendor"), Change()
    vendor.publish(1)
    with serve(vendor.repository.files) as first, serve(change.repository.files) as second:
        device = TinyDevice(directory / "device", vendor, change, (first.url, second.url), runs=1)
        yield Plant(vendor, change, device, (first, second))


def _areas(slot: Any) -> tuple[Any, Any]:
    return slot.data, slot.hashes
