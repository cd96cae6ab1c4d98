"""Real EFI binaries: systemd-boot and the stub, from the locked package of a profile."""

from __future__ import annotations

from pathlib import Path

import msgspec

from builder.archive.debian import unpack_deb
from builder.archive.fetch import fetch
from builder.host.toolstree import default_pool
from builder.lock.codec import decode_lock
from builder.lock.store import lock_path

_PACKAGE = "systemd-boot-efi"


def boot_binaries(profile: str, target: Path) -> Path:
    """Unpack the package into `target`; the directory with systemd-boot*.efi and linux*.efi.stub."""
    path = lock_path(profile)
    lock = decode_lock(path.read_bytes(), file=path.name)
    (package,) = [package for package in lock.packages if package.name == _PACKAGE]
    pool = default_pool()
    fetch(msgspec.structs.replace(lock, packages=(package,), wheels=()), pool, offline=False)
    unpack_deb(pool.open_verified(package.sha256, what=_PACKAGE), target)
    return target / "usr/lib/systemd/boot/efi"
