"""A finished build, opened to be run: its manifest, its disk, and the certificates that its firmware must trust."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from appliance.core.errors import InputError, Place
from builder.review.manifest import MANIFEST_NAME, Manifest, decode_manifest
from builder.signing.certificates import keyid_of
from builder.signing.keyset import PublicKeys, load_public_keys
from builder.signing.roles import Role

VIRTUAL_PROFILES = "virtual-"


@dataclass(frozen=True)
class OpenedBuild:
    """directory: what `edgeseal build` left. disk: its disk image."""

    directory: Path
    manifest: Manifest
    disk: Path


def open_build(directory: Path) -> OpenedBuild:
    """Raises InputError when the directory holds no build, or its disk image is gone or has another size."""
    directory = directory.resolve()
    path = directory / MANIFEST_NAME
    try:
        manifest = decode_manifest(path.read_bytes(), file=str(path))
    except OSError as error:
        raise InputError(
            "there is no build here", place=Place(str(directory)), hint="make one: edgeseal build PROFILE --out DIR"
        ) from error
    disk = directory / "disk.raw"
    if not disk.is_file() or disk.stat().st_size != manifest.files["disk.raw"].size:
        raise InputError(
            "the disk image is missing or not the one of the manifest",
            place=Place(str(disk)),
            hint=f"build it again: edgeseal build {manifest.profile} --out {directory}",
        )
    return OpenedBuild(directory, manifest, disk)


def certificates_for(manifest: Manifest, directory: Path) -> PublicKeys:
    """The certificates to enrol for this build. Raises InputError when the keys in `directory` are not its keys."""
    keys = load_public_keys(directory)
    db = keyid_of(keys.certificate(Role.DB))
    if manifest.keys.get(Role.DB.value) != db:
        raise InputError(
            f"the build was signed with another key than the {Role.DB.value} here; the firmware would refuse it",
            place=Place(str(directory)),
            hint="name the keys that it was built with: --keys DIR",
        )
    return keys
