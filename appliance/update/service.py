"""edgeseal-update: keeps the device's version where vendor and site both want it.

What it owns: the inactive slot, EFI/Linux on the ESP, the TUF metadata of both repositories, the security epoch. It has
no right to reboot: it leaves a file for a unit that has.
"""

from __future__ import annotations

import os
import platform
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from appliance.core.errors import DecodeError, EdgesealError
from appliance.formats.audit_event import AUDIT_SOCKET, AUDIT_TAKES_EVENTS
from appliance.formats.device import DEVICE_CONFIG_PATH, AuditConfig, DeviceConfig
from appliance.formats.judgement import JUDGEMENT_PATH, decode_judgement
from appliance.formats.release import Release
from appliance.formats.update_state import UpdateState
from appliance.formats.uplink_message import UPLINK_SOCKET
from appliance.machine.audit_client import AuditClient
from appliance.machine.clock import system_clock
from appliance.machine.config import load_device_config, read_sealed
from appliance.machine.credentials import Credentials
from appliance.machine.entry import StopFlag
from appliance.machine.notify import Notifier, say
from appliance.machine.uplink_client import UplinkClient
from appliance.update.area import open_slot
from appliance.update.client import TrustedRepository
from appliance.update.counter import EpochCounter, open_counter
from appliance.update.entries import DIRECTORY, Running
from appliance.update.esp_files import MountedEntries
from appliance.update.http import HttpSource, Surroundings
from appliance.update.journal import Journal
from appliance.update.medium import MediumRepository, read_label
from appliance.update.model_rounds import Around, ModelRounds
from appliance.update.model_store import ModelStore
from appliance.update.model_story import ModelStory
from appliance.update.pace import TokenBucket, backoff
from appliance.update.ranges import ContentSource
from appliance.update.reports import Reports
from appliance.update.rounds import Origin, Rhythm, Rounds
from appliance.update.rules import Device
from appliance.update.slots import SlotPair, System, find_slots, running_root_hash
from appliance.update.staging import Progress, StagedSlot, stage
from appliance.update.story import Story
from appliance.update.turns import Turns
from appliance.update.work import Machine, Worker

VENDOR_ROOT = Path("/usr/lib/edgeseal/vendor-root.json")
BUILD_EPOCH = Path("/usr/lib/clock-epoch")
ESP = Path("/efi")
MEDIUM = Path("/run/edgeseal-medium")
MODELS = "models"
REBOOT = Path("/run/edgeseal-update/reboot")
ATTEMPTS = 5
"""In a row, for the same bytes, before a round counts as failed."""

ARCHITECTURES = {"x86_64": "x86_64", "aarch64": "arm64"}


class Trust:
    """Both repositories' roots and addresses. Raises EdgesealError when the image or the site gave none."""

    def __init__(self, credentials: Credentials) -> None:
        self.vendor_root = read_sealed(VENDOR_ROOT)
        self.site_root = credentials.path("site-root").read_bytes()
        self.vendor_url = credentials.optional_text("vendor-url")
        self.site_url = credentials.optional_text("site-url")
        self.authority = credentials.optional_bytes("update-ca")


def may_act(audit: AuditConfig, sign: Path = Path(AUDIT_TAKES_EVENTS)) -> bool:
    """Whether something new may be begun: where the profile wants it, not without a log that takes events.

    sign: the file that the log's writer keeps as long as it does.
    """
    return audit.full == "overwrite-oldest" or sign.exists()


def serve() -> None:
    """Run until systemd says stop. Raises EdgesealError when the device itself is not as it must be."""
    stop, notifier = StopFlag(), Notifier.from_environment()
    config = load_device_config(Path(DEVICE_CONFIG_PATH))
    audit = AuditClient(AUDIT_SOCKET)
    if not VENDOR_ROOT.exists():
        _idle(stop, notifier, "this image trusts no vendor's repository: it is never updated")
        return
    try:
        credentials = Credentials.from_environment()
        trust = Trust(credentials)
    except EdgesealError as error:
        _idle(stop, notifier, f"no updates: {error}")
        return
    reports = Reports(
        Path(os.environ["STATE_DIRECTORY"]) / "reports",
        UplinkClient(UPLINK_SOCKET),
        device=credentials.device_id,
        clock=system_clock(),
    )
    turns = _turns(config, credentials, trust, audit, reports, stop, notifier)
    audit.try_record("service-started", service="edgeseal-update")
    notifier.ready("asks the repositories")
    while not stop:
        if not may_act(config.audit):
            notifier.alive("waits for the audit log, which takes no events")
            stop.wait(10)
            continue
        pause = turns.round()
        notifier.alive(f"next round in {int(pause)} s")
        _wait(stop, notifier, reports, pause)
    notifier.stopping()


def _idle(stop: StopFlag, notifier: Notifier, why: str) -> None:
    say(f"<5>{why}")
    notifier.ready(why)
    while not stop:
        notifier.alive(why)
        stop.wait(10)
    notifier.stopping()


def _wait(stop: StopFlag, notifier: Notifier, reports: Reports, seconds: float) -> None:
    """Sleep, but feed the watchdog, tell what waits to be told, and wake early for a medium that was plugged in."""
    end, medium = time.monotonic() + seconds, _has_medium()
    while not stop and time.monotonic() < end and _has_medium() == medium:
        reports.send()
        notifier.alive("waits")
        stop.wait(min(5.0, max(0.1, end - time.monotonic())))


def _turns(
    config: DeviceConfig,
    credentials: Credentials,
    trust: Trust,
    audit: AuditClient,
    reports: Reports,
    stop: StopFlag,
    notifier: Notifier,
) -> Turns:
    pair, root_hash = find_slots(System()), running_root_hash(System())
    directory = Path(os.environ["STATE_DIRECTORY"])
    story = Story(audit, reports, clock=time.monotonic, running=config.version)
    counter = open_counter(pause=time.sleep)
    running = Running(version=config.version, slot=pair.running.name, root_hash=root_hash)
    made: list[Rounds] = []  # the staging asks the rounds whether the window is still open

    def should_stop() -> bool:
        return bool(stop) or not made[0].may_work()

    machine = Machine(
        running=running,
        inactive=pair.inactive,
        files=MountedEntries(ESP / DIRECTORY),
        stage=partial(_stage, pair, should_stop, notifier),
        epoch=counter,
        reboot=_ask_for_reboot,
        tries=config.update.tries,
        security_epoch=config.security_epoch,
        judgement=_judgement,
    )
    journal = Journal(directory)
    worker = Worker(machine, journal, story, _load(journal, story))
    worker.tidy()
    epoch = max(config.security_epoch, _counted(counter, story))

    def device() -> Device:
        return Device(
            site=credentials.text("site-id"),
            name=credentials.device_id(),
            groups=_groups(credentials),
            product=config.product,
            profile=config.profile,
            architecture=ARCHITECTURES[platform.machine()],
            version=config.version,
            security_epoch=epoch,
            development=config.development,
            slot=pair.running.name,
            confirmed=worker.confirmed,
        )

    clock = system_clock()
    made.append(
        Rounds(
            worker,
            story,
            device=device,
            origins=_Origins(config, trust, directory, story, stop, notifier),
            wall=lambda: clock().wall_us // 1_000_000,
            epoch=int(BUILD_EPOCH.stat().st_mtime),
            rhythm=_rhythm(config),
        )
    )
    attention = _Attention(stop)
    around = Around(clock=time.monotonic, device=device, progress=notifier.alive, should_stop=attention.is_wanted)
    models = _models(config, directory, audit, made[0], around)
    return Turns(made[0], models, clock=time.monotonic, attention=attention)


def _models(config: DeviceConfig, directory: Path, audit: AuditClient, firmware: Rounds, around: Around) -> ModelRounds:
    return ModelRounds(
        ModelStore(directory / MODELS, budget=config.update.model_bytes),
        ModelStory(audit, clock=time.monotonic),
        firmware,
        around,
        names=config.models,
        rhythm=_rhythm(config),
    )


class _Attention:
    """See turns.Attention."""

    def __init__(self, stop: StopFlag) -> None:
        self._stop = stop
        self.begin()

    def begin(self) -> None:
        self._medium = _has_medium()

    def is_wanted(self) -> bool:
        return bool(self._stop) or _has_medium() != self._medium


def _counted(counter: EpochCounter | None, story: Story) -> int:
    """The epoch that the TPM knows. One that cannot tell is told of: the device goes on, and the disk knows it too."""
    if counter is None:
        return 0
    try:
        return counter.read()
    except EdgesealError as error:
        say(f"<3>{error}")
        story.epoch_unreadable(str(error))
        return 0


def _load(journal: Journal, story: Story) -> UpdateState:
    try:
        return journal.load()
    except DecodeError as error:
        journal.put_aside()
        story.state_replaced(str(error))
        return journal.load()


def _groups(credentials: Credentials) -> tuple[str, ...]:
    return tuple(name for name in (credentials.optional_text("groups") or "").split(",") if name)


def _rhythm(config: DeviceConfig) -> Rhythm:
    update, draw = config.update, random.Random()  # noqa: S311 (spreads load, guards nothing)
    return Rhythm(
        after_success=update.check_interval_s * draw.uniform(0.9, 1.1),
        after_failure=lambda failed: backoff(
            failed, first_s=update.retry_min_s, longest_s=update.retry_max_s, draw=draw.random()
        ),
    )


class _Origins:
    """The medium first, where there is one: somebody came and plugged it in."""

    def __init__(
        self,
        config: DeviceConfig,
        trust: Trust,
        directory: Path,
        story: Story,
        stop: StopFlag,
        notifier: Notifier,
    ) -> None:
        self._config = config
        self._trust = trust
        self._directory = directory
        self._story = story
        self._seen = False
        self._online = self._network(stop, notifier)

    def __call__(self) -> Sequence[Origin]:
        if not _has_medium():
            self._seen = False
            return self._online
        if not self._seen:
            self._seen = True
            self._story.medium_seen(_label())
        return [self._medium(), *self._online]

    def _medium(self) -> Origin:
        vendor, site = (MediumRepository(MEDIUM, name) for name in ("vendor", "site"))
        return self._origin("medium", vendor, site)

    def _network(self, stop: StopFlag, notifier: Notifier) -> list[Origin]:
        trust, update = self._trust, self._config.update
        if trust.vendor_url is None or trust.site_url is None:
            return []

        def sleep(seconds: float) -> None:
            notifier.alive("waits for a repository")
            stop.wait(seconds)

        around = Surroundings(clock=time.monotonic, sleep=sleep, draw=random.Random().random)  # noqa: S311
        bucket = TokenBucket(update.bandwidth, now=time.monotonic()) if update.bandwidth else None
        vendor, site = (
            HttpSource(
                url, name=name, ca=trust.authority, config=update, attempts=ATTEMPTS, around=around, bucket=bucket
            )
            for url, name in ((trust.vendor_url, "vendor repository"), (trust.site_url, "site repository"))
        )
        return [self._origin("network", vendor, site)]

    def _origin(self, name: str, vendor: HttpSource | MediumRepository, site: HttpSource | MediumRepository) -> Origin:
        make: Callable[..., TrustedRepository] = partial(TrustedRepository, limits=self._config.update)
        return Origin(
            name,
            vendor=make(self._directory / "vendor", self._trust.vendor_root, vendor, name="vendor repository"),
            site=make(self._directory / "site", self._trust.site_root, site, name="site repository"),
            content=vendor,
        )


def _stage(
    pair: SlotPair,
    should_stop: Callable[[], bool],
    notifier: Notifier,
    release: Release,
    source: ContentSource,
) -> StagedSlot:
    def progress(now: Progress) -> None:
        notifier.alive(f"{now.step}: {now.done * 100 // max(1, now.total)} %")

    inactive, running = pair.inactive, pair.running
    with (
        open_slot(inactive.data.device, inactive.hashes.device, writable=True) as target,
        open_slot(running.data.device, running.hashes.device, writable=False) as own,
    ):
        return stage(release, target, own, source, progress=progress, should_stop=should_stop)


def _judgement(version: int) -> str | None:
    """What the health check said of that version, if it was the last one to be judged bad."""
    try:
        said = decode_judgement(Path(JUDGEMENT_PATH).read_bytes())
    except (OSError, DecodeError):
        return None
    return None if said.good or said.version != version else said.reason


def _has_medium() -> bool:
    return MEDIUM.is_dir() and os.path.ismount(MEDIUM)


def _label() -> str:
    """What a medium says of itself, or that it says nothing."""
    try:
        bundle = read_label(MEDIUM)
    except EdgesealError as error:
        return f"no label ({error})"
    found = [(item.product, item.versions) for item in bundle.products]
    found += [(f"model {model.model}", model.versions) for item in bundle.products for model in item.models]
    return ", ".join(f"{name} {','.join(map(str, versions))}" for name, versions in found)


def _ask_for_reboot() -> None:
    REBOOT.touch()
    say("<5>asks for a reboot into the new version")
