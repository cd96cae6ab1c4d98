"""`edgeseal repo` from the command line, with truly signed builds, and python-tuf's own client over HTTP."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from appliance.formats.release import Release
from builder.cli.main import main
from builder.host.sandbox import Sandbox
from builder.host.toolstree import tools_tree
from builder.publish.release import contents
from builder.publish.serve import serving
from tests.support.keys import keys_at, keyset
from tests.support.publish import PRODUCT, copy_of, make_version, tree
from tests.support.reference_client import TufClient

pytestmark = pytest.mark.xdist_group("repo-cli")  # its builds are made once


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """v7, v8, v9 with development keys, r7 with release keys. Never changed by a test."""
    base = tmp_path_factory.mktemp("builds")
    tools: Sandbox = tools_tree()
    for version in (7, 8, 9):
        make_version(base / f"v{version}", keyset(), tools, version=version, security_epoch=version // 8)
    make_version(base / "r7", keyset("release"), tools, version=7)
    return base


@dataclass
class Place:
    """A directory with builds and keys; `edgeseal` runs in it."""

    path: Path
    capture: pytest.CaptureFixture[str]

    def run(self, *words: str) -> tuple[int, str, str]:
        """(exit code, standard output, standard error)."""
        code = main(list(words))
        said = self.capture.readouterr()
        return code, said.out, said.err

    def good(self, *words: str) -> Any:
        """The result of a command that ends well."""
        code, out, err = self.run(*words, "--json")
        assert code == 0, err
        return json.loads(out)


@pytest.fixture
def place(
    tmp_path: Path, builds: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Place]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGESEAL_KEYS", str(tmp_path / "keys"))
    shutil.copytree(keys_at(), tmp_path / "keys/dev")
    shutil.copytree(keys_at("release"), tmp_path / "keys/release")
    for build in builds.iterdir():
        if build.is_dir():
            (tmp_path / build.name).symlink_to(build)
    yield Place(tmp_path, capsys)


def _fetch(address: str, release: Release) -> None:
    """Every content file of a release has its hash."""
    for content in contents(release):
        with urllib.request.urlopen(f"{address}{content.path}") as answer:
            data = answer.read()
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (content.sha256, content.size)


def test_every_client_of_every_state_updates_over_http(place: Place) -> None:
    """Three versions, three rotations and refreshes between them; clients of each state follow to the end."""
    place.good("repo", "init", "--dev")
    first = (place.path / "keys/dev/tuf/root.json").read_bytes()
    with serving(place.path / "repository") as server:
        address = f"http://127.0.0.1:{server.server_address[1]}/"
        clients: list[tuple[int, Path]] = []
        steps: list[tuple[str, ...]] = []
        for number, version in enumerate((7, 8, 9), start=1):
            key = f"keys/dev/tuf/new-{number}.json"
            place.good("repo", "key", key, "--dev")
            changes = [word for role in ("root", "targets", "timestamp") for word in ("--add", f"{role}={key}")]
            gone = f"new-{number - 1}" if number > 1 else "timestamp"
            steps += [
                ("publish", f"v{version}", "--dev"),
                ("refresh",),
                ("rotate", "--dev", *changes, "--remove", f"root=root-{number}", "--remove", f"timestamp={gone}"),
            ]
        for index, step in enumerate(steps):
            place.good("repo", *step)
            client = TufClient(place.path / f"client-{index}", address, first)
            release = client.update(PRODUCT, now=datetime.now(UTC))
            assert release.version == 7 + index // 3
            _fetch(address, release)
            clients.append((release.version, client.directory))
        for _, directory in clients:
            again = TufClient(place.path / f"again-{directory.name}", address, first)
            shutil.copytree(directory, again.directory, dirs_exist_ok=True, symlinks=True)
            assert again.update(PRODUCT, now=datetime.now(UTC)).version == 9
    status = place.good("repo", "status", "--full")
    assert {role["role"]: role["version"] for role in status["roles"]}["root"] == 4
    assert status["products"][0]["versions"] == [7, 8, 9]
    trusted = (place.path / "keys/dev/tuf/root.json").read_bytes()
    assert trusted == (place.path / "repository/metadata/4.root.json").read_bytes()


def test_a_release_ceremony_from_the_command_line(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHRASE", "three small words")
    for holder in ("anna", "bob", "carol"):
        place.good("repo", "key", f"{holder}/{holder}.json", "--passphrase-env", "PHRASE")
    for role in ("snapshot", "timestamp"):
        place.good("repo", "key", f"keys/release/tuf/{role}.json", "--passphrase-env", "PHRASE")
    keys = [word for holder in ("anna", "bob", "carol") for word in ("--root", f"{holder}/{holder}.json")]
    keys += [word for holder in ("anna", "bob", "carol") for word in ("--targets", f"{holder}/{holder}.json")]
    staged = place.good("repo", "init", *keys)
    assert staged["signatures"] == [
        "root: 0 of 2 signatures; 2 missing, not signed: anna, bob, carol",
        "targets: 0 of 2 signatures; 2 missing, not signed: anna, bob, carol",
    ]
    assert place.run("repo", "status")[0] == 0
    for holder in ("anna", "carol"):
        shutil.copy(staged["staged"], f"{holder}/ceremony")
        shown = place.good("repo", "sign", f"{holder}/ceremony", "--show")
        assert shown["words"] == staged["words"]
        assert place.good("repo", "sign", f"{holder}/ceremony", "--key", f"{holder}/{holder}.json")["signed"] == [
            "root",
            "targets",
        ]
    place.good("repo", "publish", "--finish", "--signed", "anna/ceremony", "--signed", "carol/ceremony")
    staged = place.good("repo", "publish", "r7")
    assert "release, virtual-x86_64" in " ".join(staged["words"])
    for holder in ("bob", "carol"):
        place.good("repo", "sign", staged["staged"], "--key", f"{holder}/{holder}.json")
    code, out, _ = place.run("repo", "sign", staged["staged"], "--show", "--root", "keys/release/tuf/root.json")
    assert code == 0
    assert "2 of 2 signatures, signed by bob, carol" in out
    place.good("repo", "publish", "--finish")
    code, out, _ = place.run("repo", "status")
    assert code == 0
    assert "line-inspection: latest 7, 1 published, security epoch 0, root hash" in out
    assert place.good("repo", "root", "--out", "root.json")["version"] == 1
    assert (place.path / "root.json").read_bytes() == (place.path / "keys/release/tuf/root.json").read_bytes()


def _broken(change: Callable[[Path], object]) -> Callable[[Place], tuple[str, ...]]:
    def act(place: Place) -> tuple[str, ...]:
        build = copy_of(place.path / "v8", place.path / "broken")
        change(build)
        return ("repo", "publish", "broken", "--dev")

    return act


def _cut(name: str) -> Callable[[Path], None]:
    return lambda build: os.truncate(build / name, 4096)


def _flip(name: str) -> Callable[[Path], None]:
    def flip(build: Path) -> None:
        data = bytearray((build / name).read_bytes())
        data[len(data) // 2] ^= 1
        (build / name).write_bytes(data)

    return flip


REFUSED: list[tuple[str, Callable[[Place], tuple[str, ...]], int, str]] = [
    ("nothing there", lambda _: ("repo", "publish", "nothing", "--dev"), 2, "nothing: there is no manifest.json"),
    ("no build", lambda _: ("repo", "publish", "keys", "--dev"), 2, "keys: there is no manifest.json"),
    (
        "a root cut off",
        _broken(_cut("root.erofs")),
        1,
        "broken: this build is not verified: file root.erofs: root.erofs has 4096 bytes, the manifest says ",
    ),
    (
        "a flipped bit in the hash tree",
        _broken(_flip("root.verity")),
        1,
        "broken: this build is not verified: file root.verity: root.verity: sha256 is ",
    ),
    (
        "a flipped bit in the UKI",
        _broken(_flip("uki.efi")),
        1,
        "broken: this build is not verified: file uki.efi: uki.efi: sha256 is ",
    ),
    (
        "no provenance",
        _broken(lambda build: (build / "provenance.dsse.json").unlink()),
        1,
        "broken: this build is not verified: provenance: broken: provenance.dsse.json is missing",
    ),
    (
        "other certificates",
        lambda _: ("repo", "publish", "v8", "--dev", "--trust", "keys/release"),
        1,
        "v8: this build is not verified: keys: signed with db key ",
    ),
    (
        "a release build",
        lambda _: ("repo", "publish", "r7"),
        2,
        "r7: this is a release build, the repository has development keys",
    ),
    (
        "the same version",
        lambda _: ("repo", "publish", "v7", "--dev"),
        2,
        "v7: line-inspection 7: version 7 is published already",
    ),
    (
        "nothing is staged",
        lambda _: ("repo", "publish", "--finish"),
        2,
        "repository/staged/ceremony.json: there is no ceremony",
    ),
    (
        "nothing to drop",
        lambda _: ("repo", "publish", "--drop"),
        2,
        "repository/staged/ceremony.json: there is no ceremony",
    ),
    ("no build named", lambda _: ("repo", "publish"), 2, "give the directory of a build, or --finish"),
    ("--show and --key", lambda _: ("repo", "sign", "x", "--show", "--key", "y"), 2, "give either --show or --key KEY"),
    ("days for no role", lambda _: ("repo", "refresh", "--days", "roots=1"), 2, "--days roots: no such role"),
    (
        "days that are none",
        lambda _: ("repo", "refresh", "--days", "root=x"),
        2,
        "--days x: not a number from 1 to 36500",
    ),
    (
        "no online keys",
        lambda _: ("repo", "refresh", "--keys", "v7"),
        2,
        "v7/manifest.json: not the description of a key",
    ),
    ("no repository", lambda _: ("repo", "status", "--repo", "v7"), 2, "v7: there is no repository"),
    (
        "a root that is none",
        lambda _: ("repo", "root", "--out", "x", "--version", "9"),
        2,
        "--version 9: the roots are 1 to 1",
    ),
    (
        "a key without a passphrase",
        lambda _: ("repo", "key", "eve.json"),
        2,
        "a release key in a file needs --passphrase-file",
    ),
]


@pytest.mark.parametrize(("act", "code", "message"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_refusal_changes_nothing(
    place: Place, act: Callable[[Place], tuple[str, ...]], code: int, message: str
) -> None:
    place.good("repo", "init", "--dev")
    place.good("repo", "publish", "v7", "--dev")
    before = tree(place.path / "repository")
    words = act(place)
    found, out, err = place.run(*words)
    assert (found, out) == (code, "")
    assert err.startswith(f"error: {message}"), err
    assert "Traceback" not in err
    assert tree(place.path / "repository") == before


def test_a_release_build_goes_into_a_development_repository_with_dev(place: Place) -> None:
    place.good("repo", "init", "--dev")
    assert place.good("repo", "publish", "r7", "--dev")["development"]


def test_a_product_that_lapses_soon_is_a_warning(place: Place) -> None:
    place.good("repo", "init", "--dev")
    place.good("repo", "publish", "v7", "--dev", "--days", "delegated=20")
    code, out, _ = place.run("repo", "refresh")
    assert code == 0
    assert "warning: firmware-line-inspection lapses in " in out
