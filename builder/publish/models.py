"""Models in a vendor's repository: what is published, and what a new version must be like.

Spec: docs/specs/model-manifest.md. Reading the file itself is modelfile.py's.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from appliance.core.errors import InputError, Place, VerificationError
from appliance.formats.model_card import ModelCard
from appliance.formats.model_release import (
    ModelRelease,
    RunsOn,
    decode_model_release,
    encode_model_release,
    latest_model_path,
    model_path,
)
from appliance.formats.release import Content
from builder.publish.delta import add_content
from builder.publish.repository import Repository

_ROLE = "models-"


@dataclass(frozen=True)
class ModelFile:
    """A model that passed the gate and loads. card: of exactly these bytes."""

    path: Path
    card: ModelCard


def model_role(name: str) -> str:
    """Name of the delegated role."""
    return f"{_ROLE}{name}"


def make_model_release(
    model: ModelFile, target: Path, *, version: int, products: Iterable[RunsOn], development: bool, built: int
) -> ModelRelease:
    """Write the model's content below `target`/content, and return its manifest.

    built: now, Unix seconds. Raises VerificationError when the file is not the one that was looked at, DecodeError when
    the manifest would be none.
    """
    onnx = add_content(model.path, target)
    if onnx != Content(sha256=model.card.sha256, size=model.card.bytes):
        raise VerificationError("it changed while it was read", place=Place(str(model.path)))
    made = ModelRelease(
        model=model.card.name,
        version=version,
        development=development,
        built=built,
        products=tuple(sorted(products, key=lambda item: item.product)),
        onnx=onnx,
        card=model.card,
    )
    return decode_model_release(encode_model_release(made))


def model_releases(repository: Repository) -> Iterator[ModelRelease]:
    """Every version of every model that is published, by name and version."""
    found = []
    for role, path, _ in repository.all_targets():
        if path.startswith("models/") and not path.endswith("/latest.json"):
            release = decode_model_release(repository.read_target(path))
            if path != model_path(release.model, release.version) or role != model_role(release.model):
                raise VerificationError(f"{path} is the manifest of model {release.model} {release.version}")
            found.append(release)
    yield from sorted(found, key=lambda release: (release.model, release.version))


def latest_model(repository: Repository, name: str) -> ModelRelease | None:
    """What a device that asks now is offered."""
    path = latest_model_path(name)
    return decode_model_release(repository.read_target(path)) if repository.target(path) is not None else None


def require_name(repository: Repository, name: str, *, new: bool) -> None:
    """A delegation is made only on purpose: a name comes from a command line. Raises InputError."""
    place = Place(str(repository.path))
    known = sorted(role.removeprefix(_ROLE) for role in repository.delegated if role.startswith(_ROLE))
    if new and name in known:
        raise InputError(f"model {name} is here already", place=place, hint="leave --new away")
    if not new and name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean `{near[0]}`?" if near else "a model that begins here: --new"
        raise InputError(f"there is no model {name} here", place=place, hint=hint)


def require_products(repository: Repository, products: Iterable[RunsOn]) -> None:
    """Raises InputError when one has no firmware here."""
    known = sorted(role.removeprefix("firmware-") for role in repository.delegated if role.startswith("firmware-"))
    for item in products:
        if item.product not in known:
            hint = f"its products: {', '.join(known) or 'none; publish a build first'}"
            raise InputError(f"there is no product {item.product} here", place=Place(str(repository.path)), hint=hint)


def require_higher(repository: Repository, name: str, version: int) -> None:
    """Raises InputError when what is published is not older."""
    before = latest_model(repository, name)
    if before is not None and version <= before.version:
        raise InputError(
            f"model {name} {version}: version {before.version} is published already",
            place=Place(str(repository.path)),
            hint="versions only rise; to go back, publish the old file with a new version",
        )
