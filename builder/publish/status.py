"""How a repository stands, as data. Reads, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from appliance.core.errors import Place, VerificationError
from builder.archive.digest import file_sha256
from builder.publish.ceremony import Ceremony, progress
from builder.publish.keys import holder_of, is_development
from builder.publish.models import model_releases
from builder.publish.release import all_contents, check_content, releases
from builder.publish.repository import Repository, open_repository, repository_exists
from builder.publish.roles import ONLINE, ROOT, SNAPSHOT, TARGETS, TIMESTAMP, Periods, days_left, lapsed
from builder.publish.staging import ceremony_path, read_ceremony
from builder.publish.vendor import lapse_warnings


def status(path: Path, *, now: datetime, periods: Periods, full: bool = False) -> dict[str, Any]:
    """Roles, keys, products and the ceremony that waits. full: every content file is hashed.

    Raises VerificationError when somebody edited the directory.
    """
    staged = ceremony_path(path)
    waiting = read_ceremony(staged) if staged.exists() else None
    result: dict[str, Any] = {"repository": str(path), "staged": _staged(staged, waiting) if waiting else None}
    if waiting is not None and not repository_exists(path):
        return result | {"identity": None, "roles": [], "products": [], "models": [], "warnings": [], "lapsed": []}
    repository = open_repository(path)
    check_content(repository)
    if full:
        _check_hashes(repository)
    return result | {
        "identity": repository.identity,
        "development": repository.development,
        "roles": [_role(repository, role, now) for role in _roles(repository)],
        "products": list(_products(repository)),
        "models": list(_models(repository)),
        "warnings": lapse_warnings(repository, now, periods),
        "lapsed": repository.lapsed_roles(now),
    }


def _roles(repository: Repository) -> tuple[str, ...]:
    return (ROOT, TARGETS, *sorted(repository.delegated), SNAPSHOT, TIMESTAMP)


def _role(repository: Repository, role: str, now: datetime) -> dict[str, Any]:
    metadata, keys = repository.metadata(role), repository.keys(role)
    assert metadata is not None
    return {
        "role": role,
        "version": metadata.signed.version,
        "expires": f"{metadata.signed.expires:%Y-%m-%dT%H:%M:%SZ}",
        "days_left": days_left(metadata.signed, now),
        "lapsed": lapsed(metadata.signed, now),
        "online": role in ONLINE,
        "threshold": keys.threshold,
        "keys": [
            {"holder": holder_of(key), "keyid": key.keyid, "scheme": key.scheme, "development": is_development(key)}
            for key in sorted(keys.keys, key=lambda key: (holder_of(key), key.keyid))
        ],
    }


def _products(repository: Repository) -> Iterator[dict[str, Any]]:
    found = list(releases(repository))
    for product in sorted({release.product for release in found}):
        own = [release for release in found if release.product == product]
        yield {
            "product": product,
            "versions": [release.version for release in own],
            "latest": own[-1].version,
            "security_epoch": own[-1].security_epoch,
            "root_hash": own[-1].root.root_hash,
            "development": own[-1].development,
        }


def _models(repository: Repository) -> Iterator[dict[str, Any]]:
    found = list(model_releases(repository))
    for name in sorted({release.model for release in found}):
        own = [release for release in found if release.model == name]
        yield {
            "model": name,
            "versions": [release.version for release in own],
            "latest": own[-1].version,
            "sha256": own[-1].onnx.sha256,
            "bytes": own[-1].onnx.size,
            "products": {item.product: item.oldest for item in own[-1].products},
            "development": own[-1].development,
        }


def _staged(file: Path, ceremony: Ceremony) -> dict[str, Any]:
    return {
        "title": ceremony.title,
        "file": str(file),
        "thresholds": [
            {
                "role": role,
                "threshold": found.threshold,
                "missing": found.missing,
                "signed": list(found.signed),
                "unsigned": list(found.unsigned),
            }
            for role, found in progress(ceremony)
        ],
    }


def _check_hashes(repository: Repository) -> None:
    for content in all_contents(repository):
        file = repository.path / content.path
        if file_sha256(file) != content.sha256:
            raise VerificationError("its bytes were changed: not the hash in its name", place=Place(str(file)))
