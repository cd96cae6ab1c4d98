"""The pairs of roots that `benchmarks.update_delta` compares: made by the real builder, each old one from a real past.

All pairs share their new side: the profile and its lock as they stand, one version higher.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.place import Place, working_place
from builder.archive.fetch import fetch
from builder.host.toolstree import default_pool, tools_tree
from builder.lock.apt import PrivateApt
from builder.lock.codec import decode_lock, encode_lock
from builder.lock.requests import profile_request
from builder.lock.store import lock_path
from builder.lock.types import Lock
from builder.lock.wheels import resolve_wheels
from builder.profile.load import load_profile

MONTH_S = 30 * 86_400


@dataclass(frozen=True)
class Image:
    """A root. sealed: as the builder makes it. plain: the same tree in an erofs that is not compressed."""

    sealed: Path
    plain: Path
    salt: str
    uuid: str


@dataclass(frozen=True)
class Pair:
    """name: short. what: exactly what differs."""

    name: str
    what: str
    old: Image
    new: Image


@dataclass(frozen=True)
class _Past:
    name: str
    what: Callable[[Lock], str]
    lock: Callable[[Place, Lock], Lock]
    edit: Callable[[Place], None] = lambda _place: None


@contextmanager
def make_pairs(profile: str, patch: str, minor: str) -> Iterator[list[Pair]]:
    """patch, minor: older versions of onnxruntime. Everything is deleted at the end."""
    pasts = (
        _Past(
            "one file changed",
            lambda _: "one more line in one of our modules, and the version number",
            lambda _, lock: lock,
            Place.change_one_file,
        ),
        _Past("security update", _described, _before_security),
        _Past(
            f"onnxruntime {patch}",
            lambda _: f"onnxruntime {patch} before",
            lambda place, lock: _older(place, lock, patch),
        ),
        _Past(
            f"onnxruntime {minor}",
            lambda _: f"onnxruntime {minor} before",
            lambda place, lock: _older(place, lock, minor),
        ),
    )
    with working_place(profile) as place:
        lock_file = place.root / f"source/profiles/locks/{profile}.lock.json"
        lock = decode_lock(lock_file.read_bytes(), file=profile)
        new = _build(place, profile, "new", version=2)
        pairs = []
        for past in pasts:
            shutil.copytree(place.root / "source", place.root / "kept")
            old_lock = past.lock(place, lock)
            lock_file.write_bytes(encode_lock(old_lock))
            past.edit(place)
            old = _build(place, profile, past.name.replace(" ", "-"), version=1)
            pairs.append(Pair(past.name, past.what(old_lock), old, new))
            shutil.rmtree(place.root / "source")
            (place.root / "kept").rename(place.root / "source")
        yield pairs


def _build(place: Place, profile: str, name: str, *, version: int) -> Image:
    where = place.root / "images" / name
    where.mkdir(parents=True)
    words = ["build", profile, "--keys", str(place.root / "keys"), "--out", str(place.root / "out")]
    settings = {**os.environ, "EDGESEAL_CACHE": str(place.cache), "PYTHONPATH": str(place.root / "source")}
    subprocess.run(
        [sys.executable, "-m", "builder.cli.main", *words, "--offline", "--image-version", str(version)],
        cwd=place.root / "source",
        env=settings,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    for file in ("root.erofs", "manifest.json"):
        shutil.copyfile(place.root / "out" / file, where / file)
    tree = max((place.cache / "steps/root").glob("*/root"), key=lambda path: path.parent.stat().st_mtime)
    _plain(tree, where)
    with (place.root / "out/root.verity").open("rb") as stream:
        superblock = stream.read(512)
    return Image(where / "root.erofs", where / "plain.erofs", _salt(superblock), _uuid(superblock))


def _plain(tree: Path, where: Path) -> None:
    tools_tree().run(
        ["mkfs.erofs", "-Enoinline_data", "-x-1", "--all-root", "-T0", "--quiet", where / "plain.erofs", tree],
        reason="make an image that is not compressed",
        writable=[where],
        binds={tree: None},
    )


def _salt(superblock: bytes) -> str:
    return superblock[88 : 88 + int.from_bytes(superblock[80:82], "little")].hex()


def _uuid(superblock: bytes) -> str:
    text = superblock[16:32].hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _before_security(place: Place, lock: Lock) -> Lock:
    """The lock as it was when only the main archive had been asked, the kernel excepted."""
    request = profile_request(load_profile(lock.name))
    apt = PrivateApt(
        place.root / "apt", suite=lock.distribution.split("/")[1], architecture="x86_64", kept_out=request.kept_out
    )
    sources = place.root / "apt/etc/sources.list"
    sources.write_text(sources.read_text().splitlines()[0] + "\n")
    apt.update()
    found = {package.name: package for package in apt.describe(apt.solve(request.packages))}
    packages = tuple(
        found.get(package.name, package) if not package.name.startswith("linux-image") else package
        for package in lock.packages
    )
    return _fetched(msgspec.structs.replace(lock, packages=packages, epoch=lock.epoch - MONTH_S))


def _described(old: Lock) -> str:
    now = decode_lock(lock_path(old.name).read_bytes(), file=old.name)
    before = {package.name: package.version for package in old.packages}
    changed = [f"{item.name} {before[item.name]}" for item in now.packages if before[item.name] != item.version]
    return f"the main archive's versions before: {', '.join(changed)}; the same kernel"


def _older(place: Place, lock: Lock, version: str) -> Lock:
    """The lock, and the profile that it answers, with another onnxruntime."""
    file = place.root / f"source/profiles/{lock.name}.yaml"
    now = next(wheel for wheel in lock.wheels if wheel.name == "onnxruntime").version
    file.write_text(file.read_text().replace(f"onnxruntime=={now}", f"onnxruntime=={version}"))
    (older,) = resolve_wheels([f"onnxruntime=={version}"], architecture=lock.architecture, pool=default_pool())
    wheels = tuple(older if wheel.name == "onnxruntime" else wheel for wheel in lock.wheels)
    request = profile_request(load_profile(str(file)))
    return _fetched(msgspec.structs.replace(lock, wheels=wheels, request=request.digest(), epoch=lock.epoch - MONTH_S))


def _fetched(lock: Lock) -> Lock:
    fetch(lock, default_pool(), offline=False)
    return lock
