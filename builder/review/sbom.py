"""The bill of materials: CycloneDX 1.6 JSON, the same bytes for the same build.

It covers what NTIA's minimum elements ask for: supplier, name, version, unique identifiers (purl, SHA-256),
dependencies, author of the data and time (the build's epoch). The serial number is a name-based UUID of the contents.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.contact import OrganizationalEntity
from cyclonedx.model.license import DisjunctiveLicense, License, LicenseAcknowledgement, LicenseExpression
from cyclonedx.model.lifecycle import LifecyclePhase, PredefinedLifecycle
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion

from builder.lock.types import Lock, LockedPackage, LockedWheel
from builder.review.facts import ModelFacts, PackageFacts, WheelFacts, normalised
from builder.review.licences import Licence
from builder.review.purl import package_purl, wheel_purl

_OURS = Licence("Apache-2.0")
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://edgeseal.example/sbom")


@dataclass(frozen=True)
class ImageFacts:
    """What the bill is about. root_sha256: of root.erofs; root_hash: of its dm-verity tree."""

    product: str
    profile: str
    version: int
    architecture: str
    root_sha256: str
    root_hash: str


def make_sbom(
    image: ImageFacts,
    *,
    lock: Lock,
    builder_version: str,
    epoch: int,
    packages: Mapping[str, PackageFacts],
    wheels: Mapping[str, WheelFacts],
    models: Sequence[ModelFacts],
) -> bytes:
    """packages, wheels: facts by the name that the lock has, for every entry of both.

    Raises KeyError when facts are missing: no component is left out in silence.
    """
    root = _image_component(image, _OURS)
    debian = {item.name: _package_component(item, packages[item.name], lock) for item in lock.packages}
    python = {normalised(item.name): _wheel_component(item, wheels[item.name]) for item in lock.wheels}
    learned = {model.name: _model_component(model) for model in models}
    ours = _own_component("edgeseal-appliance", ComponentType.APPLICATION, builder_version)
    bom = Bom(components=[*debian.values(), *python.values(), *learned.values(), ours])
    bom.metadata = BomMetaData(
        component=root,
        timestamp=datetime.datetime.fromtimestamp(epoch, datetime.UTC),
        tools=[],
        supplier=OrganizationalEntity(name="edgeseal"),
        manufacturer=OrganizationalEntity(name="edgeseal"),
        lifecycles=[PredefinedLifecycle(LifecyclePhase.BUILD)],
    )
    bom.metadata.tools.components.add(_own_component("edgeseal", ComponentType.APPLICATION, builder_version))
    bom.register_dependency(root, [*debian.values(), *python.values(), *learned.values(), ours])
    _register_packages(bom, debian, packages)
    _register_wheels(bom, python, {normalised(name): facts for name, facts in wheels.items()})
    return _finish(bom, models)


def _finish(bom: Bom, models: Sequence[ModelFacts]) -> bytes:
    bom.serial_number = uuid.UUID(int=0)
    value = json.loads(make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string())
    cards = {f"model:{model.name}": _model_card(model) for model in models}
    for component in value["components"]:
        if component["bom-ref"] in cards:
            component["modelCard"] = cards[component["bom-ref"]]
    value.pop("serialNumber")
    contents = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
    value["serialNumber"] = uuid.uuid5(_NAMESPACE, contents).urn
    return json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False).encode() + b"\n"


def _image_component(image: ImageFacts, licence: Licence) -> Component:
    return Component(
        name=image.product,
        type=ComponentType.FIRMWARE,
        version=str(image.version),
        bom_ref=f"image:{image.product}@{image.version}",
        hashes=[_sha256(image.root_sha256)],
        properties=_properties(
            profile=image.profile, architecture=image.architecture, **{"verity:root-hash": image.root_hash}
        ),
    )


def _package_component(item: LockedPackage, facts: PackageFacts, lock: Lock) -> Component:
    purl = package_purl(item, lock.distribution)
    kernel = item.name.startswith("linux-image-")
    return Component(
        name=item.name,
        type=ComponentType.OPERATING_SYSTEM if kernel else ComponentType.LIBRARY,
        version=item.version,
        bom_ref=purl.to_string(),
        purl=purl,
        supplier=OrganizationalEntity(name=facts.supplier),
        hashes=[_sha256(item.sha256)],
        licenses=_licences(facts.licence, f"see /usr/share/doc/{item.name}/copyright of the package"),
        properties=_properties(
            **{
                "debian:source": item.source,
                "debian:source-version": item.source_version,
                "debian:pool-path": item.pool_path,
            }
        ),
    )


def _wheel_component(item: LockedWheel, facts: WheelFacts) -> Component:
    purl = wheel_purl(item)
    return Component(
        name=item.name,
        type=ComponentType.LIBRARY,
        version=item.version,
        bom_ref=purl.to_string(),
        purl=purl,
        scope=ComponentScope.REQUIRED if facts.installed else ComponentScope.EXCLUDED,
        supplier=OrganizationalEntity(name=facts.supplier) if facts.supplier else None,
        hashes=[_sha256(item.sha256)],
        licenses=_licences(facts.licence, "not stated"),
    )


def _model_component(model: ModelFacts) -> Component:
    return Component(
        name=model.name,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        version=model.wheel.partition("==")[2],
        bom_ref=f"model:{model.name}",
        hashes=[_sha256(model.sha256)],
        licenses=_licences(model.licence, "not stated"),
        supplier=OrganizationalEntity(name=model.wheel.partition("==")[0]),
        properties=_properties(**{"model:wheel": model.wheel, "model:file": model.file, "model:size": str(model.size)}),
    )


def _model_card(model: ModelFacts) -> dict[str, Any]:
    """CycloneDX's model card; the library has no class for it."""
    return {
        "modelParameters": {
            "task": "classification",
            "inputs": [{"format": text} for text in model.inputs],
            "outputs": [{"format": text} for text in model.outputs],
        },
        "properties": [{"name": "edgeseal:model:label", "value": label} for label in model.labels],
    }


def _own_component(name: str, kind: ComponentType, version: str) -> Component:
    return Component(
        name=name,
        type=kind,
        version=version,
        bom_ref=f"edgeseal:{name}@{version}",
        supplier=OrganizationalEntity(name="edgeseal"),
        licenses=_licences(_OURS, ""),
    )


def _register_packages(bom: Bom, components: Mapping[str, Component], facts: Mapping[str, PackageFacts]) -> None:
    providers = {name: name for name in components}
    for name in sorted(components):
        for virtual in facts[name].provides:
            providers.setdefault(virtual, name)
    for name, component in components.items():
        found = (next((providers[one] for one in group if one in providers), name) for group in facts[name].depends)
        bom.register_dependency(component, [components[other] for other in sorted(set(found) - {name})])


def _register_wheels(bom: Bom, components: Mapping[str, Component], facts: Mapping[str, WheelFacts]) -> None:
    for name, component in components.items():
        bom.register_dependency(component, [components[other] for other in facts[name].requires if other in components])


def _sha256(digest: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=digest)


def _properties(**values: str) -> Iterable[Property]:
    return [Property(name=f"edgeseal:{name}", value=value) for name, value in sorted(values.items())]


def _licences(licence: Licence, unknown: str) -> list[License]:
    declared = LicenseAcknowledgement.DECLARED
    if licence.expression:
        return [LicenseExpression(licence.expression, acknowledgement=declared)]
    return [DisjunctiveLicense(name=name, acknowledgement=declared) for name in licence.names or (unknown,)]
