"""Collect what packages and wheels say about themselves from their unpacked trees in the cache."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import msgspec

from appliance.core.errors import VerificationError
from builder.archive import debian
from builder.archive.pool import Pool
from builder.archive.stepcache import cached_file, code_digest, key_of
from builder.lock.codec import encode_lock
from builder.lock.types import Lock, LockedPackage, LockedWheel
from builder.review import facts, licences
from builder.review.facts import PackageFacts, WheelFacts, normalised, package_facts, wheel_facts


def collect_packages(lock: Lock, pool: Pool, tree_of: Callable[[LockedPackage], Path]) -> dict[str, PackageFacts]:
    """Facts by package name, kept by the lock. tree_of: the whole package, unpacked with /usr merged."""
    key = key_of(encode_lock(lock), code_digest([debian, facts, licences]), Path(__file__).read_bytes())

    def make(target: Path) -> None:
        target.write_bytes(msgspec.json.encode(_read_packages(lock, pool, tree_of)))

    return msgspec.json.decode(cached_file("package-facts", key, make).read_bytes(), type=dict[str, PackageFacts])


def _read_packages(lock: Lock, pool: Pool, tree_of: Callable[[LockedPackage], Path]) -> dict[str, PackageFacts]:
    trees = {package.name: tree_of(package) for package in lock.packages}
    found = {}
    for package in lock.packages:
        deb = pool.open_verified(package.sha256, what=f"{package.name} {package.version}")
        found[package.name] = package_facts(debian.control_files(deb)["control"], copyright_text(package.name, trees))
    return found


def copyright_text(package: str, trees: Mapping[str, Path]) -> str | None:
    """usr/share/doc/PACKAGE/copyright, which may be a link into another package of the lock."""
    name = f"usr/share/doc/{package}"
    for _hop in range(4):
        tree, path = _find(name, trees)
        if tree is None:
            return None
        if not path.is_symlink():
            break
        name = _target(name, str(path.readlink()))
    if path.is_dir():
        file = path / "copyright"
        if file.is_symlink():
            holder, file = _find(_target(f"{name}/copyright", str(file.readlink())), trees)
            if holder is None:
                return None
        return file.read_text(errors="replace") if file.is_file() and not file.is_symlink() else None
    return None


def collect_wheels(
    lock: Lock, tree_of: Callable[[LockedWheel], Path], *, only_models: Collection[str]
) -> dict[str, WheelFacts]:
    """Facts by wheel name. only_models: normalised names of wheels that are not installed. Raises VerificationError."""
    collected = {}
    for wheel in lock.wheels:
        found = sorted(tree_of(wheel).glob("*.dist-info/METADATA"))
        if len(found) != 1:
            raise VerificationError(f"{wheel.filename} has {len(found)} METADATA files, expected one")
        collected[wheel.name] = wheel_facts(found[0].read_bytes(), installed=normalised(wheel.name) not in only_models)
    return collected


def _find(name: str, trees: Mapping[str, Path]) -> tuple[Path | None, Path]:
    """The tree that has `name`, looking into the package after which its directory is named first."""
    parts = name.split("/")
    owner = parts[3] if len(parts) > 3 else ""
    for tree in ([trees[owner]] if owner in trees else []) + list(trees.values()):
        path = tree / name
        if path.is_symlink() or path.exists():
            return tree, path
    return None, Path()


def _target(name: str, target: str) -> str:
    parts = [] if target.startswith("/") else name.split("/")[:-1]
    for part in target.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in (".", ""):
            parts.append(part)
    return "/".join(parts)
