"""Repositories and builds for tests: small, complete, truly signed."""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from appliance.formats.device import (
    DeviceConfig,
    FrameSource,
    InferenceConfig,
    Namespace,
    UplinkConfig,
    decode_device_config,
    encode_device_config,
)
from builder.host.sandbox import Sandbox
from builder.publish import staging, vendor
from builder.publish.devkeys import development_roles, sign_with_all
from builder.publish.keys import Keyring, RepositoryKey, make_key
from builder.publish.release import Build
from builder.publish.repository import Repository
from builder.publish.roles import ROOT, TARGETS, Periods, RoleKeys
from builder.publish.vendor import Wanted
from builder.review.manifest import ARTEFACT_NAMES, VerityRecord, build_manifest, file_record
from builder.review.verity import compute_tree
from builder.signing.keyset import KeySet
from tests.support.review_build import OS_RELEASE, VERITY_UUID, Ingredients, default_files, make_build

NOW = datetime(2026, 3, 1, 12, 30, 15, tzinfo=UTC)
PERIODS = Periods()
PRODUCT = "line-inspection"
HOLDERS = ("anna", "bob", "carol", "dave", "snapshot", "timestamp")


@functools.cache
def _base() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="edgeseal-test-publish-")


@functools.cache
def _release_keys() -> Path:
    directory = Path(_base().name) / "keys"
    for holder in HOLDERS:
        make_key(directory / f"{holder}.json", holder=holder)
    return directory


@functools.cache
def _development_keys() -> Path:
    directory = Path(_base().name) / "dev-keys"
    development_roles(directory)
    return directory


def release_ring() -> Keyring:
    """anna, bob and carol (root and targets, 2 of 3), dave (of no role), snapshot and timestamp."""
    return Keyring(_release_keys(), environment={})


def development_ring() -> Keyring:
    """As `repo init --dev` makes them."""
    return Keyring(_development_keys(), environment={})


def key_of(holder: str, ring: Keyring | None = None) -> RepositoryKey:
    """By holder."""
    return next(key for key in (ring or release_ring()).keys.values() if key.holder == holder)


def role_of(*holders: str, threshold: int = 1) -> RoleKeys:
    """Keys of the release ring."""
    return RoleKeys(tuple(key_of(holder).key for holder in holders), threshold)


def release_roles() -> dict[str, RoleKeys]:
    """Of the four roles."""
    offline = role_of("anna", "bob", "carol", threshold=2)
    return {ROOT: offline, TARGETS: offline, "snapshot": role_of("snapshot"), "timestamp": role_of("timestamp")}


def sign_as(file: Path, *holders: str) -> None:
    """Each signs the ceremony's file."""
    for holder in holders:
        signer = release_ring().signer(key_of(holder).key.keyid)
        assert signer is not None
        staging.sign_file(file, signer)


def release_repository(path: Path, *, now: datetime = NOW, periods: Periods = PERIODS) -> Repository:
    """A new repository with release keys."""
    vendor.stage_repository(path, release_roles(), development=False, now=now, periods=periods)
    sign_as(staging.ceremony_path(path), "anna", "bob")
    return staging.finish(path, [], release_ring(), now=now, periods=periods)


def development_repository(path: Path, *, now: datetime = NOW) -> Repository:
    """A new repository with development keys."""
    roles = development_roles(_development_keys())
    vendor.stage_repository(path, roles, development=True, now=now, periods=PERIODS)
    sign_with_all(path, development_ring())
    return staging.finish(path, [], development_ring(), now=now, periods=PERIODS)


def device_config(*, version: int, security_epoch: int, development: bool) -> bytes:
    """What is sealed into the root."""
    inference = InferenceConfig(model="page-orientation", source=FrameSource(kind="virtio"))
    config = DeviceConfig(
        product=PRODUCT,
        profile="virtual-x86_64",
        version=version,
        security_epoch=security_epoch,
        development=development,
        inference=inference,
        uplink=UplinkConfig(namespace=Namespace(enterprise="example", site="plant-4", line="line-3")),
    )
    return encode_device_config(config)


def plain_build(
    target: Path, *, version: int, security_epoch: int = 0, development: bool = False, blocks: int = 96
) -> Build:
    """What `open_build` gives, of files that no tool made. Most blocks are the same in every version."""
    target.mkdir(parents=True)
    image, salt = target / "root.erofs", "ab" * 32
    parts = [(f"{number if number else f'first of {version}'} " * 4096).encode()[:4096] for number in range(blocks)]
    image.write_bytes(b"".join(parts))
    hashes = compute_tree(image, salt=bytes.fromhex(salt), uuid=VERITY_UUID)
    (target / "root.verity").write_bytes(hashes.area)
    (target / "uki.efi").write_bytes(f"kernel {version} ".encode() * 500)
    (target / "sbom.cdx.json").write_bytes(b"{}")
    (target / "disk.raw").write_bytes(b"disk")
    manifest = build_manifest(
        product=PRODUCT,
        profile="virtual-x86_64",
        version=version,
        architecture="x86_64",
        builder_version="0.1.0",
        development=development,
        keys={"db": "a" * 64},
        lock_bytes=b"lock",
        profile_bytes=b"profile",
        epoch=1_763_596_800,
        root_hash=hashes.root_hash,
        verity=VerityRecord(salt=salt, uuid=VERITY_UUID, data_blocks=blocks),
        command_line="quiet",
        partitions=[],
        files={name: file_record(target / name) for name in ARTEFACT_NAMES},
        tree_digest="b" * 64,
    )
    sealed = device_config(version=version, security_epoch=security_epoch, development=development)
    return Build(target, manifest, decode_device_config(sealed))


def publish(path: Path, build: Build, *, now: datetime = NOW, wanted: Wanted | None = None) -> Repository:
    """Stage, have anna and bob sign, finish."""
    vendor.stage_release(path, build, wanted or Wanted(), now=now)
    sign_as(staging.ceremony_path(path), "anna", "bob")
    return staging.finish(path, [], release_ring(), now=now, periods=PERIODS)


def make_version(
    target: Path,
    keys: KeySet,
    tools: Sandbox,
    *,
    version: int,
    security_epoch: int = 0,
    more: Mapping[str, bytes] | None = None,
) -> Path:
    """A build of that version, as `edgeseal build` would leave it."""
    variant = "development" if keys.development else "release"
    release = OS_RELEASE.replace("IMAGE_VERSION=7", f"IMAGE_VERSION={version}").replace("development", variant)
    sealed = device_config(version=version, security_epoch=security_epoch, development=keys.development)
    files = {"usr/lib/os-release": release.encode(), "usr/lib/edgeseal/device.json": sealed, **(more or {})}
    ingredients = Ingredients(
        keys,
        files=default_files() | files,
        uki_name=f"edgeseal_{version}.efi",
        manifest={"version": version},
        image_facts={"version": version},
    )
    return make_build(target, tools, ingredients)


def tree(path: Path) -> dict[str, bytes]:
    """Every file below `path`: what must be unchanged after a refusal."""
    return {str(item.relative_to(path)): item.read_bytes() for item in sorted(path.rglob("*")) if item.is_file()}


def copy_of(path: Path, target: Path) -> Path:
    """To be broken."""
    shutil.copytree(path, target)
    return target
