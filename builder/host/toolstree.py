"""The two locked trees of programs: what builds an image, and what runs one."""

from __future__ import annotations

import functools
from pathlib import Path

from appliance.core.errors import InputError, Place
from builder.archive import debian
from builder.archive.fetch import fetch
from builder.archive.pool import Pool
from builder.archive.stepcache import cached_directory, code_digest, key_of
from builder.host.paths import cache_directory
from builder.host.progress import step
from builder.host.sandbox import Sandbox
from builder.lock.codec import decode_lock, encode_lock
from builder.lock.store import lock_path
from builder.lock.types import Lock

_UNWANTED = ("usr/share/doc/", "usr/share/man/", "usr/share/locale/", "usr/share/info/", "usr/share/lintian/")


def default_pool() -> Pool:
    """The pool of this user."""
    return Pool(cache_directory() / "pool")


def tools_tree(*, offline: bool = False) -> Sandbox:
    """ukify, mkfs.erofs, veritysetup, systemd-repart, depmod, mtools, python3 of the device's version …"""
    return _tree("tools", offline)


def vm_tree(*, offline: bool = False) -> Sandbox:
    """QEMU, swtpm, UEFI firmware, mosquitto, fonts."""
    return _tree("vm", offline)


@functools.cache
def _tree(name: str, offline: bool) -> Sandbox:
    file = f"profiles/locks/{name}.lock.json"
    try:
        data = lock_path(name).read_bytes()
    except FileNotFoundError as error:
        what = "QEMU, its firmware and the broker come" if name == "vm" else "the build tools come"
        raise InputError(
            f"there is no lock for the tree that {what} from", place=Place(file), hint=f"write it: edgeseal lock {name}"
        ) from error
    lock = decode_lock(data, file=file)
    return Sandbox(root=unpack_tree(lock, default_pool(), offline=offline), epoch=lock.epoch)


def unpack_tree(lock: Lock, pool: Pool, *, offline: bool) -> Path:
    """All packages of a lock in one directory, kept by the lock's hash."""

    def make(target: Path) -> None:
        with step(f"unpack the {lock.name} tree"):
            fetch(lock, pool, offline=offline)
            for package in lock.packages:
                deb = pool.open_verified(package.sha256, what=f"{package.name} {package.version}")
                debian.unpack_deb(deb, target, keep=lambda path: not path.startswith(_UNWANTED))
            (target / "usr/lib64").mkdir(exist_ok=True)
            (target / "etc").mkdir(exist_ok=True)
            (target / "etc/passwd").write_text("root:x:0:0:root:/nonexistent:/usr/sbin/nologin\n")
            (target / "etc/group").write_text("root:x:0:\n")

    return cached_directory("tree", key_of(encode_lock(lock), code_digest([debian])), make)
