"""Hold a bill of materials against what it must cover: manifest, signed provenance, contents of the root."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from appliance.core.errors import DecodeError, Place, VerificationError
from builder.review.facts import normalised
from builder.review.inspect import debian_packages, wheels
from builder.review.manifest import SBOM_NAME, Manifest
from builder.review.opened import OpenedRoot
from builder.review.provenance import Statement

_MODELS = "/usr/lib/edgeseal/models/"


def check_sbom(sbom: dict[str, Any], manifest: Manifest, statement: Statement) -> str:
    """Valid by CycloneDX's strict schema, about this root, and its components are the provenance's inputs.

    Raises DecodeError or VerificationError.
    """
    if not _strictly_valid(sbom) or sbom.get("specVersion") != "1.6":
        raise DecodeError("the strict CycloneDX 1.6 schema refuses it", place=Place(SBOM_NAME))
    image = sbom.get("metadata", {}).get("component", {})
    said = {item["name"]: item.get("value") for item in image.get("properties", ())}
    if (
        _hash(image) != manifest.files["root.erofs"].sha256
        or said.get("edgeseal:verity:root-hash") != manifest.root_hash
    ):
        raise VerificationError("the bill of materials is about another root image")
    if image.get("version") != str(manifest.version) or image.get("name") != manifest.product:
        raise VerificationError("the bill of materials is about another product or version")
    listed = {item["purl"]: _hash(item) for item in sbom.get("components", ()) if "purl" in item}
    inputs = {item.uri: item.digest.sha256 for item in statement.predicate.build_definition.resolved_dependencies}
    if other := sorted(uri for uri, _ in set(listed.items()) ^ set(inputs.items())):
        raise VerificationError(f"bill of materials and provenance differ in {other[0]} ({len(set(other))} in all)")
    return f"valid, {len(sbom.get('components', ()))} components, all {len(inputs)} inputs"


def check_contents(sbom: dict[str, Any], root: OpenedRoot) -> str:
    """What names itself in the root is a component. Raises VerificationError naming what is not."""
    components = sbom.get("components", ())
    debian = {(item["name"], item["version"]) for item in components if item.get("purl", "").startswith("pkg:deb/")}
    python = {(normalised(item["name"]), item["version"]) for item in components if "pkg:pypi/" in item.get("purl", "")}
    models = {_hash(item) for item in components if item.get("type") == "machine-learning-model"}
    packaged = {name.removeprefix("python3-") for name, _ in debian if name.startswith("python3-")}
    for package in debian_packages(root):
        if (package["name"], package["version"]) not in debian:
            raise VerificationError(f"package {package['name']} {package['version']} is not in the bill of materials")
    found = wheels(root)
    for wheel in found:
        name = normalised(wheel["name"])
        if (name, wheel["version"]) not in python and name not in packaged:
            raise VerificationError(f"{wheel['name']} {wheel['version']} is not in the bill of materials")
    onnx = [path for path in root.by_path if path.startswith(_MODELS) and path.endswith(".onnx")]
    for path in onnx:
        if hashlib.sha256(root.read(path)).hexdigest() not in models:
            raise VerificationError(f"{path} is not in the bill of materials")
    return f"{len(debian)} packages, {len(found)} Python distributions, {len(onnx)} models"


def _strictly_valid(sbom: dict[str, Any]) -> bool:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator  # compiles grammars: over a second, for this check alone

    return JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(sbom)) is None


def _hash(component: dict[str, Any]) -> str | None:
    return next((item["content"] for item in component.get("hashes", ()) if item["alg"] == "SHA-256"), None)
