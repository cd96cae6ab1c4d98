"""From a build's directory to a release: the manifest that is signed, and the content that it names.

Spec: docs/specs/release-manifest.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from appliance.core.errors import InputError, Place, VerificationError
from appliance.formats.device import DEVICE_CONFIG_PATH, DeviceConfig, decode_device_config
from appliance.formats.release import Content, Release, Root, decode_release, latest_path, release_path
from builder.host.sandbox import Sandbox
from builder.publish.delta import add_content, make_delta
from builder.publish.models import model_releases
from builder.publish.repository import Repository
from builder.review.manifest import MANIFEST_NAME, Manifest, decode_manifest
from builder.review.opened import read_one_file
from builder.review.verify import verify_directory
from builder.signing.keyset import PublicKeys


@dataclass(frozen=True)
class Build:
    """A verified build. device: what is sealed into its root."""

    directory: Path
    manifest: Manifest
    device: DeviceConfig


def firmware_role(product: str) -> str:
    """Name of the delegated role."""
    return f"firmware-{product}"


def open_build(directory: Path, keys: PublicKeys, tools: Sandbox) -> Build:
    """Verify a build as `edgeseal verify` does. Raises InputError or VerificationError, with the place."""
    place = Place(str(directory))
    report = verify_directory(directory, keys, tools)
    if not report.ok:
        first = next(check for check in report.checks if not check.ok)
        count = len(report.failed())
        raise VerificationError(
            f"this build is not verified: {first.name}: {first.detail}",
            place=place,
            hint=f"{count} of {len(report.checks)} checks failed: edgeseal verify {directory}",
        )
    manifest = decode_manifest((directory / MANIFEST_NAME).read_bytes())
    device = decode_device_config(read_one_file(directory / "root.erofs", DEVICE_CONFIG_PATH, tools))
    said = (device.product, device.profile, device.version, device.development)
    if said != (manifest.product, manifest.profile, manifest.version, manifest.development):
        raise VerificationError(f"{DEVICE_CONFIG_PATH} in the root says another release than the manifest", place=place)
    return Build(directory, manifest, device)


def make_release(build: Build, target: Path, *, oldest: int) -> Release:
    """Write the release's content below `target`/content, and return its manifest.

    oldest: the smallest version from which a device may come. Raises VerificationError when a file of the build is
    not the one that was verified.
    """
    manifest = build.manifest
    root = Root(
        size=manifest.files["root.erofs"].size,
        hash_size=manifest.files["root.verity"].size,
        root_hash=manifest.root_hash,
        salt=manifest.verity.salt,
        uuid=manifest.verity.uuid,
    )
    delta = make_delta(build.directory / "root.erofs", root, target).delta
    uki = add_content(build.directory / "uki.efi", target)
    said = manifest.files["uki.efi"]
    if uki != Content(sha256=said.sha256, size=said.size):
        raise VerificationError("uki.efi changed while it was read", place=Place(str(build.directory)))
    return Release(
        product=manifest.product,
        profile=manifest.profile,
        architecture=manifest.architecture,
        version=manifest.version,
        security_epoch=build.device.security_epoch,
        oldest=oldest,
        built=manifest.epoch,
        development=manifest.development,
        root=root,
        delta=delta,
        uki=uki,
    )


def releases(repository: Repository) -> Iterator[Release]:
    """Every release that is published, by product and version."""
    found = []
    for role, path, _ in repository.all_targets():
        if path.startswith("firmware/") and not path.endswith("/latest.json"):
            release = decode_release(repository.read_target(path))
            if path != release_path(release.product, release.version) or role != firmware_role(release.product):
                raise VerificationError(f"{path} is the manifest of {release.product} {release.version}")
            found.append(release)
    yield from sorted(found, key=lambda release: (release.product, release.version))


def latest(repository: Repository, product: str) -> Release | None:
    """What a device that asks now is offered."""
    path = latest_path(product)
    return decode_release(repository.read_target(path)) if repository.target(path) is not None else None


def check_content(repository: Repository) -> int:
    """Every file that a release or a model names is there and has its size; how many.

    Their hashes are held by who reads them; `edgeseal repo status --full` computes them. Raises VerificationError with
    the place.
    """
    named = {content.path: content for content in all_contents(repository)}
    for path, content in sorted(named.items()):
        file = repository.path / path
        hint = "restore the directory from a copy; nothing was changed now"
        if not file.is_file():
            raise VerificationError("this content is missing", place=Place(str(file)), hint=hint)
        if (size := file.stat().st_size) != content.size:
            raise VerificationError(f"it has {size} bytes instead of {content.size}", place=Place(str(file)), hint=hint)
    return len(named)


def contents(release: Release) -> tuple[Content, ...]:
    """All that a release names by hash."""
    return release.delta.groups, release.delta.leaves, release.delta.frames, release.uki


def all_contents(repository: Repository) -> Iterator[Content]:
    """What every release and every model names by hash."""
    for release in releases(repository):
        yield from contents(release)
    yield from (release.onnx for release in model_releases(repository))


def require_newer(build: Build, repository: Repository) -> None:
    """Raises InputError when what is published is not older, or has a higher security epoch."""
    manifest, place = build.manifest, Place(str(build.directory))
    before = latest(repository, manifest.product)
    if before is None:
        return
    called = f"{manifest.product} {manifest.version}"
    if manifest.version <= before.version:
        raise InputError(
            f"{called}: version {before.version} is published already",
            place=place,
            hint="versions only rise: raise `version` in the profile and build again",
        )
    if build.device.security_epoch < before.security_epoch:
        raise InputError(
            f"{called}: its security epoch is {build.device.security_epoch}, published is {before.security_epoch}",
            place=place,
            hint="a device that ran the published one would refuse it for ever: raise `security_epoch` in the profile",
        )


def require_kind(build: Build, repository: Repository, *, development: bool) -> None:
    """Development builds into development repositories; the other way round only with --dev.

    Raises InputError.
    """
    place = Place(str(build.directory))
    if build.manifest.development and not repository.development:
        raise InputError(
            "this build was made with development keys, the repository is a release repository",
            place=place,
            hint="build it with --release, or publish it in a repository of `edgeseal repo init --dev`",
        )
    if repository.development and not build.manifest.development and not development:
        raise InputError(
            "this is a release build, the repository has development keys",
            place=place,
            hint="publish it in a release repository, or here with --dev",
        )
    if development and not repository.development:
        raise InputError("--dev: this is a release repository", place=place)
