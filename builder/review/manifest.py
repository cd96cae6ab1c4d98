"""The manifest of one build: every artefact, and how they hold each other. Spec: docs/specs/manifest.md (v1).

It is the root of the evidence: the provenance names it, `edgeseal verify` starts from it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from appliance.core.canonical import canonical_json
from appliance.core.errors import DecodeError, Place
from appliance.formats.device import FrozenStruct, Identifier, Sha256Hex
from builder.archive.digest import file_sha256

MANIFEST_NAME = "manifest.json"
SBOM_NAME = "sbom.cdx.json"
PROVENANCE_NAME = "provenance.dsse.json"
ARTEFACT_NAMES = ("disk.raw", "root.erofs", "root.verity", SBOM_NAME, "uki.efi")

UuidText = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(?!\n)$")]
FileName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(?!\n)$")]
Offset = Annotated[int, msgspec.Meta(ge=0)]
Size = Annotated[int, msgspec.Meta(ge=1)]


class FileRecord(FrozenStruct, frozen=True, kw_only=True):
    """One file of the output directory. size: bytes."""

    sha256: Sha256Hex
    size: Offset


class PartitionRecord(FrozenStruct, frozen=True, kw_only=True):
    """One GPT partition of disk.raw. type, uuid: lower case; offset, size: bytes."""

    label: Identifier
    type: UuidText
    uuid: UuidText
    offset: Offset
    size: Size


class VerityRecord(FrozenStruct, frozen=True, kw_only=True):
    """dm-verity format 1, SHA-256, 4096-byte blocks. data_blocks: blocks of root.erofs."""

    salt: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{2}){0,256}(?!\n)$")]
    uuid: UuidText
    data_blocks: Size


class Manifest(FrozenStruct, frozen=True, kw_only=True):
    """One build.

    version: the profile's, strictly increasing per product. builder_version: of edgeseal itself.
    development: signed with development keys; such an image is never a release.
    keys: role -> SHA-256 over the DER SubjectPublicKeyInfo of the key.
    lock_digest, profile_digest: SHA-256 of the bytes of the two files.
    epoch: Unix seconds; every time stamp in every artefact.
    command_line: exactly what the UKI's .cmdline section says, without the final newline.
    files: name -> record, for every artefact except the manifest and the provenance.
    tree_digest: SHA-256 over the listing of the root tree (spec, section Tree listing).
    """

    schema: Literal[1] = 1
    product: Identifier
    profile: Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_-]{0,62}(?!\n)$")]
    version: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
    architecture: Literal["x86_64", "arm64"]
    builder_version: str
    development: bool
    keys: dict[Identifier, Sha256Hex]
    lock_digest: Sha256Hex
    profile_digest: Sha256Hex
    epoch: Size
    root_hash: Sha256Hex
    verity: VerityRecord
    command_line: str
    partitions: tuple[PartitionRecord, ...]
    files: dict[FileName, FileRecord]
    tree_digest: Sha256Hex


def build_manifest(
    *,
    product: str,
    profile: str,
    version: int,
    architecture: Literal["x86_64", "arm64"],
    builder_version: str,
    development: bool,
    keys: Mapping[str, str],
    lock_bytes: bytes,
    profile_bytes: bytes,
    epoch: int,
    root_hash: str,
    verity: VerityRecord,
    command_line: str,
    partitions: Sequence[PartitionRecord],
    files: Mapping[str, FileRecord],
    tree_digest: str,
) -> Manifest:
    """A manifest from the parts of a finished build. Raises DecodeError when a part breaks the specification."""
    value = {
        "product": product,
        "profile": profile,
        "version": version,
        "architecture": architecture,
        "builder_version": builder_version,
        "development": development,
        "keys": dict(keys),
        "lock_digest": hashlib.sha256(lock_bytes).hexdigest(),
        "profile_digest": hashlib.sha256(profile_bytes).hexdigest(),
        "epoch": epoch,
        "root_hash": root_hash,
        "verity": msgspec.to_builtins(verity),
        "command_line": command_line,
        "partitions": [msgspec.to_builtins(item) for item in partitions],
        "files": {name: msgspec.to_builtins(record) for name, record in files.items()},
        "tree_digest": tree_digest,
    }
    manifest = _convert(value, Place(MANIFEST_NAME))
    _check(manifest, Place(MANIFEST_NAME))
    return manifest


def encode_manifest(manifest: Manifest) -> bytes:
    """The canonical bytes."""
    return canonical_json(msgspec.to_builtins(manifest))


def decode_manifest(data: bytes, *, file: str = MANIFEST_NAME) -> Manifest:
    """file: its name, for errors. Raises DecodeError on anything but exactly the canonical bytes of a manifest."""
    place = Place(file)
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DecodeError(f"not a manifest: {error}", place=place, hint=_HINT) from error
    if encode_manifest(manifest) != data:
        raise DecodeError("not in canonical form", place=place, hint=_HINT)
    _check(manifest, place)
    return manifest


def file_record(path: Path) -> FileRecord:
    """Hash and size of a file."""
    return FileRecord(sha256=file_sha256(path), size=path.stat().st_size)


_HINT = "manifests are written by `edgeseal build`, never by hand"


def _convert(value: object, place: Place) -> Manifest:
    try:
        return msgspec.convert(value, Manifest)
    except msgspec.ValidationError as error:
        raise DecodeError(f"not a manifest: {error}", place=place) from error


def _check(manifest: Manifest, place: Place) -> None:
    """What the types cannot say."""
    if set(manifest.files) != set(ARTEFACT_NAMES):
        raise DecodeError(f"files are {sorted(manifest.files)}, must be {sorted(ARTEFACT_NAMES)}", place=place)
    labels = [partition.label for partition in manifest.partitions]
    if len(set(labels)) != len(labels):
        raise DecodeError("two partitions have one label", place=place)
    end = 0
    for partition in manifest.partitions:
        if partition.offset < end or partition.offset % 512 or partition.size % 512:
            raise DecodeError(f"partition {partition.label}: overlaps, out of order or not in sectors", place=place)
        end = partition.offset + partition.size
    if end > manifest.files["disk.raw"].size:
        raise DecodeError("the last partition ends behind disk.raw", place=place)
    if manifest.verity.data_blocks * 4096 != manifest.files["root.erofs"].size:
        raise DecodeError("verity.data_blocks is not the size of root.erofs in 4096-byte blocks", place=place)
    if any(character < " " or character == "\x7f" for character in manifest.command_line):
        raise DecodeError("the command line has a control character", place=place)
