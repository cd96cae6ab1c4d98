"""Wrong orders for a build, from the command line: refused before anything is written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from appliance.core.errors import InputError
from builder.cli.build import make_order
from builder.cli.main import main
from builder.host.output import output_directory
from builder.image.seal import VerityImage, _check_fit
from builder.lock.codec import encode_lock
from builder.lock.requests import profile_request
from builder.lock.types import Lock, LockedWheel
from builder.pipeline import check_order
from builder.profile.load import decode_profile
from builder.profile.types import MIB
from tests.support.keys import keys_at, keyset

GOOD = (Path(__file__).parent / "data" / "line-3.yaml").read_text()
PROFILE = decode_profile(GOOD.encode(), file="line-3.yaml", stem="line-3")
LOCK = Lock(
    name="line-3",
    architecture="x86_64",
    distribution="debian/trixie",
    request=profile_request(PROFILE).digest(),
    epoch=1_700_000_000,
    packages=(),
    wheels=(
        LockedWheel(
            name="numpy",
            version="2.4.6",
            filename="numpy-2.4.6-cp313-cp313-manylinux_2_28_x86_64.whl",
            size=5,
            sha256="ab" * 32,
        ),
    ),
)


@dataclass
class Place:
    """A directory with a good profile, its lock, development keys and nothing else; `edgeseal` runs in it."""

    path: Path
    capture: pytest.CaptureFixture[str]

    def lock(self, **changes: Any) -> None:
        """Write the lock, changed."""
        (self.path / "line-3.lock.json").write_bytes(encode_lock(msgspec.structs.replace(LOCK, **changes)))

    def build(self, *words: str) -> tuple[int, str]:
        """(exit code, standard error) of `edgeseal build line-3.yaml …` with that lock."""
        lock = () if "--lock" in words else ("--lock", "line-3.lock.json")
        code = main(["build", "./line-3.yaml", "--offline", "--out", "out", *lock, *words])
        return code, self.capture.readouterr().err

    def files(self) -> list[str]:
        """Every path there, the keys excepted."""
        return sorted(str(path.relative_to(self.path)) for path in self.path.rglob("*") if "keys" not in path.parts)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Place]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGESEAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("EDGESEAL_KEYS", str(tmp_path / "keys"))
    shutil.copytree(keys_at(), tmp_path / "keys" / "dev")
    (tmp_path / "line-3.yaml").write_text(GOOD)
    found = Place(tmp_path, capsys)
    found.lock()
    yield found
    assert found.files() == ["line-3.lock.json", "line-3.yaml"], "something was written"


WRITE_LOCK = "hint: write it: edgeseal lock line-3\n"
ROWS: list[tuple[str, Callable[[Place], object], tuple[str, ...], str]] = [
    (
        "a lock that is missing",
        lambda place: None,
        ("--lock", "other.lock.json"),
        f"error: other.lock.json: there is no lock for profile line-3\n{WRITE_LOCK}",
    ),
    (
        "the lock of another profile",
        lambda place: place.lock(name="line-4"),
        (),
        f"error: line-3.lock.json: this is the lock of line-4, the profile is line-3\n{WRITE_LOCK}",
    ),
    (
        "a lock for another architecture",
        lambda place: place.lock(architecture="arm64"),
        (),
        f"error: line-3.lock.json: this lock is for arm64, the profile for x86_64\n{WRITE_LOCK}",
    ),
    (
        "a lock that answers an older profile",
        lambda place: place.lock(request="0" * 64),
        (),
        "error: line-3.lock.json: this lock answers an older form of profile line-3: its packages or wheels changed "
        "since\nhint: write it again and look at the difference: edgeseal lock line-3\n",
    ),
    (
        "a lock with a wheel of another architecture",
        lambda place: place.lock(
            wheels=(msgspec.structs.replace(LOCK.wheels[0], filename="numpy-2.4.6-cp313-cp313-linux_aarch64.whl"),)
        ),
        (),
        "error: numpy-2.4.6-cp313-cp313-linux_aarch64.whl is not for x86_64\n"
        "hint: write the lock again for x86_64: edgeseal lock PROFILE\n",
    ),
    (
        "a lock that was edited",
        lambda place: (place.path / "line-3.lock.json").write_bytes(
            encode_lock(LOCK).replace(b'"schema"', b' "schema"')
        ),
        (),
        "error: line-3.lock.json: not in canonical form\n"
        "hint: locks are written by `edgeseal lock PROFILE`, never by hand\n",
    ),
    (
        "no keys",
        lambda place: shutil.rmtree(place.path / "keys"),
        (),
        "error: {}/keys/dev: there are no keys\nhint: make keys: edgeseal keys init --dev\n",
    ),
    (
        "a key that others can read",
        lambda place: (place.path / "keys/dev/db.key").chmod(0o644),
        (),
        "error: {0}/keys/dev/db.key: private db key: others can read it (mode 0644)\n"
        "hint: chmod 600 {0}/keys/dev/db.key\n",
    ),
    (
        "a key that is none",
        lambda place: (place.path / "keys/dev/db.key").write_text("nothing\n"),
        (),
        "error: {}/keys/dev/db.key: private db key: not a PKCS#8 PEM key\n",
    ),
    (
        "development keys with --release",
        lambda place: None,
        ("--release", "--keys", "keys/dev"),
        "error: keys/dev: a release cannot be signed with development keys: pk, kek, db, pcr, recovery, provenance\n"
        "hint: make release keys: edgeseal keys init --release\n",
    ),
    (
        "a version that is none",
        lambda place: None,
        ("--image-version", "0"),
        "error: --image-version: --image-version must be at least 1\n",
    ),
    (
        "a version that is no number",
        lambda place: None,
        ("--image-version", "two"),
        "error: argument --image-version: invalid int value: 'two'\nhint: see `edgeseal build --help`\n",
    ),
    (
        "an empty pool with --offline",
        lambda place: None,
        (),
        "error: 1 of the lock's items are not in the pool, and --offline was asked: "
        "numpy-2.4.6-cp313-cp313-manylinux_2_28_x86_64.whl …\n"
        "hint: build once without --offline, or `edgeseal pool import FILE`\n",
    ),
]


@pytest.mark.parametrize(("spoil", "words", "said"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_wrong_order(spoil: Callable[[Place], object], words: tuple[str, ...], said: str, place: Place) -> None:
    spoil(place)
    code, error = place.build(*words)
    place.lock()
    assert error == said.replace("{0}", "{}").replace("{}", str(place.path))
    assert code == 2


def test_a_release_with_a_test_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = make_order("virtual-x86_64", lock=None, image_version=None, release=True)
    with pytest.raises(InputError) as refusal:
        check_order(order, keyset("release"))
    assert str(refusal.value) == "profiles/virtual-x86_64.yaml: development.test_agent: a release has no test agent"
    assert refusal.value.hint == "build a profile without it; its agent is root for whoever holds the channel"


@pytest.mark.parametrize(
    ("data_mib", "hash_mib", "said", "hint"),
    [
        (
            161,
            2,
            "disk.root_slot: the image needs 161 MiB, the slot has 160 MiB",
            "set disk.root_slot to at least 161; a slot's size is fixed for a device's life",
        ),
        (
            160,
            9,
            "disk.verity_slot: the image needs 9 MiB, the slot has 8 MiB",
            "set disk.verity_slot to at least 9; a slot's size is fixed for a device's life",
        ),
    ],
)
def test_a_slot_that_is_smaller_than_the_image(data_mib: int, hash_mib: int, said: str, hint: str) -> None:
    image = VerityImage(
        data=Path("root.erofs"),
        hashes=Path("root.verity"),
        root_hash="0" * 64,
        salt="0" * 64,
        data_size=data_mib * MIB,
        hash_size=hash_mib * MIB,
        data_uuid=UUID(int=1),
        hash_uuid=UUID(int=2),
    )
    with pytest.raises(InputError) as refusal:
        _check_fit(PROFILE, image)
    assert (str(refusal.value), refusal.value.hint) == (said, hint)


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (lambda out: out.write_text("mine\n"), "this is not a build of edgeseal, and it is not empty"),
        (lambda out: (out / "mine").mkdir(parents=True), "this is not a build of edgeseal, and it is not empty"),
    ],
    ids=["a file", "a directory of somebody else"],
)
def test_an_output_directory_that_is_in_use(prepare: Callable[[Path], object], said: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(out)
    with pytest.raises(InputError) as refusal, output_directory(out):
        raise AssertionError("the block ran")
    assert str(refusal.value) == f"{out}: {said}"
    assert refusal.value.hint == "choose another directory with --out"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_build_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with output_directory(out) as directory:
        (directory / "manifest.json").write_text("old")
    with pytest.raises(RuntimeError), output_directory(out) as directory:
        (directory / "manifest.json").write_text("new")
        raise RuntimeError
    assert [(path.name, path.read_text()) for path in out.iterdir()] == [("manifest.json", "old")]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_no_space_for_the_result() -> None:
    """/dev/full is a disk without space."""
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "builder.cli.main", "profile", "schema"],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert ended.stderr.decode() == "error: no space left on device\nhint: free some space there and run it again\n"
    assert ended.returncode == 1


def test_an_error_as_json_keeps_its_place(place: Place) -> None:
    place.lock(request="0" * 64)
    code = main(["build", "./line-3.yaml", "--lock", "line-3.lock.json", "--json"])
    said = json.loads(place.capture.readouterr().out)
    place.lock()
    assert (code, said["error"]["file"]) == (2, "line-3.lock.json")
