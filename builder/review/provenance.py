"""Where the artefacts come from: an in-toto Statement v1 with a SLSA Provenance v1 predicate.

It says who built what from which exact inputs, and nothing about when: the same build gives the same bytes. Inputs are
named by purl and hash and by their path below an archive; which mirror served them is not part of it. The caller signs
it as a DSSE envelope with PAYLOAD_TYPE.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from appliance.core.canonical import canonical_json
from appliance.core.errors import DecodeError, Place, VerificationError
from appliance.formats.device import Sha256Hex
from builder.lock.types import Lock
from builder.review.manifest import MANIFEST_NAME, PROVENANCE_NAME, Manifest
from builder.review.purl import package_purl, wheel_purl

PAYLOAD_TYPE = "application/vnd.in-toto+json"


class _Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename="camel"):
    """in-toto writes camelCase."""


class Digest(_Struct, frozen=True, kw_only=True):
    """A DigestSet with SHA-256 only."""

    sha256: Sha256Hex


class Subject(_Struct, frozen=True, kw_only=True):
    """One artefact."""

    name: str
    digest: Digest


class Dependency(_Struct, frozen=True, kw_only=True):
    """One input. uri: a purl; annotations: `poolPath` for Debian packages, `filename` for wheels."""

    uri: str
    digest: Digest
    name: str
    annotations: dict[str, str]


class BuildDefinition(_Struct, frozen=True, kw_only=True):
    """What was asked for (external), what followed from it (internal), and what went in."""

    build_type: Literal["https://edgeseal.example/build/v1"] = "https://edgeseal.example/build/v1"
    external_parameters: dict[str, str]
    internal_parameters: dict[str, str]
    resolved_dependencies: tuple[Dependency, ...]


class Builder(_Struct, frozen=True, kw_only=True):
    """version: of edgeseal, and the digest of its source."""

    id: Literal["https://edgeseal.example/builder/v1"] = "https://edgeseal.example/builder/v1"
    version: dict[str, str]


class RunDetails(_Struct, frozen=True, kw_only=True):
    """Who built."""

    builder: Builder


class Predicate(_Struct, frozen=True, kw_only=True):
    """SLSA Provenance v1."""

    build_definition: BuildDefinition
    run_details: RunDetails


class Statement(_Struct, frozen=True, kw_only=True):
    """The whole of it."""

    type: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(
        default="https://in-toto.io/Statement/v1", name="_type"
    )
    subject: tuple[Subject, ...]
    predicate_type: Literal["https://slsa.dev/provenance/v1"] = "https://slsa.dev/provenance/v1"
    predicate: Predicate


def make_statement(manifest: Manifest, manifest_bytes: bytes, *, lock: Lock, builder_source: str) -> bytes:
    """Canonical bytes of the statement about a build. builder_source: see `source_digest`."""
    return canonical_json(
        msgspec.to_builtins(
            Statement(
                subject=tuple(Subject(name=n, digest=Digest(sha256=d)) for n, d in _subjects(manifest, manifest_bytes)),
                predicate=Predicate(
                    build_definition=BuildDefinition(
                        external_parameters={
                            "profile": manifest.profile,
                            "profileDigest": manifest.profile_digest,
                            "product": manifest.product,
                            "version": str(manifest.version),
                        },
                        internal_parameters={
                            "architecture": manifest.architecture,
                            "development": str(manifest.development).lower(),
                            "epoch": str(manifest.epoch),
                            "lockDigest": manifest.lock_digest,
                        },
                        resolved_dependencies=tuple(_dependencies(lock)),
                    ),
                    run_details=RunDetails(
                        builder=Builder(version={"edgeseal": manifest.builder_version, "source": builder_source})
                    ),
                ),
            )
        )
    )


def decode_statement(data: bytes) -> Statement:
    """Raises DecodeError on anything but exactly the canonical bytes of a statement of ours."""
    place = Place(PROVENANCE_NAME)
    try:
        statement = msgspec.json.decode(data, type=Statement)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DecodeError(f"not a provenance statement: {error}", place=place) from error
    if canonical_json(msgspec.to_builtins(statement)) != data:
        raise DecodeError("the provenance statement is not in canonical form", place=place)
    return statement


def check_statement(statement: Statement, manifest: Manifest, manifest_bytes: bytes) -> int:
    """Hold a statement, whose signature is good, against the manifest. Returns the number of inputs it names.

    Raises VerificationError when it is about other artefacts or another profile, version or lock.
    """
    said = [(subject.name, subject.digest.sha256) for subject in statement.subject]
    expected = list(_subjects(manifest, manifest_bytes))
    if said != expected:
        other = sorted({name for name, _ in set(said) ^ set(expected)}) or ["their order"]
        raise VerificationError(f"the provenance is about other artefacts: {', '.join(other)} differ")
    definition = statement.predicate.build_definition
    parameters = {**definition.external_parameters, **definition.internal_parameters}
    for key, value in (
        ("product", manifest.product),
        ("profile", manifest.profile),
        ("version", str(manifest.version)),
        ("profileDigest", manifest.profile_digest),
        ("lockDigest", manifest.lock_digest),
        ("architecture", manifest.architecture),
        ("epoch", str(manifest.epoch)),
        ("development", str(manifest.development).lower()),
    ):
        if parameters.get(key) != value:
            raise VerificationError(f"the provenance says {key} {parameters.get(key)}, the manifest says {value}")
    return len(definition.resolved_dependencies)


def source_digest(root: Path) -> str:
    """SHA-256 over name and hash of every file of builder/ and appliance/ below `root`, caches left out."""
    lines = [
        f"{path.relative_to(root).as_posix()} {hashlib.sha256(path.read_bytes()).hexdigest()}\n"
        for part in ("appliance", "builder")
        for path in (root / part).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    ]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def _subjects(manifest: Manifest, manifest_bytes: bytes) -> Iterable[tuple[str, str]]:
    digests: Mapping[str, str] = {name: record.sha256 for name, record in manifest.files.items()}
    own = {MANIFEST_NAME: hashlib.sha256(manifest_bytes).hexdigest()}
    return sorted({**digests, **own}.items())


def _dependencies(lock: Lock) -> Iterable[Dependency]:
    for item in lock.packages:
        yield Dependency(
            name=item.name,
            uri=package_purl(item, lock.distribution).to_string(),
            digest=Digest(sha256=item.sha256),
            annotations={"poolPath": item.pool_path, "archive": item.archive},
        )
    for wheel in lock.wheels:
        yield Dependency(
            name=wheel.name,
            uri=wheel_purl(wheel).to_string(),
            digest=Digest(sha256=wheel.sha256),
            annotations={"filename": wheel.filename},
        )
