"""Machines for the stories: images built once per run, one real first boot, and copies of it thawed per test."""

from __future__ import annotations

import dataclasses
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from builder.host.paths import source_root
from builder.host.toolstree import vm_tree
from builder.profile.load import load_profile
from builder.signing.keyinit import init_keys
from builder.signing.keyset import KeySet, load_keys
from builder.vm.broker import Broker
from builder.vm.historian import Historian
from builder.vm.site import Site, make_site
from builder.vm.snapshot import Snapshot
from tests.support.disk import DiskEditor, copy_sparse
from tests.support.images import ARM, X86, Image, build_image, open_image
from tests.support.machine import Lab, Machine
from tests.support.once import once
from tests.support.updates import Updates

FAILURES = source_root() / "out" / "vm-failures"
DEVICE = "line-3"
SECOND = "second-site"


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_count: int) -> Path:
    """A directory that all workers of this run share."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if worker_count > 1 else base) / "vm"


@pytest.fixture(scope="session")
def worker_count() -> int:
    """How many workers share the processors."""
    return int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))


@pytest.fixture(scope="session")
def plant(shared: Path) -> Updates:
    """Keys of this run, and both repositories, empty; the images trust the vendor's."""

    def make(directory: Path) -> None:
        init_keys(directory / "dev", development=True, now=datetime.now(UTC))
        founded = _updates(directory, directory / "dev")
        founded.found()
        founded.with_another_site(SECOND)

    made = once(shared, "plant", make)
    return _updates(made, made / "dev")


@pytest.fixture(scope="session")
def published(shared: Path, plant: Updates, second_plant: Updates, next_image: Image) -> Updates:
    """The plant, when its vendor has published version 2; the second one has approved it."""

    def make(_: Path) -> None:
        plant.publish(next_image)
        second_plant.policy("--confirm", "offline")
        second_plant.approve(2, "all")

    once(shared, "published", make)
    return plant


@pytest.fixture(scope="session")
def second_plant(plant: Updates) -> Updates:
    """The same vendor, and the site as it was founded, for a story that goes on beside the other one."""
    return dataclasses.replace(plant, site_name=SECOND)


@pytest.fixture(scope="session")
def keys(plant: Updates) -> KeySet:
    """Development keys of this run."""
    return load_keys(plant.keys, environment={})


@pytest.fixture(scope="session")
def site(shared: Path) -> Site:
    """The site of this run; every worker has a broker of its own with the same certificates."""
    made = once(shared, "site", lambda target: _make_site(target))
    return Site(made / "certificates", DEVICE)


@pytest.fixture(scope="session")
def lab(keys: KeySet, site: Site, plant: Updates, worker_count: int) -> Iterator[Lab]:
    """Tools, broker and room for machines."""
    tree = vm_tree()
    with tempfile.TemporaryDirectory(prefix="edgeseal-vm-", ignore_cleanup_errors=True) as name:
        scratch = Path(name).resolve()
        with Broker(scratch / "broker", site, tree) as broker:
            cpus = 1 if worker_count > 1 else 2
            yield Lab(tree, site, broker, keys, scratch, cpus=cpus, credentials=plant.credentials())


@pytest.fixture(scope="session")
def image(shared: Path, keys: KeySet) -> Image:
    """Version 1."""
    return _image(shared, keys, "v1", X86, version=1)


@pytest.fixture(scope="session")
def next_image(shared: Path, keys: KeySet) -> Image:
    """Version 2, as good as version 1."""
    return _image(shared, keys, "v2", X86, version=2)


@pytest.fixture(scope="session")
def sick_image(shared: Path, keys: KeySet) -> Image:
    """Version 3, as no version must stay: its camera is not there."""
    return _image(shared, keys, "v3-sick", X86, version=3, healthy=False)


@pytest.fixture(scope="session")
def later_image(shared: Path, keys: KeySet) -> Image:
    """Version 4, as good as version 1."""
    return _image(shared, keys, "v4", X86, version=4)


@pytest.fixture(scope="session")
def arm_image(shared: Path, keys: KeySet) -> Image:
    """Version 1 for arm64."""
    return _image(shared, keys, "arm", ARM, version=1)


@pytest.fixture(scope="session")
def first_boot(shared: Path, lab: Lab, image: Image) -> Snapshot:
    """A device after its first boot under Secure Boot, healthy, saved with its memory."""

    def make(target: Path) -> None:
        machine = Machine.fresh(lab, "first-boot", copy_sparse(image.disk, target / "disk.raw"), directory=target / "m")
        try:
            machine.boot()
            (target / "console.txt").write_text(machine.console)
            capture = machine.capture()
            snapshot = machine.freeze()
            shutil.copyfile(capture, snapshot.memory.with_name("network.pcap"))
        except BaseException:
            _tell(machine.keep_evidence(FAILURES / "first-boot"))
            machine.drop()
            raise
        (target / "snapshot").write_bytes(pickle.dumps(snapshot))

    made = once(shared, "first-boot", make)
    snapshot: Snapshot = pickle.loads((made / "snapshot").read_bytes())
    return snapshot


@pytest.fixture
def machines(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Callable[[Machine], Machine]]:
    """Hand a machine over: it is switched off after the test, and if the test failed its evidence is kept."""
    owned: list[Machine] = []

    def own(machine: Machine) -> Machine:
        owned.append(machine)
        return machine

    yield own
    for machine in owned:
        if request.node.stash.get(_FAILED, False):
            _tell(machine.keep_evidence(FAILURES / request.node.name))
        machine.drop()


@pytest.fixture
def vm(first_boot: Snapshot, lab: Lab, machines: Callable[[Machine], Machine], unique: Callable[[], str]) -> Machine:
    """A healthy device that has just had its first boot; restored from memory, so it costs a second."""
    return machines(Machine.thawed(lab, unique(), first_boot))


@pytest.fixture
def device(
    lab: Lab, machines: Callable[[Machine], Machine], unique: Callable[[], str]
) -> Callable[[Image], tuple[Machine, DiskEditor]]:
    """A new device, switched off, with an editor for its disk."""

    def make(image: Image) -> tuple[Machine, DiskEditor]:
        name = unique()
        (lab.scratch / name).mkdir()
        disk = copy_sparse(image.disk, lab.scratch / name / "disk.raw")
        machine = machines(Machine.fresh(lab, name, disk, architecture=image.manifest.architecture))
        return machine, DiskEditor(disk, lab.tree)

    return make


@pytest.fixture
def used_device(
    first_boot: Snapshot, lab: Lab, machines: Callable[[Machine], Machine], unique: Callable[[], str]
) -> tuple[Machine, DiskEditor]:
    """The device of `first_boot`, shut down in order: its TPM and its data partition have been used."""
    machine = machines(Machine.thawed(lab, unique(), first_boot))
    machine.shut_down()
    return machine, DiskEditor(machine.disk_image(), lab.tree)


@pytest.fixture
def historian(lab: Lab) -> Iterator[Historian]:
    """Who receives the verdicts."""
    with Historian(lab.broker) as historian:
        yield historian


@pytest.fixture
def unique(request: pytest.FixtureRequest) -> Callable[[], str]:
    """Short names for machines, no two alike."""
    counter = request.session.stash.setdefault(_COUNTER, [0])

    def name() -> str:
        counter[0] += 1
        return f"m{counter[0]}"

    return name


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[_FAILED] = True
    return report


_FAILED = pytest.StashKey[bool]()
_COUNTER = pytest.StashKey[list[int]]()


def _image(shared: Path, keys: KeySet, name: str, profile: str, *, version: int, healthy: bool = True) -> Image:
    def make(target: Path) -> None:
        build_image(profile, target, keys, version=version, healthy=healthy)

    return open_image(once(shared / "images", name, make))


def _updates(directory: Path, keys: Path) -> Updates:
    return Updates(directory, keys, product=load_profile(X86).product)


def _make_site(target: Path) -> None:
    make_site(target / "certificates", device_id=DEVICE, now=datetime.now(UTC))


def _tell(kept: list[Path]) -> None:
    for path in kept:
        if path.stat().st_size:
            print(f"read it: less -R {path}")
