"""`edgeseal build`."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from appliance.core.errors import InputError, Place
from builder.cli.command import Command, problem_data
from builder.host.paths import keys_directory
from builder.host.toolstree import default_pool
from builder.lock.store import lock_path, read_lock
from builder.pipeline import Order, build
from builder.profile.load import load_profile, overdue_reviews, profile_path
from builder.review.manifest import Manifest
from builder.signing.keyset import load_keys


def make_order(profile_name: str, *, lock: Path | None, image_version: int | None, release: bool) -> Order:
    """Read profile and lock. image_version: instead of the profile's own."""
    profile = load_profile(profile_name)
    profile_bytes = profile_path(profile_name).read_bytes()
    if image_version is not None:
        if image_version < 1:
            raise InputError("--image-version must be at least 1", place=Place("--image-version"))
        profile = msgspec.structs.replace(profile, version=image_version)
    found, lock_bytes = read_lock(lock or lock_path(profile.name), profile)
    return Order(profile, profile_bytes, found, lock_bytes, release=release)


def summary(manifest: Manifest, directory: Path) -> dict[str, Any]:
    """What --json prints of a build."""
    return {
        "directory": str(directory),
        "profile": manifest.profile,
        "product": manifest.product,
        "version": manifest.version,
        "architecture": manifest.architecture,
        "development": manifest.development,
        "root_hash": manifest.root_hash,
        "files": {name: record.sha256 for name, record in sorted(manifest.files.items())},
    }


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("profile", metavar="PROFILE", help="a profile, by name or by path")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to put the build (default: out/PROFILE)")
    parser.add_argument(
        "--release",
        action="store_true",
        help="refuse development keys, a test agent and conduits that are approved no longer",
    )
    parser.add_argument("--keys", type=Path, metavar="DIR", help="the keys (default: the development or release keys)")
    parser.add_argument("--lock", type=Path, metavar="FILE", help="another lock than profiles/locks/PROFILE.lock.json")
    parser.add_argument("--image-version", type=int, metavar="N", help="another version than the profile's")
    parser.add_argument(
        "--offline", action="store_true", help="never use the network; refuse when the pool lacks something"
    )
    parser.add_argument("--compress", action="store_true", help="add disk.raw.zst")


def _execute(arguments: argparse.Namespace) -> dict[str, Any]:
    today = datetime.now(UTC).date()
    overdue = overdue_reviews(arguments.profile, today=today, release=arguments.release)
    order = make_order(
        arguments.profile, lock=arguments.lock, image_version=arguments.image_version, release=arguments.release
    )
    keys = load_keys(arguments.keys or keys_directory() / ("release" if arguments.release else "dev"))
    out = arguments.out or Path("out") / order.profile.name
    manifest = build(order, keys, out, pool=default_pool(), offline=arguments.offline, compress=arguments.compress)
    return summary(manifest, out) | {"overdue": [problem_data(conduit) for conduit in overdue]}


def _render(result: dict[str, Any]) -> str:
    kind = " DEVELOPMENT" if result["development"] else ""
    lines = [f"{result['product']} {result['version']} for {result['architecture']}{kind} in {result['directory']}"]
    lines.append(f"root hash {result['root_hash']}")
    lines += [f"{digest}  {name}" for name, digest in result["files"].items()]
    return "\n".join(lines)


COMMANDS = (
    Command(
        path=("build",),
        help="build a signed, reproducible image from a profile",
        arguments=_arguments,
        execute=_execute,
        render=_render,
    ),
)
