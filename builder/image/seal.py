"""seal: the root tree as a read-only erofs image with a dm-verity hash tree.

Formats: erofs (kernel documentation, filesystems/erofs), dm-verity hash format 1. The options are the ones that keep
updates small (DESIGN.md section 8): fixed-input extents, no tail packing. Salt and UUIDs are constant over releases, so
that an unchanged block keeps its leaf hash.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from dataclasses import dataclass
from pathlib import Path

from appliance.core.errors import EdgesealError, InputError
from builder.archive.stepcache import cached_directory, key_of
from builder.host.sandbox import Sandbox
from builder.profile.types import MIB, Profile
from builder.rootfs.assemble import RootTree

BLOCK = 4096
_NAMESPACE = uuid.UUID("6d1f0a5e-6f0e-5d43-9a0e-0c2f6f1f2c11")


@dataclass(frozen=True)
class VerityImage:
    """A sealed root. data: the erofs image; hashes: the hash tree with its superblock; root_hash: lower-case hex.

    data_uuid, hash_uuid: in the superblocks of the two; no other image of any product has them.
    """

    data: Path
    hashes: Path
    root_hash: str
    salt: str
    data_size: int
    hash_size: int
    data_uuid: uuid.UUID
    hash_uuid: uuid.UUID


def product_salt(product: str) -> str:
    """The salt of every hash tree of a product: 32 bytes, lower-case hex. Not a secret."""
    return hashlib.sha256(f"edgeseal verity {product}".encode()).hexdigest()


def product_uuid(product: str, what: str) -> uuid.UUID:
    """A UUID that never changes for a product."""
    return uuid.uuid5(_NAMESPACE, f"{product}/{what}")


def image_uuid(product: str, what: str, *, tree_digest: str, options: list[str]) -> uuid.UUID:
    """A UUID that two images share only when they are the same. options: of mkfs.erofs."""
    return uuid.uuid5(_NAMESPACE, "\n".join((product, what, tree_digest, *options)))


def erofs_options(profile: Profile, *, epoch: int) -> list[str]:
    """What mkfs.erofs is told, besides its target and its source. No part of it depends on the machine."""
    return [
        f"-z{profile.seal.compressor},level={profile.seal.level}",
        f"-C{profile.seal.extent_bytes}",
        f"--max-extent-bytes={profile.seal.extent_bytes}",
        "-Enoinline_data",
        "-x-1",
        "--all-root",
        f"-T{epoch}",
        "--quiet",
    ]


def seal(profile: Profile, root: RootTree, tools: Sandbox, *, epoch: int) -> VerityImage:
    """Make image and hash tree. Raises InputError when they do not fit the profile's slots."""
    options = erofs_options(profile, epoch=epoch)
    salt = product_salt(profile.product)
    data_uuid, hash_uuid = (
        image_uuid(profile.product, what, tree_digest=root.tree_digest, options=options) for what in ("erofs", "verity")
    )
    options += [f"-U{data_uuid}"]
    key = key_of(root.inputs, repr(options), salt, tools.root.name, Path(__file__).read_bytes())
    directory = cached_directory(
        "seal", key, lambda target: _make(target, root.path, options, salt, hash_uuid, tools, epoch=epoch)
    )
    image = VerityImage(
        data=directory / "root.erofs",
        hashes=directory / "root.verity",
        root_hash=(directory / "root.hash").read_text(),
        salt=salt,
        data_size=(directory / "root.erofs").stat().st_size,
        hash_size=(directory / "root.verity").stat().st_size,
        data_uuid=data_uuid,
        hash_uuid=hash_uuid,
    )
    _check_fit(profile, image)
    return image


def _make(
    target: Path, root: Path, options: list[str], salt: str, hash_uuid: uuid.UUID, tools: Sandbox, *, epoch: int
) -> None:
    data, hashes = target / "root.erofs", target / "root.verity"
    tools.run(
        ["mkfs.erofs", *options, data, root],
        reason="make the root image",
        writable=[target],
        binds={root: None},
        environment={"SOURCE_DATE_EPOCH": str(epoch)},  # mkfs.erofs takes it before -T
    )
    said = tools.run(
        [
            "veritysetup",
            "format",
            data,
            hashes,
            f"--salt={salt}",
            f"--uuid={hash_uuid}",
            "--hash=sha256",
            f"--data-block-size={BLOCK}",
            f"--hash-block-size={BLOCK}",
        ],
        reason="compute the hash tree of the root image",
        writable=[target],
    ).decode()
    match = re.search(r"^Root hash:\s+([0-9a-f]{64})$", said, re.MULTILINE)
    if match is None:
        raise EdgesealError("veritysetup did not print a root hash")
    (target / "root.hash").write_text(match[1])


def _check_fit(profile: Profile, image: VerityImage) -> None:
    for name, size, slot in (
        ("root_slot", image.data_size, profile.disk.root_slot),
        ("verity_slot", image.hash_size, profile.disk.verity_slot),
    ):
        if size > slot * MIB:
            raise InputError(
                f"disk.{name}: the image needs {-(-size // MIB)} MiB, the slot has {slot} MiB",
                hint=f"set disk.{name} to at least {-(-size // MIB)}; a slot's size is fixed for a device's life",
            )
