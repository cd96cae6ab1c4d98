"""The case that sites are designed for: 200 devices, 15 plants, 4 countries, one vendor; and one site of 100,000."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from appliance.core.errors import VerificationError
from appliance.formats.approval import decode_policy
from appliance.formats.device import UpdateConfig
from appliance.formats.update_state import UpdateState
from appliance.update.asking import Answers, ask
from appliance.update.client import TrustedRepository
from appliance.update.decide import Decision, Install, decide
from appliance.update.medium import TreeRepository
from appliance.update.reftime import TimeKnowledge
from appliance.update.rules import Wait
from builder.cli.main import main
from tests.support.update_site import DEVICE, PRODUCT, situation
from tests.support.update_vendor import VendorRepository

pytestmark = pytest.mark.xdist_group("fleet")  # its repositories are made once

ZONES = ("Europe/Berlin", "Asia/Tokyo", "America/Chicago", "Asia/Kolkata")
PLANTS = {f"plant-{number}": ZONES[number % 4] for number in range(1, 16)}
DEVICES = [(f"plant-{number % 15 + 1}", f"cell-{number}") for number in range(200)]
WINDOW = "sat,sun 22:00-04:00"


@dataclass
class Fleet:
    """base: has every plant's repository, and the vendor's."""

    base: Path

    def run(self, *words: str) -> None:
        assert main(list(words)) == 0

    def approve(self, plant: str, ring: str, *words: str) -> None:
        vendor = ["--vendor", "vendor", "--vendor-root", "vendor-root.json"]
        self.run("site", "approve", plant, PRODUCT, "8", *vendor, "--ring", ring, "--ticket", "CHG-1", "--yes", *words)

    def asks(self, plant: str, *, root: str | None = None) -> Answers:
        """What a device of the plant that never asked before is told. root: of another plant, which it was given."""
        made = []
        for name, first in (("vendor", "vendor-root.json"), (plant, f"{root or plant}/metadata/1.root.json")):
            source = TreeRepository(self.base / name, called=name)
            store = self.base / "devices" / f"{plant}-{root}-{name}"
            trusted = (self.base / first).read_bytes()
            made.append(TrustedRepository(store, trusted, source, UpdateConfig(), name=name))
        answers = ask(made[0], made[1], product=PRODUCT, t_low=0)
        shutil.rmtree(self.base / "devices")
        return answers


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    base = tmp_path_factory.mktemp("fleet")
    VendorRepository(base).publish(8)
    fleet = Fleet(base)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(base)
        patch.setenv("EDGESEAL_CACHE", str(base / "cache"))
        for plant, zone in PLANTS.items():
            patch.setenv("EDGESEAL_KEYS", str(base / "keys" / plant))
            fleet.run("site", "init", plant, "--site", plant, "--product", PRODUCT, "--timezone", zone, "--dev")
            first = next(device for where, device in DEVICES if where == plant)
            fleet.run("site", "ring", plant, PRODUCT, "canary", "--device", first, "--yes")
            fleet.approve(plant, "canary", "--window", WINDOW)
    return fleet


def decisions(answers: dict[str, Answers], wall: int) -> dict[tuple[str, str], Decision]:
    """Of all 200 devices, at the same instant."""
    found = {}
    for plant, name in DEVICES:
        told = answers[plant]
        given = situation(
            told.policy,
            *told.offers.values(),
            device=replace(DEVICE, site=plant, name=name),
            state=UpdateState(),
            time=TimeKnowledge(told.t_low, wall),
            expires=told.expires,
        )
        found[plant, name] = decide(given)
    return found


def night(zone: str, after: int) -> int:
    """The next Saturday, 23:00 on the wall there, as Unix seconds."""
    tz = ZoneInfo(zone)
    for day in range(1, 9):
        at = datetime.fromtimestamp(after + day * 86_400, tz).replace(hour=23, minute=0, second=0)
        if at.weekday() == 5:
            return int(at.timestamp())
    raise AssertionError


def test_canaries_first_each_in_its_own_night(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(fleet.base)
    monkeypatch.setenv("EDGESEAL_CACHE", str(fleet.base / "cache"))
    told = {plant: fleet.asks(plant) for plant in PLANTS}
    start = max(answers.t_low for answers in told.values())
    for zone in ZONES:
        at = night(zone, start)
        found = decisions(told, at)
        installing = {key for key, decision in found.items() if isinstance(decision, Install)}
        here = {plant for plant in PLANTS if PLANTS[plant] == zone}
        assert {plant for plant, _ in installing} >= here, f"23:00 in {zone}"
        for plant in {plant for plant, _ in installing}:
            local = datetime.fromtimestamp(at, ZoneInfo(PLANTS[plant]))
            assert local.weekday() in (5, 6, 0), "a Saturday's or a Sunday's window"
            assert local.hour >= 22 or local.hour < 4, f"{plant} installs at {local}"
        assert max(Counter(plant for plant, _ in installing).values()) == 1, "one canary in each plant"
        waiting = Counter(decision.reason for decision in found.values() if isinstance(decision, Wait))
        assert waiting["ring"] == 200 - 15

    monkeypatch.setenv("EDGESEAL_KEYS", str(fleet.base / "keys/plant-4"))
    fleet.approve("plant-4", "all", "--any-time")
    told["plant-4"] = fleet.asks("plant-4")
    found = decisions(told, max(answers.t_low for answers in told.values()) + 60)
    everywhere = {key for key, decision in found.items() if isinstance(decision, Install)}
    assert {key for key in everywhere if key[0] == "plant-4"} == {key for key in DEVICES if key[0] == "plant-4"}


def test_a_plant_has_no_say_in_another(fleet: Fleet) -> None:
    """Its repository, offered to a device of the next plant, is not even read as far as the approval."""
    with pytest.raises(VerificationError) as refusal:
        fleet.asks("plant-3", root="plant-2")
    assert "signatures that root 1 demands" in str(refusal.value)


def test_100_000_devices_ask_for_the_same_small_files(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth goes first, then all; nobody keeps a list, and what a device fetches does not grow with the fleet."""
    monkeypatch.chdir(fleet.base)
    monkeypatch.setenv("EDGESEAL_CACHE", str(fleet.base / "cache"))
    monkeypatch.setenv("EDGESEAL_KEYS", str(fleet.base / "keys/big"))
    fleet.run("site", "init", "big", "--site", "big", "--product", PRODUCT, "--dev")
    fleet.run("site", "ring", "big", PRODUCT, "tenth", "--percent", "10", "--yes")
    fleet.approve("big", "tenth")
    told = fleet.asks("big")
    served = [path for path in (fleet.base / "big").rglob("*") if path.is_file() and ".work" not in path.parts]
    newest = [path for path in served if path.name.startswith(("3.", "timestamp")) or path.name == "1.root.json"]
    policies = sorted((fleet.base / "big/targets/approvals").iterdir())
    policy = next(path for path in policies if decode_policy(path.read_bytes()) == told.policy)
    assert sum(path.stat().st_size for path in [*newest, policy]) < 12_000
    given = situation(told.policy, *told.offers.values(), state=UpdateState(), expires=told.expires)
    time = TimeKnowledge(told.t_low, told.t_low + 60)
    counts = Counter(
        decide(replace(given, device=replace(DEVICE, site="big", name=f"cell-{number}"), time=time)).reason
        for number in range(100_000)
    )
    assert set(counts) == {"approved", "ring"}
    assert 9_600 <= counts["approved"] <= 10_400


def test_100_000_names_are_refused_with_what_to_do(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(fleet.base)
    monkeypatch.setenv("EDGESEAL_KEYS", str(fleet.base / "keys/plant-1"))
    names = tmp_path / "devices.txt"
    names.write_text("".join(f"cell-{number:06}\n" for number in range(100_000)))
    capsys.readouterr()
    code = main(["site", "ring", "plant-1", PRODUCT, "everyone", "--devices-from", str(names), "--yes"])
    said = capsys.readouterr().err
    assert code == 2
    assert said.startswith("error: site policy: 14")
    assert said.endswith(
        " bytes, at most 1048576 are allowed\nhint: name groups or a percentage in the rings, not single devices\n"
    )
    assert main(["site", "status", "plant-1"]) == 0
    assert "everyone" not in capsys.readouterr().out
