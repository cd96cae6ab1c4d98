"""fetch: bring into the pool what a lock names. The only step of a build that uses the network."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from appliance.core.errors import InputError
from builder.archive.pool import Pool
from builder.host.progress import say
from builder.host.run import run
from builder.host.scratch import scratch_directory
from builder.lock.mirrors import machine_mirrors
from builder.lock.types import Lock, LockedPackage
from builder.lock.wheels import fetch_wheel

_BATCH = 40
APT_HELPER = "/usr/lib/apt/apt-helper"


def missing_items(lock: Lock, pool: Pool) -> list[str]:
    """File names that the lock names and the pool lacks."""
    packages = [package.pool_path.rsplit("/", 1)[1] for package in lock.packages if not pool.has(package.sha256)]
    return packages + [wheel.filename for wheel in lock.wheels if not pool.has(wheel.sha256)]


def fetch(lock: Lock, pool: Pool, *, offline: bool) -> None:
    """Complete the pool for `lock`.

    offline: never use the network. Raises InputError when something is missing then, VerificationError when what came
    is not what the lock says.
    """
    missing = missing_items(lock, pool)
    if not missing:
        return
    if offline:
        raise InputError(
            f"{len(missing)} of the lock's items are not in the pool, and --offline was asked: {missing[0]} …",
            hint="build once without --offline, or `edgeseal pool import FILE`",
        )
    say(f"  fetching {len(missing)} items of {lock.name}")
    _fetch_packages([package for package in lock.packages if not pool.has(package.sha256)], pool)
    for wheel in lock.wheels:
        if not pool.has(wheel.sha256):
            fetch_wheel(wheel, pool, architecture=lock.architecture)


def _fetch_packages(packages: Sequence[LockedPackage], pool: Pool) -> None:
    if not packages:
        return
    mirrors = machine_mirrors()
    for start in range(0, len(packages), _BATCH):
        batch = packages[start : start + _BATCH]
        with scratch_directory(pool.root, ".fetching-") as directory:
            words: list[str] = []
            for package in batch:
                base = mirrors.security if package.archive == "security" else mirrors.main
                target = directory / package.sha256
                words += [base + quote(package.pool_path, safe="/+~"), str(target), f"SHA256:{package.sha256}"]
            run(
                [APT_HELPER, "-o", "Acquire::Retries=3", "download-file", *words],
                reason=f"fetch {len(batch)} packages",
                hint="a security update may have removed a version from the mirror: write the lock again with "
                "`edgeseal lock PROFILE`, or import a pool that still has it",
            )
            for package in batch:
                pool.add(directory / package.sha256, sha256=package.sha256, what=f"{package.name} {package.version}")
