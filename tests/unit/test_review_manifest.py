"""The manifest: one spelling, and every rule of its specification refused when broken, message included."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from appliance.core.canonical import canonical_json
from appliance.core.errors import DecodeError
from builder.review.manifest import (
    FileRecord,
    Manifest,
    PartitionRecord,
    VerityRecord,
    build_manifest,
    decode_manifest,
    encode_manifest,
    file_record,
)

MIB = 1 << 20
UUID = "0f7a1c9e-0000-4000-8000-000000000001"


def manifest(**changes: Any) -> Manifest:
    """A small, valid manifest; `changes` replace arguments of build_manifest."""
    values: dict[str, Any] = {
        "product": "line-inspection",
        "profile": "virtual-x86_64",
        "version": 7,
        "architecture": "x86_64",
        "builder_version": "0.1.0",
        "development": True,
        "keys": {"db": "d" * 64},
        "lock_bytes": b"lock",
        "profile_bytes": b"profile",
        "epoch": 1_763_596_800,
        "root_hash": "2" * 64,
        "verity": VerityRecord(salt="ab" * 32, uuid=UUID, data_blocks=2),
        "command_line": "roothash=" + "2" * 64,
        "partitions": (
            PartitionRecord(label="esp", type=UUID, uuid=UUID, offset=MIB, size=MIB),
            PartitionRecord(label="root-a", type=UUID, uuid=UUID, offset=2 * MIB, size=MIB),
        ),
        "files": {
            "disk.raw": FileRecord(sha256="0" * 64, size=4 * MIB),
            "root.erofs": FileRecord(sha256="1" * 64, size=8192),
            "root.verity": FileRecord(sha256="2" * 64, size=8192),
            "sbom.cdx.json": FileRecord(sha256="3" * 64, size=10),
            "uki.efi": FileRecord(sha256="4" * 64, size=10),
        },
        "tree_digest": "5" * 64,
    }
    return build_manifest(**(values | changes))


def test_round_trip() -> None:
    data = encode_manifest(manifest())
    assert decode_manifest(data) == manifest()
    assert data == encode_manifest(decode_manifest(data))


def broken(**changes: Any) -> bytes:
    return canonical_json(json.loads(encode_manifest(manifest())) | changes)


def without(key: str) -> bytes:
    value = json.loads(encode_manifest(manifest()))
    del value[key]
    return canonical_json(value)


FILES = json.loads(encode_manifest(manifest()))["files"]
ESP, ROOT = json.loads(encode_manifest(manifest()))["partitions"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "manifest.json: not a manifest: Input data was truncated"),
        (b"[]\n", "manifest.json: not a manifest: Expected `object`, got `array`"),
        (without("epoch"), "manifest.json: not a manifest: Object missing required field `epoch`"),
        (broken(more=1), "manifest.json: not a manifest: Object contains unknown field `more`"),
        (broken(schema=2), "manifest.json: not a manifest: Invalid enum value 2 - at `$.schema`"),
        (broken(architecture="mips"), "manifest.json: not a manifest: Invalid enum value 'mips' - at `$.architecture`"),
        (broken(development=1), "manifest.json: not a manifest: Expected `bool`, got `int` - at `$.development`"),
        (encode_manifest(manifest())[:-1], "manifest.json: not in canonical form"),
        (b" " + encode_manifest(manifest()), "manifest.json: not in canonical form"),
        (
            broken(files={name: FILES[name] for name in FILES if name != "uki.efi"}),
            "manifest.json: files are ['disk.raw', 'root.erofs', 'root.verity', 'sbom.cdx.json'], must be "
            "['disk.raw', 'root.erofs', 'root.verity', 'sbom.cdx.json', 'uki.efi']",
        ),
        (broken(partitions=[ESP, ROOT | {"label": "esp"}]), "manifest.json: two partitions have one label"),
        (
            broken(partitions=[ESP, ROOT | {"offset": MIB + 512}]),
            "manifest.json: partition root-a: overlaps, out of order or not in sectors",
        ),
        (
            broken(partitions=[ESP | {"offset": MIB + 1}]),
            "manifest.json: partition esp: overlaps, out of order or not in sectors",
        ),
        (
            broken(partitions=[ESP | {"size": 4 * MIB}]),
            "manifest.json: the last partition ends behind disk.raw",
        ),
        (
            broken(files=FILES | {"root.erofs": {"sha256": "1" * 64, "size": 8191}}),
            "manifest.json: verity.data_blocks is not the size of root.erofs in 4096-byte blocks",
        ),
        (broken(command_line="a\nb"), "manifest.json: the command line has a control character"),
    ],
)
def test_refusals(data: bytes, message: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_manifest(data)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "changes",
    [
        {"root_hash": "2"},
        {"version": 0},
        {"keys": {"Db": "d" * 64}},
        {"verity": VerityRecord(salt="a", uuid="", data_blocks=2)},
    ],
)
def test_building_obeys_the_same_rules(changes: dict[str, Any]) -> None:
    with pytest.raises(DecodeError, match="not a manifest"):
        manifest(**changes)


def test_file_record(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_record(tmp_path / "x") == FileRecord(sha256=expected, size=3)
