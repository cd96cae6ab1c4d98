"""Models for the plant of tests/support/plant.py: published, approved, and a device that follows them.

Their bytes are noise: nothing of the update service ever looks into a model.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from appliance.formats.approval import Approval, SitePolicy
from appliance.formats.model_card import ModelCard
from appliance.formats.model_release import (
    ModelRelease,
    RunsOn,
    encode_model_release,
    latest_model_path,
    model_path,
)
from appliance.formats.release import Content
from appliance.update.model_fetch import Fetcher
from appliance.update.model_files import ModelFiles
from appliance.update.model_rounds import Around, ModelRounds
from appliance.update.model_store import ModelStore
from appliance.update.model_story import ModelStory
from appliance.update.rounds import Rhythm
from appliance.update.turns import Turns
from tests.support.plant import AFTER_FAILURE, AFTER_SUCCESS, PRODUCT, Change, InTurn, Plant, TinyDevice, Vendor
from tests.support.tuf_site import T0

NAME = "labels"
SIZE = 20_000
PIECE, STRETCH = 1000, 4000
BUDGET = 10 << 20


def noise(version: int, size: int = SIZE, name: str = NAME) -> bytes:
    """The bytes of that version, the same each time."""
    return random.Random(f"{name} {version}").randbytes(size)


def made(version: int, *, name: str = NAME, size: int = SIZE, oldest: int = 1, **changes: Any) -> ModelRelease:
    """A version of a model for PRODUCT."""
    data = noise(version, size, name)
    content = Content(sha256=hashlib.sha256(data).hexdigest(), size=size)
    card = ModelCard(
        name=name,
        sha256=content.sha256,
        bytes=size,
        labels=("up", "down"),
        input_name="x",
        source="a test",
        licence="Apache-2.0",
    )
    release = ModelRelease(
        model=name,
        version=version,
        development=True,
        built=T0 + 1000 * 86_400,  # it must not be believed
        products=(RunsOn(product=PRODUCT, oldest=oldest),),
        onnx=content,
        card=card,
    )
    return msgspec.structs.replace(release, **changes)


def publish_model(vendor: Vendor, release: ModelRelease) -> ModelRelease:
    """Name it in the vendor's metadata, and serve its content."""
    role, data = f"models-{release.model}", encode_model_release(release)
    if role not in vendor.repository.roles:
        vendor.repository.delegate("targets", role, paths=[f"models/{release.model}/*"], terminating=True)
    vendor.repository.add(role, model_path(release.model, release.version), data)
    vendor.repository.add(role, latest_model_path(release.model), data)
    vendor.repository.release(role)
    vendor.repository.files[release.onnx.path] = noise(release.version, release.onnx.size, release.model)
    return release


def approve_model(
    change: Change, release: ModelRelease, *, rings: tuple[str, ...] = ("all",), **changes: Any
) -> SitePolicy:
    """Approve exactly this manifest."""
    data = encode_model_release(release)
    approval = Approval(
        sequence=change.policy.sequence + 1,
        target=model_path(release.model, release.version),
        sha256=hashlib.sha256(data).hexdigest(),
        length=len(data),
        version=release.version,
        rings=rings,
        ticket=f"CHG-M{release.version}",
        approvers=("a.meyer", "k.sato"),
    )
    approval = msgspec.structs.replace(approval, **changes)
    others = tuple(each for each in change.policy.approvals if each.target != approval.target)
    return change.say(approvals=(*others, approval))


@dataclass
class Clock:
    """Monotonic seconds that pass when somebody says so. each: how much each look at it takes."""

    now: float = 1000.0
    each: float = 0.0

    def __call__(self) -> float:
        self.now += self.each
        return self.now


@dataclass
class Hand:
    """Somebody who plugs a medium in, or stops the service. See turns.Attention."""

    wanted: Callable[[], bool] = lambda: False
    begun: int = field(default=0)

    def begin(self) -> None:
        self.begun += 1

    def is_wanted(self) -> bool:
        return self.wanted()


class Service:
    """edgeseal-update, once started: firmware and models."""

    def __init__(self, turn: InTurn, models: ModelRounds, clock: Clock, hand: Hand) -> None:
        self.firmware = turn
        self.models = models
        self.clock = clock
        self.turns = Turns(turn.rounds, models, clock=clock, attention=hand)

    def run(self, *, at_most: int = 10) -> float:
        """Rounds until there is nothing to do at once; the pause that it then wants."""
        for _ in range(at_most):
            pause = self.turns.round()
            if pause > 0 or self.firmware.wants_reboot:
                return pause
        raise AssertionError("it does not come to rest")

    def later(self, seconds: float = AFTER_SUCCESS + 1) -> float:
        """The same after a pause."""
        self.clock.now += seconds
        return self.run()


class ModelDevice:
    """A TinyDevice that follows models as well."""

    def __init__(self, device: TinyDevice, *, names: Sequence[str] = (NAME,), budget: int = BUDGET) -> None:
        self.device = device
        self.names = names
        self.budget = budget
        self.clock = Clock()
        self.hand = Hand()
        self.free = 1 << 40
        self.files: Callable[[Path], ModelFiles] = ModelFiles

    @property
    def base(self) -> Path:
        """Where models are."""
        return self.device.directory / "state/models"

    @property
    def store(self) -> ModelStore:
        """As the service opens it."""
        return ModelStore(self.base, budget=self.budget, free=lambda _: self.free, files=self.files)

    @property
    def kinds(self) -> list[str]:
        """Of all events about models."""
        return [kind for kind in self.device.recorder.kinds if kind.startswith("model-")]

    @property
    def said(self) -> list[str]:
        """Their sentences."""
        return [event.sentence() for event in self.device.recorder.events if event.kind.startswith("model-")]

    def on(self) -> Service:
        """Start the service."""
        turn = self.device.on()
        around = Around(
            clock=self.clock,
            device=turn.device,
            progress=lambda _: None,
            should_stop=self.hand.is_wanted,
        )
        models = ModelRounds(
            self.store,
            ModelStory(self.device.recorder, clock=self.clock),
            turn.rounds,
            around,
            names=self.names,
            rhythm=Rhythm(AFTER_SUCCESS, lambda _failed: AFTER_FAILURE),
            fetcher=small_fetcher,
        )
        return Service(turn, models, self.clock, self.hand)

    def update(self) -> Service:
        """Run the service until it rests."""
        service = self.on()
        service.run()
        return service

    def holds(self, version: int, name: str = NAME) -> bool:
        """That version is current, whole, and readable by everybody."""
        current = self.store.current(name)
        file = self.base / name / f"{version}.onnx"
        if current is None or current.current.version != version or not file.is_file():
            return False
        readable = all(path.stat().st_mode & 0o777 == mode for path, mode in modes(self.base / name, version))
        return readable and hashlib.sha256(file.read_bytes()).hexdigest() == self._release(name, version).onnx.sha256

    def _release(self, name: str, version: int) -> ModelRelease:
        current = self.store.current(name)
        assert current is not None
        return self.store.release(name, version, current.current.release)

    def tree(self, name: str = NAME) -> list[str]:
        """Names of its files."""
        return sorted(path.name for path in (self.base / name).iterdir()) if (self.base / name).is_dir() else []


def modes(directory: Path, version: int) -> list[tuple[Path, int]]:
    """What the inference service has to get at."""
    files = (f"{version}.onnx", f"{version}.json", "current.json")
    return [(directory.parent, 0o755), (directory, 0o755), *((directory / name, 0o644) for name in files)]


def small_fetcher(store: ModelStore, progress: Callable[[int, int], None], should_stop: Callable[[], bool]) -> Fetcher:
    """So that a small model has many pieces and stretches."""
    return Fetcher(store, progress=progress, should_stop=should_stop, piece=PIECE, stretch=STRETCH)


def model_device(plant: Plant, **options: Any) -> ModelDevice:
    """Of that plant."""
    return ModelDevice(plant.device, **options)
