"""The images that VM tests boot: built by the real pipeline, once per test run, with keys of their own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from builder.host.toolstree import default_pool
from builder.lock.store import lock_path, read_lock
from builder.pipeline import Order, build
from builder.profile.load import load_profile, profile_path
from builder.profile.types import Profile
from builder.review.manifest import Manifest, decode_manifest
from builder.signing.keyset import KeySet

X86, ARM = "virtual-x86_64", "virtual-arm64"
NO_SUCH_CAMERA = "/dev/virtio-ports/edgeseal.absent.0"
SHORT_HEALTH_S = 20


@dataclass(frozen=True)
class Image:
    """A finished build."""

    directory: Path
    manifest: Manifest

    @property
    def disk(self) -> Path:
        """Its disk image; never to be written to."""
        return self.directory / "disk.raw"

    @property
    def uki(self) -> bytes:
        """Its signed kernel image."""
        return (self.directory / "uki.efi").read_bytes()


def build_image(name: str, target: Path, keys: KeySet, *, version: int = 1, healthy: bool = True) -> Image:
    """Build a profile into the empty directory `target`.

    healthy: without it, the inference service waits for a camera that is not there, and health gives up soon.
    """
    profile = load_profile(name)
    impatient = msgspec.structs.replace(profile.update, check_interval_s=15, retry_min_s=2, retry_max_s=10, tries=1)
    profile = msgspec.structs.replace(profile, version=version, update=impatient)
    if not healthy:
        profile = _without_camera(profile)
    lock, lock_bytes = read_lock(lock_path(name), profile)
    order = Order(profile, profile_path(name).read_bytes(), lock, lock_bytes)
    return Image(target, build(order, keys, target, pool=default_pool()))


def open_image(directory: Path) -> Image:
    """An image that was built before."""
    return Image(directory, decode_manifest((directory / "manifest.json").read_bytes()))


def _without_camera(profile: Profile) -> Profile:
    source = msgspec.structs.replace(profile.inference.source, device=NO_SUCH_CAMERA)
    return msgspec.structs.replace(
        profile,
        inference=msgspec.structs.replace(profile.inference, source=source),
        health=msgspec.structs.replace(profile.health, deadline_s=SHORT_HEALTH_S),
    )
