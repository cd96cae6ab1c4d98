"""Build once more from what the checkout and the pool hold, and compare every byte with a finished build.

No step result is reused: everything between the pool's packages and the artefacts is done again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from appliance.core.errors import InputError, Place
from builder.host.progress import step
from builder.host.sandbox import Sandbox
from builder.host.scratch import scratch_directory
from builder.host.toolstree import default_pool
from builder.lock.store import lock_path, read_lock
from builder.profile.load import load_profile, profile_path
from builder.review.compare import Difference, compare_builds
from builder.review.manifest import MANIFEST_NAME, Manifest, decode_manifest
from builder.signing.keyset import KeySet

_HINT = "check out the commit that the build was made from"


def rebuild_and_compare(directory: Path, keys: KeySet, tools: Sandbox) -> tuple[Difference, ...]:
    """What differs between `directory` and a build of its profile made now; empty when it is reproduced.

    Raises InputError when profile or lock are not those that the manifest names.
    """
    from builder.pipeline import Order, build  # everything that builds: a plain verification does without it

    manifest = decode_manifest((directory / MANIFEST_NAME).read_bytes())
    profile_bytes = profile_path(manifest.profile).read_bytes()
    profile = msgspec.structs.replace(load_profile(manifest.profile), version=manifest.version)
    lock, lock_bytes = read_lock(lock_path(profile.name), profile)
    check_inputs(manifest, profile_bytes=profile_bytes, lock_bytes=lock_bytes)
    order = Order(profile, profile_bytes, lock, lock_bytes, release=not manifest.development)
    pool = default_pool()
    with scratch_directory(directory.resolve().parent, ".edgeseal-rebuild-") as scratch:
        with fresh_step_cache(scratch / "cache"), step(f"build {manifest.profile} again"):
            build(order, keys, scratch / "build", pool=pool)
        return compare_builds(directory, scratch / "build", tools)


def check_inputs(manifest: Manifest, *, profile_bytes: bytes, lock_bytes: bytes) -> None:
    """Raises InputError when these are not the bytes that were built from: the result could only differ."""
    for what, data, digest in (
        (f"profiles/{manifest.profile}.yaml", profile_bytes, manifest.profile_digest),
        (f"profiles/locks/{manifest.profile}.lock.json", lock_bytes, manifest.lock_digest),
    ):
        found = hashlib.sha256(data).hexdigest()
        if found != digest:
            raise InputError(f"sha256 is {found}, the build was made from {digest}", place=Place(what), hint=_HINT)


@contextlib.contextmanager
def fresh_step_cache(directory: Path) -> Iterator[None]:
    """Let the builder keep its step results in an empty directory for as long as the block runs."""
    before = os.environ.get("EDGESEAL_CACHE")
    os.environ["EDGESEAL_CACHE"] = str(directory)
    try:
        yield
    finally:
        if before is None:
            del os.environ["EDGESEAL_CACHE"]
        else:
            os.environ["EDGESEAL_CACHE"] = before
