"""Every block that a real device writes during an update, and what a power cut would have left; some of it booted."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from builder.vm.config import DiskFile
from builder.vm.machine import BLOCK_LOG
from builder.vm.snapshot import Snapshot
from builder.vm.state import copy_state
from tests.support.blocklog import read_log
from tests.support.bootmodel import BootModel
from tests.support.disk import DiskEditor
from tests.support.images import Image
from tests.support.layered_disk import LayeredDisk
from tests.support.machine import Lab, Machine
from tests.support.once import once
from tests.support.recorded_update import LoggedReplay, Survey, known_image
from tests.support.updates import Updates, confirm_on_camera
from tests.vm.conftest import FAILURES

LOADER = "EFI/BOOT/BOOTX64.EFI"
SLOW_S = 600.0
SEED = 22
SAMPLES = 128
CHUNK = 1 << 20
AFTER = "after.raw"
BOOTED = int(os.environ.get("EDGESEAL_BOOTED_CUTS", "4"))
"""One for each state that the boot entries are in during an update; `make vm-cuts` asks for more."""


@dataclass(frozen=True)
class Recording:
    """before, after: the disk at the first write of `log`, and after the last one."""

    before: Path
    log: Path
    after: Path


@dataclass(frozen=True)
class Judged:
    """Every cut, as the model sees it."""

    replay: LoggedReplay
    survey: Survey


@pytest.fixture(scope="module")
def recording(shared: Path, lab: Lab, first_boot: Snapshot, published: Updates, second_plant: Updates) -> Recording:
    """A device that updates itself from version 1 to 2: from the decision to the confirmation, and switched off."""

    def make(target: Path) -> None:
        with second_plant.served() as services:
            connections = dataclasses.replace(lab.connections, services=services, log_writes=True)
            machine = Machine.thawed(lab, "recorded", first_boot, connections)
            log = machine.vm.directory / BLOCK_LOG
            try:
                machine.wait_for_another_boot(within_s=SLOW_S)
                confirm_on_camera(machine, version=2)
                machine.shut_down()
                shutil.move(log, target / BLOCK_LOG)
                shutil.move(machine.disk_image(), target / AFTER)
            except BaseException:
                machine.keep_evidence(FAILURES / "recorded")
                raise
            finally:
                machine.drop()

    made = once(shared, "recording", make)
    return Recording(first_boot.state.disk.path, made / BLOCK_LOG, made / AFTER)


@pytest.fixture(scope="module")
def judged(recording: Recording, lab: Lab, image: Image, next_image: Image) -> Judged:
    """Seconds, so each worker that boots some of the cuts does it again."""
    loader = hashlib.sha256(DiskEditor(recording.before, lab.tree).read_from_esp(LOADER)).hexdigest()
    model = BootModel([known_image(image), known_image(next_image)], loader=loader)
    replay = LoggedReplay(recording.before, read_log(recording.log), seed=SEED, samples=SAMPLES)
    return Judged(replay, Survey(replay, model, seed=SEED))


@pytest.mark.xdist_group("vm-cuts")
def test_every_cut_of_a_real_update_boots_the_old_or_the_new_version(
    judged: Judged, recording: Recording, capsys: pytest.CaptureFixture[str]
) -> None:
    replay, survey = judged.replay, judged.survey
    kinds = ", ".join(f"{name} {count}" for name, count in sorted(replay.counts.items()))
    with capsys.disabled():
        print(f"\n  one cut, a real device: {replay.counts.total()} points ({kinds}; {replay.unseen} of the torn")
        print(f"  where no boot looks); {survey.faults} faults, {survey.unbootable} unbootable")
    assert not survey.faults, survey.first_fault
    assert set(survey.outcomes) == {(1, 0), (2, 0)}
    assert min(survey.outcomes.values()) > 1000
    assert_same(replay.disk, recording.after)


@pytest.mark.parametrize("number", range(BOOTED))
def test_a_cut_that_is_really_booted(
    number: int,
    judged: Judged,
    recording: Recording,
    first_boot: Snapshot,
    lab: Lab,
    machines: Callable[[Machine], Machine],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Firmware with Secure Boot, systemd-boot, the kernel, and systemd from the verified root: what the model says."""
    points = judged.survey.sample(BOOTED)
    assert {point.outcome.version for point in points} == {1, 2}
    point, name = points[number], f"cut-{number}"
    state = copy_state(first_boot.state, lab.scratch / name / "state", lab.tree)
    disk = point.make(recording.before, judged.replay, state.directory / "disk.raw")
    machine = machines(Machine(lab, name, dataclasses.replace(state, disk=DiskFile(disk, "raw"), backing=(), tpm=None)))
    machine.start()
    version = machine.wait_for_root()
    with capsys.disabled():
        entries = " ".join(point.outcome.entries)
        print(f"\n  cut {number + 1} of {BOOTED}: {point.kind} at {point.event}, {entries}: boots version {version}")
    assert version == point.outcome.version


def assert_same(disk: LayeredDisk, image: Path) -> None:
    """No write is missing in the log."""
    with image.open("rb") as stream:
        for at in range(0, len(disk), CHUNK):
            assert stream.read(CHUNK) == disk[at : at + CHUNK], f"another byte in the MiB at {at}"
