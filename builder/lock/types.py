"""What a lock holds. Spec: docs/specs/lock.md (v1). Tools write it, people review its diff, builds obey it."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from appliance.formats.device import FrozenStruct, ProfileName, Sha256Hex

DebianArchitecture = Literal["amd64", "arm64", "all"]
PoolPath = Annotated[str, msgspec.Meta(pattern=r"^pool/[A-Za-z0-9+._~/%-]+\.deb(?!\n)$")]


class LockedPackage(FrozenStruct, frozen=True, kw_only=True):
    """One Debian binary package. pool_path: below the archive's base; which mirror serves it is the machine's affair.

    archive: `main` for the distribution, `security` for its security archive.
    """

    name: str
    version: str
    architecture: DebianArchitecture
    archive: Literal["main", "security"]
    pool_path: PoolPath
    size: int
    sha256: Sha256Hex
    source: str
    source_version: str


class LockedWheel(FrozenStruct, frozen=True, kw_only=True):
    """One Python wheel, by file name and hash."""

    name: str
    version: str
    filename: str
    size: int
    sha256: Sha256Hex


class Lock(FrozenStruct, frozen=True, kw_only=True):
    """Exact inputs of one build, or of one tree of tools.

    name: the profile's name, or the tree's.
    request: sha256 over what was asked for (packages, wheels, architecture); differs when the profile moved on.
    epoch: Unix seconds; the newest date of the package indexes that were resolved against. Every time stamp in
        everything that is built is this one.
    packages: sorted by name; go into the image (or the tree). The EFI binaries of the target are among them.
    wheels: sorted by name; models come in wheels too.
    """

    schema: Literal[1] = 1
    name: ProfileName
    architecture: Literal["x86_64", "arm64"]
    distribution: Literal["debian/trixie"]
    request: Sha256Hex
    epoch: Annotated[int, msgspec.Meta(ge=1)]
    packages: tuple[LockedPackage, ...]
    wheels: tuple[LockedWheel, ...] = ()
