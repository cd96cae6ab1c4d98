"""Updates on a removable medium: made from directories or servers, verified by the device's own client."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.core.errors import EdgesealError, InputError
from appliance.formats.device import UpdateConfig
from appliance.formats.update_state import UpdateState
from appliance.update.asking import ask
from appliance.update.client import ExpiredError, RefusedError, TrustedRepository
from appliance.update.decide import Install, decide
from appliance.update.medium import MediumRepository
from appliance.update.reftime import TimeKnowledge
from builder.cli.main import main
from builder.host.sandbox import Sandbox
from builder.host.toolstree import tools_tree
from builder.publish.mediumcopy import apply_bundle, make_image
from builder.publish.serve import serving
from tests.support.update_site import DEVICE, PRODUCT, situation
from tests.support.update_vendor import VendorRepository

pytestmark = pytest.mark.xdist_group("bundle-journey")  # its plant is made once

ROOTS = ("--vendor-root", "vendor-root.json", "--site-root", "site-root.json")
OTHER = "label-print"


@dataclass
class Plant:
    """Two products; 8 and 9 of the first are approved, 3 of the second. The vendor's root was rotated twice."""

    path: Path
    vendor: VendorRepository
    capture: pytest.CaptureFixture[str]

    def run(self, *words: str) -> tuple[int, str, str]:
        """(exit code, standard output, standard error) of `edgeseal`, run in `path`."""
        self.capture.readouterr()
        code = main(list(words))
        said = self.capture.readouterr()
        return code, said.out, said.err

    def ok(self, *words: str) -> str:
        """The same, which must be done; its standard output."""
        code, out, said = self.run(*words)
        assert code == 0, said
        return out

    def create(self, name: str, *words: str, vendor: str = "vendor", site: str = "site") -> str:
        return self.ok("bundle", "create", name, "--vendor", vendor, "--site", site, *ROOTS, *words)


def approve(version: int, product: str = PRODUCT) -> list[str]:
    vendor = ["--vendor", "vendor", "--vendor-root", "vendor-root.json"]
    return ["site", "approve", "site", product, str(version), *vendor, "--ring", "all", "--ticket", "CHG-1", "--yes"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("plant")
    vendor = VendorRepository(base)
    vendor.publish(8)
    vendor.rotate()
    vendor.publish(9)
    vendor.rotate()
    vendor.publish(3, product=OTHER)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(base)
        patch.setenv("EDGESEAL_KEYS", str(base / "keys"))
        patch.setenv("EDGESEAL_CACHE", str(base / "cache"))
        products = ["--product", PRODUCT, "--product", OTHER]
        assert main(["site", "init", "site", "--site", "plant-4", *products, "--dev"]) == 0
        for words in (approve(8), approve(9), approve(3, OTHER)):
            assert main(words) == 0
    shutil.copy(base / "site/metadata/1.root.json", base / "site-root.json")
    return base


@pytest.fixture
def plant(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Plant:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGESEAL_KEYS", str(tmp_path / "keys"))
    monkeypatch.setenv("EDGESEAL_CACHE", str(tmp_path / "cache"))
    return Plant(tmp_path, VendorRepository.at(tmp_path), capsys)


def tree(base: Path) -> dict[str, bytes]:
    """Path to bytes."""
    return {str(path.relative_to(base)): path.read_bytes() for path in sorted(base.rglob("*")) if path.is_file()}


def test_a_bundle_has_all_that_every_device_needs(plant: Plant) -> None:
    said = plant.create("bundle")
    assert said.splitlines()[1:] == ["label-check: 8, 9", "label-print: 3"]
    names = set(tree(plant.path / "bundle/EDGESEAL"))
    assert {f"vendor/metadata/{number}.root.json" for number in (1, 2, 3)} <= names
    assert "site/metadata/1.root.json" in names
    assert sum("/content/" in name for name in names) == 12, "four files for each of three releases"
    assert plant.ok("bundle", "verify", "bundle", *ROOTS).splitlines()[3:] == [
        "label-check: 8, 9, policy 3, mode approve",
        "label-print: 3, policy 2, mode approve",
    ]


def test_the_same_repositories_give_the_same_bytes(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant.create("one")
    monkeypatch.setenv("EDGESEAL_CACHE", str(plant.path / "another cache"))
    before = os.umask(0o077)
    try:
        plant.create("two")
    finally:
        os.umask(before)
    assert tree(plant.path / "one") == tree(plant.path / "two")


def test_only_what_was_asked_for(plant: Plant) -> None:
    plant.create("bundle", "--product", OTHER)
    names = tree(plant.path / "bundle/EDGESEAL")
    assert sum("/content/" in name for name in names) == 4
    assert not any(PRODUCT in name for name in names)


def test_from_servers_it_is_the_same(plant: Plant) -> None:
    plant.create("one")
    with serving(plant.path / "vendor") as vendor, serving(plant.path / "site") as site:
        addresses = [f"http://127.0.0.1:{server.server_address[1]}/" for server in (vendor, site)]
        plant.create("two", vendor=addresses[0], site=addresses[1])
    assert tree(plant.path / "one") == tree(plant.path / "two")


def test_from_a_bundle_a_smaller_one_can_be_made(plant: Plant) -> None:
    plant.create("one")
    plant.create("two", "--product", OTHER, vendor="one", site="one")
    plant.create("three", "--product", OTHER)
    assert tree(plant.path / "two") == tree(plant.path / "three")


def test_a_held_product_travels_with_its_policy_and_without_content(plant: Plant) -> None:
    plant.ok("site", "policy", "site", PRODUCT, "--mode", "hold", "--yes")
    plant.create("bundle", "--product", PRODUCT)
    names = tree(plant.path / "bundle/EDGESEAL")
    assert not any("/content/" in name for name in names)
    assert "label-check: no version, policy 4, mode hold" in plant.ok("bundle", "verify", "bundle", *ROOTS)


def test_what_the_vendor_withdrew_is_told(plant: Plant) -> None:
    """The vendor whose repository is here never had 9: an older copy of it, before the approver's."""
    VendorRepository.at(plant.path)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(plant.path)
        other = VendorRepository(plant.path / "fresh")
        other.publish(7)
    words = ["--vendor", "fresh/vendor", "--site", "site", "--vendor-root", "fresh/vendor-root.json", *ROOTS[2:]]
    said = plant.ok("bundle", "create", "bundle", *words)
    assert said.splitlines()[-3:] == [
        f"approved, but not at the vendor: firmware/{PRODUCT}/8.json",
        f"approved, but not at the vendor: firmware/{PRODUCT}/9.json",
        f"approved, but not at the vendor: firmware/{OTHER}/3.json",
    ]


# ---- a device and the medium


def device(plant: Plant, name: str, mount: Path) -> tuple[TrustedRepository, TrustedRepository]:
    """(vendor, site) of a device called `name`, with the first roots sealed in."""
    made = []
    for repository in ("vendor", "site"):
        root = (plant.path / f"{repository}-root.json").read_bytes()
        source = MediumRepository(mount, "vendor" if repository == "vendor" else "site")
        store = plant.path / "devices" / name / repository
        made.append(TrustedRepository(store, root, source, UpdateConfig(), name=f"{repository} repository"))
    return made[0], made[1]


def test_a_device_without_network_and_clock_decides_to_install_the_newest(plant: Plant) -> None:
    """Its clock says 1970, its roots are the first ones, and it never saw either repository."""
    plant.create("bundle")
    vendor, site = device(plant, "press-7", plant.path / "bundle")
    answers = ask(vendor, site, product=PRODUCT, t_low=1_700_000_000)
    given = situation(
        answers.policy,
        *answers.offers.values(),
        state=UpdateState(),
        time=TimeKnowledge(answers.t_low, 0),
        expires=answers.expires,
    )
    decision = decide(given)
    assert isinstance(decision, Install)
    assert decision.offer.release.version == 9
    assert decision.sentence.endswith("; freshness unproven")
    assert answers.policy is not None
    assert answers.t_low == answers.policy.signed_at
    assert DEVICE.version == 7


def test_a_medium_older_than_what_a_device_saw_is_refused(plant: Plant) -> None:
    plant.create("old")
    plant.ok("site", "revoke", "site", PRODUCT, "9", "--yes")
    plant.create("new")
    ask(*device(plant, "press-7", plant.path / "new"), product=PRODUCT, t_low=0)
    with pytest.raises(RefusedError) as refusal:
        ask(*device(plant, "press-7", plant.path / "old"), product=PRODUCT, t_low=0)
    assert str(refusal.value) == ("site repository: timestamp 4 is older than timestamp 5, which was accepted before")


def test_the_label_is_not_believed(plant: Plant) -> None:
    """It may promise anything: a device does not ask it."""
    plant.create("bundle")
    (plant.path / "bundle/EDGESEAL/bundle.json").write_bytes(b"\0" * 100)
    answers = ask(*device(plant, "press-7", plant.path / "bundle"), product=PRODUCT, t_low=0)
    assert sorted(answers.offers) == ["firmware/label-check/8.json", "firmware/label-check/9.json"]


# ---- verify: what is wrong with a medium


def some(pattern: str) -> Callable[[Path], Path]:
    return lambda base: sorted(base.glob(pattern))[0]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_every_file_counts(plant: Plant) -> None:
    """Each file taken away, cut, and with one bit changed: never verified, always with a message and no traceback."""
    plant.create("good")
    files = sorted(path for path in (plant.path / "good").rglob("*") if path.is_file())
    assert len(files) > 20
    for file in files:
        good = file.read_bytes()
        for bad in (
            None,
            good[:-1],
            good[: len(good) // 2] + bytes([good[len(good) // 2] ^ 1]) + good[len(good) // 2 + 1 :],
        ):
            file.unlink()
            if bad is not None:
                file.write_bytes(bad)
            code, out, said = plant.run("bundle", "verify", "good", *ROOTS)
            assert (code in (1, 2), out) == (True, ""), (file, bad)
            assert "error: " in said
            file.write_bytes(good)
    assert plant.run("bundle", "verify", "good", *ROOTS)[0] == 0


SPOILED: list[tuple[str, Callable[[Path], object], int, str]] = [
    (
        "no bundle",
        lambda base: shutil.rmtree(base),
        2,
        "error: bundle: there is no bundle here: no EDGESEAL/bundle.json\nhint: make one: edgeseal bundle create\n",
    ),
    (
        "a label that says more",
        lambda base: (base / "bundle.json").write_bytes(
            (base / "bundle.json").read_bytes().replace(b'"versions":[8,9]', b'"versions":[8,9,10]')
        ),
        1,
        "error: bundle: the label does not say what is on the medium\n",
    ),
    (
        "a file of somebody else",
        lambda base: (base / "vendor/autorun.inf").write_text("[autorun]"),
        1,
        "error: bundle/EDGESEAL/vendor/autorun.inf: this is no file of the bundle\n",
    ),
    (
        "a link",
        lambda base: (base / "vendor/link").symlink_to("/etc"),
        1,
        "error: bundle/EDGESEAL/vendor/link: this is no file of the bundle\n",
    ),
    (
        "metadata that is a link",
        lambda base: ((base / "site").rename(base.parent / "site"), (base / "site").symlink_to("../site")),
        1,
        "error: medium: site/metadata/2.root.json: a link, or a file in the place of a directory\n",
    ),
    (
        "no timestamp",
        lambda base: (base / "site/metadata/timestamp.json").unlink(),
        1,
        "error: medium: site/metadata/timestamp.json: not there\n",
    ),
]


@pytest.mark.parametrize(("spoil", "code", "said"), [row[1:] for row in SPOILED], ids=[row[0] for row in SPOILED])
def test_a_medium_that_is_not_verified(spoil: Callable[[Path], object], code: int, said: str, plant: Plant) -> None:
    plant.create("bundle")
    spoil(plant.path / "bundle/EDGESEAL")
    found, out, error = plant.run("bundle", "verify", "bundle", *ROOTS)
    assert (found, out, without_steps(error)) == (code, "", said)


def without_steps(text: str) -> str:
    """What is said of progress is not the message."""
    return "".join(line for line in text.splitlines(keepends=True) if line.startswith(("error:", "hint:")))


def test_a_bundle_of_another_site_is_refused(plant: Plant) -> None:
    plant.create("bundle")
    shutil.copy(plant.path / "vendor-root.json", plant.path / "site-root.json")
    code, _, said = plant.run("bundle", "verify", "bundle", *ROOTS)
    assert (code, without_steps(said)) == (
        1,
        "error: site repository: timestamp 4 has 0 of the 1 signatures that root 1 demands\n",
    )


def test_lapsed_metadata_is_refused(plant: Plant) -> None:
    plant.create("bundle")
    vendor, site = device(plant, "press-7", plant.path / "bundle")
    later = int((datetime.now(UTC) + timedelta(days=400)).timestamp())
    with pytest.raises(ExpiredError):
        ask(vendor, site, product=PRODUCT, t_low=later)


def test_a_bundle_over_another(plant: Plant) -> None:
    plant.create("bundle")
    code, _, said = plant.run("bundle", "create", "bundle", "--vendor", "vendor", "--site", "site", *ROOTS)
    assert (code, without_steps(said)) == (
        2,
        "error: bundle: there is something already\nhint: a new directory for each bundle\n",
    )


def test_what_the_site_approved_and_the_vendor_replaced(plant: Plant) -> None:
    """Another vendor's repository, in which version 8 is something else."""
    other = VendorRepository(plant.path / "evil")
    other.publish(8, security_epoch=4)
    root = ("--vendor-root", "evil/vendor-root.json", *ROOTS[2:])
    code, _, said = plant.run("bundle", "create", "bundle", "--vendor", "evil/vendor", "--site", "site", *root)
    assert code == 1
    assert without_steps(said).startswith("error: firmware/label-check/8.json: the site approved sha256 ")
    assert not (plant.path / "bundle").exists()


# ---- apply


def test_a_medium_is_written_once_and_then_only_what_changed(plant: Plant) -> None:
    plant.create("one")
    (plant.path / "stick").mkdir()
    (plant.path / "stick/notes.txt").write_text("of the plant")
    files, _ = apply_bundle(plant.path / "one", plant.path / "stick")
    assert files == len(tree(plant.path / "one"))
    assert apply_bundle(plant.path / "one", plant.path / "stick") == (0, 0)
    plant.ok("site", "revoke", "site", PRODUCT, "9", "--yes")
    plant.create("two")
    files, _ = apply_bundle(plant.path / "two", plant.path / "stick")
    assert files == 5, "the policy, targets, snapshot, timestamp, label"
    assert tree(plant.path / "stick/EDGESEAL") == tree(plant.path / "two/EDGESEAL")
    assert (plant.path / "stick/notes.txt").exists()


def test_a_medium_that_is_pulled_out_while_it_is_written_is_old_or_new(plant: Plant) -> None:
    """A kill before each of the files that are written: a device sees the old policy, the new one, or refuses."""
    plant.create("one")
    plant.ok("site", "revoke", "site", PRODUCT, "9", "--yes")
    plant.create("two")
    seen = []
    for point in range(6):
        stick = plant.path / f"stick-{point}"
        shutil.copytree(plant.path / "one", stick)
        with pytest.MonkeyPatch.context() as patch, pytest.raises((KeyboardInterrupt, StopIteration)):
            kill_at(point, patch)
            apply_bundle(plant.path / "two", stick)
            raise StopIteration
        answers = ask(*device(plant, f"press-{point}", stick), product=PRODUCT, t_low=0)
        assert answers.policy is not None
        seen.append(answers.policy.sequence)
    assert seen == [3, 3, 3, 3, 4, 4], "timestamp.json is the switch"


def kill_at(point: int, patch: pytest.MonkeyPatch) -> None:
    copied = []
    copy = shutil.copyfile

    def counted(source: Path, target: Path) -> object:
        copied.append(source)
        if len(copied) > point:
            raise KeyboardInterrupt
        return copy(source, target)

    patch.setattr(shutil, "copyfile", counted)


def test_a_full_medium_is_left_as_it_was(plant: Plant) -> None:
    """A file system of 1 MiB, in a mount namespace of its own."""
    plant.create("bundle")
    (plant.path / "stick").mkdir()
    program = "import sys; from builder.cli.main import main; sys.exit(main(sys.argv[1:]))"
    mount = 'mount -t tmpfs -o size=1m tmpfs stick && "$@"; code=$?; ls -A stick; exit $code'
    python = [sys.executable, "-c", program, "bundle", "apply", "bundle", "stick"]
    ended = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh", *python],
        capture_output=True,
        text=True,
        cwd=plant.path,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        "error: stick: the medium is too full: 1 MiB are free, the bundle needs 2 MiB\n"
        "hint: use a larger medium, or create the bundle for fewer products: --product\n"
    )


@pytest.mark.parametrize(
    ("medium", "said"),
    [("nowhere", "there is no such directory"), ("bundle", "this is the bundle itself")],
)
def test_a_medium_that_is_none(medium: str, said: str, plant: Plant) -> None:
    plant.create("bundle")
    with pytest.raises(InputError) as refusal:
        apply_bundle(Path("bundle"), Path(medium))
    assert str(refusal.value) == f"{medium}: {said}"


def test_a_medium_that_cannot_be_written(plant: Plant) -> None:
    plant.create("bundle")
    (plant.path / "stick").mkdir()
    (plant.path / "stick/EDGESEAL").write_text("a file in the way")
    with pytest.raises(EdgesealError) as refusal:
        apply_bundle(Path("bundle"), Path("stick"))
    assert refusal.value.message in (
        "the medium cannot be used: not a directory",
        "the medium cannot be used: file exists",
    )


@pytest.fixture(scope="module")
def tools() -> Sandbox:
    """From this user's cache, which the plant does not have."""
    return tools_tree()


def test_a_fat_image_is_reproducible_and_holds_the_bundle(tools: Sandbox, plant: Plant) -> None:
    plant.create("bundle")
    make_image(Path("bundle"), Path("one.img"), tools)
    time.sleep(2.1)  # FAT counts time in steps of 2 s
    make_image(Path("bundle"), Path("two.img"), tools)
    assert Path("one.img").read_bytes() == Path("two.img").read_bytes()
    (plant.path / "out").mkdir()
    read = ["mcopy", "-s", "-n", "-i", plant.path / "one.img", "::/EDGESEAL", plant.path / "out"]
    binds: dict[Path, str | None] = {plant.path / "one.img": None}
    tools.run(read, reason="read a FAT image", writable=[plant.path / "out"], binds=binds)
    assert tree(plant.path / "out") == tree(plant.path / "bundle")
    assert plant.run("bundle", "verify", "out", *ROOTS)[0] == 0
