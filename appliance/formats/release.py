"""Release manifest: what one version of one product consists of. Spec: docs/specs/release-manifest.md (v1).

It is a TUF target, firmware/PRODUCT/VERSION.json; everything else of a release is named in it by hash. Canonical JSON.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from appliance.core.canonical import canonical_json
from appliance.core.errors import DecodeError
from appliance.formats.device import FrozenStruct, Identifier, ProfileName, Sha256Hex

MAX_RELEASE_BYTES = 16 << 10
BLOCK = 4096

Version = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
Size = Annotated[int, msgspec.Meta(ge=1, le=2**40, description="bytes")]
UuidText = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(?!\n)$")]


class Content(FrozenStruct, frozen=True, kw_only=True):
    """A file that a static server has as content/SHA256[:2]/SHA256."""

    sha256: Sha256Hex
    size: Size

    @property
    def path(self) -> str:
        """Below the repository's base address."""
        return f"content/{self.sha256[:2]}/{self.sha256}"


class Root(FrozenStruct, frozen=True, kw_only=True):
    """The sealed root.

    size: bytes of the verity data area, a multiple of 4096. hash_size: bytes of the hash area with its superblock.
    salt: of the hash tree, hex; uuid: of its superblock. root_hash: over both, lower-case hex.
    """

    size: Size
    hash_size: Size
    root_hash: Sha256Hex
    salt: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{2}){0,256}(?!\n)$")]
    uuid: UuidText


class Delta(FrozenStruct, frozen=True, kw_only=True):
    """How the root is fetched by difference. Spec: docs/specs/delta-index.md.

    groups: the index's first level, fetched whole. leaves: the second level, fetched group by group. frames: blocks.
    """

    groups: Content
    leaves: Content
    frames: Content


class Release(FrozenStruct, frozen=True, kw_only=True):
    """One version of one product.

    version: strictly increasing per product. security_epoch: a device that ran epoch N refuses a smaller one for ever.
    built: the build's epoch, Unix seconds. oldest: the smallest version from which a device may come.
    """

    schema: Literal[1] = 1
    kind: Literal["firmware"] = "firmware"
    product: Identifier
    profile: ProfileName
    architecture: Literal["x86_64", "arm64"]
    version: Version
    security_epoch: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
    oldest: Version = 1
    built: Annotated[int, msgspec.Meta(ge=0, le=2**40)]
    development: bool
    root: Root
    delta: Delta
    uki: Content


def release_path(product: str, version: int) -> str:
    """Path of the TUF target."""
    return f"firmware/{product}/{version}.json"


def latest_path(product: str) -> str:
    """Path of the TUF target that has the same bytes as the newest version's."""
    return f"firmware/{product}/latest.json"


def encode_release(release: Release) -> bytes:
    """The canonical bytes. Raises DecodeError when a bound between fields does not hold."""
    return canonical_json(msgspec.to_builtins(check_release(release)))


def decode_release(data: bytes) -> Release:
    """Raises DecodeError on anything but exactly the canonical bytes of a Release. `data` must be trusted already."""
    if len(data) > MAX_RELEASE_BYTES:
        raise DecodeError(f"release manifest: {len(data)} bytes, at most {MAX_RELEASE_BYTES} are allowed")
    try:
        release = msgspec.json.decode(data, type=Release)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DecodeError(f"release manifest: {error}") from error
    if encode_release(release) != data:
        raise DecodeError("release manifest: not in canonical form")
    return release


def check_release(release: Release) -> Release:
    """Bounds between fields. Raises DecodeError."""
    for name in ("size", "hash_size"):
        if getattr(release.root, name) % BLOCK:
            raise DecodeError(f"release manifest: root.{name} is not a multiple of {BLOCK}")
    if release.oldest > release.version:
        raise DecodeError("release manifest: oldest is above version")
    return release
