"""edgeseal site from the command line: every wrong order with its exact message, and the site as it was."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from builder.cli.main import main
from builder.publish.keys import make_key, read_key
from builder.publish.repository import target_file
from tests.support.update_site import PRODUCT
from tests.support.update_vendor import VendorRepository

pytestmark = pytest.mark.xdist_group("site-cli")  # its plant is made once


@dataclass
class Plant:
    """A vendor with versions 8 and 9, and a site with the rings all and canary. Both are directories in `path`."""

    path: Path
    capture: pytest.CaptureFixture[str]
    vendor: VendorRepository

    def run(self, *words: str) -> tuple[int, str, str]:
        """(exit code, standard output, standard error) of `edgeseal`, run in `path`."""
        self.capture.readouterr()
        code = main(list(words))
        said = self.capture.readouterr()
        return code, said.out, said.err

    def approve(
        self, version: str = "8", *words: str, ring: str = "all", ticket: str = "CHG-7"
    ) -> tuple[int, str, str]:
        """`edgeseal site approve`; a flag that is in `words` again counts."""
        order = ["--vendor", "vendor", "--vendor-root", "vendor-root.json", "--ring", ring, "--ticket", ticket]
        return self.run("site", "approve", "site", PRODUCT, version, *order, *words)

    def digest(self) -> str:
        """Of all bytes below `site`, with their paths."""
        found = hashlib.sha256()
        for path in sorted((self.path / "site").rglob("*")):
            found.update(str(path).encode() + (path.read_bytes() if path.is_file() else b""))
        return found.hexdigest()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plant's directories, made once."""
    base = tmp_path_factory.mktemp("plant")
    vendor = VendorRepository(base)
    vendor.publish(8)
    vendor.publish(9)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(base)
        patch.setenv("EDGESEAL_KEYS", str(base / "keys"))
        patch.setenv("EDGESEAL_CACHE", str(base / "cache"))
        assert main(["site", "init", "site", "--site", "plant-4", "--product", PRODUCT, "--dev"]) == 0
        assert main(["site", "ring", "site", PRODUCT, "canary", "--device", "press-1", "--yes"]) == 0
    shutil.copy(base / "site/metadata/1.root.json", base / "site-root.json")
    return base


@pytest.fixture
def plant(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Plant:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGESEAL_KEYS", str(tmp_path / "keys"))
    monkeypatch.setenv("EDGESEAL_CACHE", str(tmp_path / "cache"))
    return Plant(tmp_path, capsys, VendorRepository.at(tmp_path))


def stage(plant: Plant) -> None:
    """An approval of version 8 that two approvers will sign."""
    code, _, said = plant.approve("8", "--approver", "approver-1", "--approver", "approver-2")
    assert (code, said) == (0, "")


def sign(*holders: str) -> Callable[[Plant], object]:
    """An approval is staged, and these have signed it."""

    def prepare(plant: Plant) -> None:
        stage(plant)
        for holder in holders:
            code, _, said = plant.run("site", "sign", STAGED, "--key", f"keys/dev/site/{holder}.json")
            assert (code, said) == (0, "")

    return prepare


def stranger(plant: Plant) -> None:
    """A key of somebody who is no approver."""
    stage(plant)
    make_key(plant.path / "stranger.json", holder="mallory", development=True)


def approvals(plant: Plant) -> Path:
    """The file of the approvals in force. Older ones lie beside it."""
    newest = max((plant.path / "site/metadata").glob("*.targets.json"), key=lambda path: int(path.name.split(".")[0]))
    ((name, target),) = json.loads(newest.read_text())["signed"]["targets"].items()
    return target_file(Path("site"), name, target["hashes"]["sha256"])


def nothing(plant: Plant) -> None:
    """As it is."""


def approve(version: str = "8", *words: str, ring: str = "all", ticket: str = "CHG-7") -> Callable[[Plant], object]:
    return lambda plant: plant.approve(version, *words, ring=ring, ticket=ticket)


def run(*words: str) -> Callable[[Plant], object]:
    return lambda plant: plant.run(*words)


STAGED = "site/staged/ceremony.json"
TWO = ("--approver", "approver-1", "--approver", "approver-2")
Act = Callable[[Plant], object]
ROWS: list[tuple[str, Act, Act, int, str]] = [
    (
        "no ticket",
        nothing,
        approve(ticket=" "),
        2,
        "error: an approval needs the number of its change ticket\nhint: --ticket NUMBER\n",
    ),
    (
        "an unknown ring",
        nothing,
        approve("8", *TWO, ring="canari"),
        2,
        "error: label-check has no ring `canari`\nhint: did you mean `canary`?\n",
    ),
    (
        "a window that is none",
        nothing,
        approve("8", "--window", "weekends"),
        2,
        "error: window 'weekends': this is no window\n"
        'hint: for example "22:00-04:00", "sat,sun 22:00-04:00", "mon-fri 01:00-05:00" or "fri 22:00-mon 04:00"\n',
    ),
    (
        "a date that is none",
        nothing,
        approve("8", "--not-before", "soon"),
        2,
        "error: this is no date with a time: 'soon'\nhint: for example 2026-07-01T22:00, or 2026-07-01T20:00Z\n",
    ),
    (
        "an end before the beginning",
        nothing,
        approve("8", *TWO, "--not-before", "2027-01-02T00:00", "--not-after", "2027-01-01T00:00"),
        2,
        "error: site policy: the approval of firmware/label-check/8.json ends before it begins\n",
    ),
    (
        "a version that the vendor does not have",
        nothing,
        approve("10", *TWO),
        2,
        "error: vendor: the vendor has no label-check 10\n",
    ),
    (
        "a product that the site does not have",
        nothing,
        run("site", "revoke", "site", "label-print", "8"),
        2,
        "error: site: site plant-4 has no product label-print\n"
        "hint: its products: label-check; add one: edgeseal site policy --new\n",
    ),
    (
        "an approver of another site",
        nothing,
        approve("8", "--approver", "approver-1", "--approver", "mallory"),
        2,
        "error: mallory is no approver of this site\nhint: its approvers: approver-1, approver-2, approver-3\n",
    ),
    (
        "too few approvers",
        nothing,
        approve("8", "--approver", "approver-1", "--approver", "approver-1"),
        2,
        "error: an approval needs 2 approvers, named: approver-1\n"
        "hint: --approver, for each; this site's: approver-1, approver-2, approver-3\n",
    ),
    (
        "approvers whose keys are not here",
        lambda plant: [path.unlink() for path in (plant.path / "keys/dev/site").glob("approver-*")],
        approve("8", "--yes"),
        2,
        "error: an approval needs 2 approvers, named: nobody\n"
        "hint: --approver, for each; this site's: approver-1, approver-2, approver-3\n",
    ),
    (
        "another root than the vendor's",
        lambda plant: shutil.copy(plant.path / "site-root.json", plant.path / "vendor-root.json"),
        approve("8", *TWO),
        1,
        "error: vendor repository: timestamp 3 has 0 of the 1 signatures that root 1 demands\n",
    ),
    (
        "a vendor's root that is missing",
        lambda plant: (plant.path / "vendor-root.json").unlink(),
        approve("8", *TWO),
        2,
        "error: vendor-root.json: the trusted root cannot be read: No such file or directory\n",
    ),
    (
        "a vendor that is nowhere",
        nothing,
        approve("8", *TWO, "--vendor", "elsewhere"),
        2,
        "error: elsewhere: there is no repository\nhint: an address, or a directory with metadata/ or a bundle\n",
    ),
    (
        "a site that is nowhere",
        nothing,
        run("site", "revoke", "elsewhere", PRODUCT, "8"),
        2,
        "error: elsewhere: there is no site\nhint: make one: edgeseal site init\n",
    ),
    (
        "what is not approved",
        nothing,
        run("site", "revoke", "site", PRODUCT, "8"),
        2,
        "error: version 8 of label-check is not approved\nhint: approved: none\n",
    ),
    (
        "a key of somebody else",
        stranger,
        run("site", "sign", STAGED, "--key", "stranger.json"),
        2,
        "error: the key of mallory ({stranger}) is asked for nothing here\n"
        "hint: targets: approver-1, approver-2, approver-3\n",
    ),
    (
        "one signature of two",
        sign("approver-1"),
        run("site", "finish", "site"),
        1,
        "error: targets: 1 of 2 signatures, 1 signature missing; not signed: approver-2, approver-3\n"
        "hint: edgeseal repo sign FILE --key KEY, by the holders named\n",
    ),
    (
        "another approver than the one who is named",
        sign("approver-1", "approver-3"),
        run("site", "finish", "site"),
        1,
        "error: site/staged/ceremony.json: the approval of firmware/label-check/8.json names approver-2 as approver, "
        "who has not signed\n"
        "hint: they sign too (edgeseal repo sign), or the approval is dropped and staged with other names\n",
    ),
    (
        "a second change before the first is finished",
        stage,
        run("site", "policy", "site", PRODUCT, "--mode", "hold"),
        2,
        "error: site/staged/ceremony.json: a ceremony waits for signatures: approve label-check 8, ticket CHG-7\n"
        "hint: finish it first, or drop it: `edgeseal repo publish --finish` or `--drop`; `edgeseal site finish`\n",
    ),
    (
        "nothing to finish",
        nothing,
        run("site", "finish", "site"),
        2,
        "error: site/staged/ceremony.json: there is no ceremony\n",
    ),
    (
        "a ring of nobody",
        nothing,
        run("site", "ring", "site", PRODUCT, "hall"),
        2,
        "error: ring hall: nobody is in it\nhint: --device, --devices-from, --group or --percent\n",
    ),
    (
        "a policy with nothing new",
        nothing,
        run("site", "policy", "site", PRODUCT),
        2,
        "error: nothing is to be changed\nhint: see `edgeseal site policy --help`\n",
    ),
    (
        "a zone that is none",
        nothing,
        run("site", "policy", "site", PRODUCT, "--timezone", "Europe/Berlim"),
        2,
        "error: there is no time zone `Europe/Berlim`\nhint: did you mean `Europe/Berlin`?\n",
    ),
    (
        "a site where one is",
        nothing,
        run("site", "init", "site", "--site", "plant-5", "--product", PRODUCT, "--dev"),
        2,
        "error: site: there is a repository here already\n",
    ),
    (
        "development keys in a plant",
        nothing,
        run(
            *("site", "init", "other", "--site", "plant-5", "--product", PRODUCT, "--threshold", "1"),
            *("--approver", "keys/dev/site/approver-1.json", "--online", "keys/dev/site/online.json"),
        ),
        2,
        "error: root: a site cannot have development keys: approver-1\nhint: for tests: edgeseal site init --dev\n",
    ),
    (
        "no approvers",
        nothing,
        run("site", "init", "other", "--site", "p", "--product", PRODUCT, "--online", "keys/dev/site/online.json"),
        2,
        "error: root: a threshold of 2 does not fit 0 keys\n",
    ),
    (
        "no online key",
        nothing,
        run("site", "init", "other", "--site", "plant-5", "--product", PRODUCT),
        2,
        "error: a site needs an online key\nhint: make one (edgeseal repo key FILE), then --online FILE\n",
    ),
    (
        "a site that somebody edited",
        lambda plant: approvals(plant).write_text("{}"),
        run("site", "status", "site"),
        1,
        "error: {approvals}: its bytes are not the target's\n"
        "hint: restore the directory from a copy; nothing was changed now\n",
    ),
]


@pytest.mark.parametrize(("prepare", "act", "code", "said"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_a_wrong_order(prepare: Act, act: Act, code: int, said: str, plant: Plant) -> None:
    prepare(plant)
    before = plant.digest()
    found = act(plant)
    if "{stranger}" in said:
        said = said.replace("{stranger}", read_key(Path("stranger.json")).key.keyid[:8])
    if "{approvals}" in said:
        said = said.replace("{approvals}", str(approvals(plant)))
    assert found == (code, "", said)
    assert plant.digest() == before, "the site's repository changed"
