"""The power goes at every operation of storing a model, in every way, and once more while the device recovers.

The directory is a real one, the repositories are real HTTP. At every moment current.json names versions that are whole.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cut_files import WAYS, CutFiles, Power, PowerCut, Way
from tests.support.models import NAME, SIZE, STRETCH, ModelDevice, approve_model, made, model_device, publish_model
from tests.support.plant import Plant, plant

BUDGET = (256 << 10) + 3 * SIZE  # two versions and their manifests leave no room for a third
SECOND_CUTS = 60
SEED = 7


class Bench:
    """A device with versions 1 and 2, for which 3 is approved; the budget makes 1 go first."""

    def __init__(self, here: Plant) -> None:
        self.here = here
        self.device = model_device(here, budget=BUDGET)
        for version in (1, 2):
            approve_model(here.change, publish_model(here.vendor, made(version)))
            self.device.update()
        assert self.device.holds(2)
        approve_model(here.change, publish_model(here.vendor, made(3)))
        self._disk = here.device.directory.parent / "disk"
        shutil.copytree(here.device.directory, self._disk)

    def switch_on(self, power: Power) -> ModelDevice:
        """As it was before the update."""
        shutil.rmtree(self.here.device.directory)
        shutil.copytree(self._disk, self.here.device.directory)
        self.here.device.recorder.events.clear()
        return self.again(power)

    def again(self, power: Power) -> ModelDevice:
        """After a cut."""
        power.after = self._check
        self.device.files = power.files
        return self.device

    def run(self, power: Power) -> None:
        """Until it rests, or the power goes."""
        self.device.update()
        assert power.at is None or len(power.done) <= power.at, "there is no such operation"

    def _check(self) -> None:
        """After each operation: what is current is whole, and it all fits."""
        assert self.device.holds(2) or self.device.holds(3)
        used = sum(path.stat().st_size for path in (self.device.base / NAME).iterdir() if path.suffix != ".json")
        assert used + (256 << 10) <= BUDGET

    def check_end(self) -> None:
        """It is installed, nothing is left over, and the log tells it."""
        assert self.device.holds(3)
        assert self.device.tree() == ["2.json", "2.onnx", "3.json", "3.onnx", "current.json"]
        assert "model-stored" in self.device.kinds


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with plant(tmp_path_factory.mktemp("plant")) as here:
        yield Bench(here)


def operations(bench: Bench) -> int:
    power = Power()
    bench.switch_on(power)
    bench.run(power)
    bench.check_end()
    kinds = {what.split()[0] for what in power.done}
    assert kinds == {"write", "append", "sync", "publish", "remove"}
    return len(power.done)


@pytest.mark.parametrize("way", WAYS)
def test_a_power_cut_at_every_operation(bench: Bench, way: Way) -> None:
    count, dice = operations(bench), random.Random(SEED)
    assert count > 30
    for at in range(count):
        power = Power(at=at, way=way)
        bench.switch_on(power)
        with pytest.raises(PowerCut):
            bench.run(power)
        power.damage(dice)
        assert bench.device.holds(2) or bench.device.holds(3), (at, way)
        bench.again(Power())
        bench.run(Power())
        bench.check_end()
        assert "update-state-replaced" not in bench.here.device.recorder.kinds, (at, way)


def test_a_second_power_cut_while_it_recovers(bench: Bench) -> None:
    count, dice = operations(bench), random.Random(SEED)
    cuts = 0
    while cuts < SECOND_CUTS:
        first = Power(at=dice.randrange(count), way=dice.choice(WAYS))
        bench.switch_on(first)
        with pytest.raises(PowerCut):
            bench.run(first)
        first.damage(dice)
        second = Power(at=dice.randrange(count), way=dice.choice(WAYS))
        bench.again(second)
        try:
            bench.run(second)
        except PowerCut:
            cuts += 1
            second.damage(dice)
        assert bench.device.holds(2) or bench.device.holds(3)
        bench.again(Power())
        bench.run(Power())
        bench.check_end()


def test_little_is_fetched_twice(bench: Bench) -> None:
    """All but the last stretch is still there after a cut."""
    power = Power()
    bench.switch_on(power)
    bench.run(power)
    last = max(number for number, what in enumerate(power.done) if what.startswith("append"))
    cut = Power(at=last, way="lost")
    bench.switch_on(cut)
    with pytest.raises(PowerCut):
        bench.run(cut)
    cut.damage(random.Random(SEED))
    bench.again(Power())
    bench.run(Power())
    (stored,) = [event for event in bench.here.device.recorder.events if event.kind == "model-stored"]
    fetched = stored.fields["fetched"]
    assert isinstance(fetched, int) and 0 < fetched <= 2 * STRETCH


class CurrentFirst(CutFiles):
    """Says that a version is current before it is there."""

    def publish(self, name: str, final: str) -> None:
        self._late = (name, final)

    def write(self, name: str, data: bytes) -> None:
        super().write(name, data)
        late = getattr(self, "_late", None)
        if late is not None:
            super().publish(*late)
            self._late = None


class NoSync(CutFiles):
    """Leaves it to the kernel when things reach the disk."""

    def sync(self, name: str) -> None:
        """Later."""

    def publish(self, name: str, final: str) -> None:
        """Renamed, and no more."""
        path, late = self.directory / name, self.directory / final

        def renamed() -> None:
            path.chmod(0o644)
            path.replace(late)
            self._power.unsynced[late] = self._power.unsynced.pop(path, 0)

        self._power.step("publish", renamed, renamed)


@pytest.mark.parametrize("kind", [CurrentFirst, NoSync])
def test_an_updater_that_is_wrong_is_found(bench: Bench, kind: type[CutFiles]) -> None:
    """Else these tests could not fail."""
    dice, found, at = random.Random(SEED), False, 0
    while not found:
        power = Power(at=at, way="unacknowledged")
        bench.switch_on(power)
        made_once: dict[Path, CutFiles] = {}
        bench.device.files = lambda path, power=power, made=made_once: made.setdefault(path, kind(path, power))  # type: ignore[misc]
        try:
            bench.run(power)
        except PowerCut:
            power.damage(dice)
            found = not (bench.device.holds(2) or bench.device.holds(3))
        except (AssertionError, FileNotFoundError):
            found = True
        else:
            break
        at += 1
    assert found
