"""The vendor's ceremonies: a new repository, a release, other keys; and what needs online keys only.

Each `stage_…` leaves a ceremony in staged/; `staging.finish` puts it in force.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata, Targets

from appliance.core.errors import InputError, Place, VerificationError
from appliance.formats.model_release import RunsOn, encode_model_release, latest_model_path, model_path
from appliance.formats.release import encode_release, latest_path, release_path
from builder.publish.ceremony import Ceremony, begin
from builder.publish.change import Change, Signers, apply, draft_root, draft_targets
from builder.publish.keys import is_development
from builder.publish.models import (
    ModelFile,
    make_model_release,
    model_role,
    require_higher,
    require_name,
    require_products,
)
from builder.publish.release import Build, check_content, firmware_role, make_release, require_kind, require_newer
from builder.publish.repository import Repository, open_repository
from builder.publish.roles import ROOT, TARGETS, TOP_LEVEL, Periods, RoleKeys, days_left, holders, lapsed
from builder.publish.rotation import KeyChange, change_keys
from builder.publish.staging import Stage, refuse_staged, staging


@dataclass(frozen=True)
class Refreshed:
    """warnings: of offline roles that lapse soon. lapsed: of delegated roles that did."""

    repository: Repository
    warnings: tuple[str, ...]
    lapsed: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Publication:
    """How something is to be published. development: everything in one command, with development keys.

    keys: of its role when that is new; those of the targets by default.
    """

    development: bool = False
    keys: RoleKeys | None = None
    periods: Periods = field(default_factory=Periods)


@dataclass(frozen=True, kw_only=True)
class Wanted(Publication):
    """A release. oldest: the smallest version from which a device may come. development: also a release build."""

    oldest: int = 1


@dataclass(frozen=True, kw_only=True)
class WantedModel(Publication):
    """A version of a model. products: who may run it. new: the model begins here."""

    version: int
    products: tuple[RunsOn, ...]
    new: bool = False


def stage_repository(
    path: Path, roles: Mapping[str, RoleKeys], *, development: bool, now: datetime, periods: Periods
) -> Ceremony:
    """A new repository with these keys for the four roles. Raises InputError when there is one, or keys do not fit."""
    for role in TOP_LEVEL:
        _check_keys(role, roles[role], development=development)
    with staging(path) as stage:
        if stage.repository is not None:
            raise InputError("there is a repository here already", place=Place(str(path)))
        root = draft_root(None, roles, expires=periods.expires(ROOT, now), development=development)
        targets = draft_targets(None, expires=periods.expires(TARGETS, now))
        stage.ceremony = begin("a new repository", None, {ROOT: root, TARGETS: targets}, {})
    return stage.ceremony


def stage_release(path: Path, build: Build, wanted: Wanted, *, now: datetime) -> Ceremony:
    """A release. Raises InputError when it may not be published here; nothing is staged then."""
    with staging(path) as stage:
        repository = _require(stage, path)
        _require_alive(repository, now)
        require_kind(build, repository, development=wanted.development)
        check_content(repository)
        require_newer(build, repository)
        release = make_release(build, stage.directory, oldest=wanted.oldest)
        data = encode_release(release)
        add = {release_path(release.product, release.version): data, latest_path(release.product): data}
        role = firmware_role(release.product)
        documents = _with_role(repository, role, f"firmware/{release.product}/*", add, wanted, now)
        stage.ceremony = begin(f"publish {release.product} {release.version}", repository, documents, add)
    return stage.ceremony


def stage_model(path: Path, model: ModelFile, wanted: WantedModel, *, now: datetime) -> Ceremony:
    """A version of a model. Raises InputError when it may not be published here; nothing is staged then."""
    name = model.card.name
    with staging(path) as stage:
        repository = _require(stage, path)
        _require_alive(repository, now)
        check_content(repository)
        if wanted.development and not repository.development:
            raise InputError("--dev: this is a release repository", place=Place(str(path)))
        require_name(repository, name, new=wanted.new)
        require_products(repository, wanted.products)
        require_higher(repository, name, wanted.version)
        release = make_model_release(
            model,
            stage.directory,
            version=wanted.version,
            products=wanted.products,
            development=repository.development,
            built=int(now.timestamp()),
        )
        data = encode_model_release(release)
        add = {model_path(name, release.version): data, latest_model_path(name): data}
        documents = _with_role(repository, model_role(name), f"models/{name}/*", add, wanted, now)
        stage.ceremony = begin(f"publish model {name} {release.version}", repository, documents, add)
    return stage.ceremony


def stage_rotation(path: Path, changes: KeyChange, *, now: datetime, periods: Periods) -> Ceremony:
    """Other keys or thresholds, and new versions of every offline role that lapses soon. Without changes: only those.

    Delegated roles that have the keys of the targets keep having them. Raises InputError when a change does not fit.
    """
    with staging(path) as stage:
        repository = _require(stage, path)
        check_content(repository)
        roles = {role: repository.keys(role) for role in (*TOP_LEVEL, *repository.delegated)}
        after = change_keys(roles, changes)
        for role, keys in after.items():
            _check_keys(role, keys, development=repository.development)
        documents = _rotated(repository, roles, after, now, periods)
        stage.ceremony = begin(changes.title, repository, documents, {})
    return stage.ceremony


def refresh(path: Path, online: Signers, *, now: datetime, periods: Periods) -> Refreshed:
    """Renew snapshot and timestamp. Raises VerificationError, and nothing is renewed, when root or targets lapsed."""
    repository = open_repository(path)
    check_content(repository)
    _require_alive(repository, now)
    warnings = lapse_warnings(repository, now, periods)
    gone = tuple(role for role in sorted(repository.delegated) if lapsed(repository.delegated[role].signed, now))
    return Refreshed(apply(path, Change(), online, now=now, periods=periods), tuple(warnings), gone)


def lapse_warnings(repository: Repository, now: datetime, periods: Periods) -> list[str]:
    """A line for every offline role that lapses within `periods.warn` days, or has."""
    found = []
    for role in (ROOT, TARGETS, *sorted(repository.delegated)):
        metadata = repository.metadata(role)
        assert metadata is not None
        if lapsed(metadata.signed, now):
            found.append(f"{role} lapsed on {metadata.signed.expires:%Y-%m-%d}")
        elif days_left(metadata.signed, now) < periods.warn:
            left = days_left(metadata.signed, now)
            found.append(f"{role} lapses in {left} days, on {metadata.signed.expires:%Y-%m-%d}: its holders must sign")
    return found


def require_open(path: Path) -> Repository:
    """The repository, when no ceremony waits: what is checked before long work."""
    repository = open_repository(path)
    refuse_staged(path)
    return repository


def _require(stage: Stage, path: Path) -> Repository:
    if stage.repository is None:
        raise InputError("there is no repository", place=Place(str(path)), hint="make one: edgeseal repo init")
    return stage.repository


def _require_alive(repository: Repository, now: datetime) -> None:
    for role in (ROOT, TARGETS):
        metadata = repository.metadata(role)
        assert metadata is not None
        if lapsed(metadata.signed, now):
            raise VerificationError(
                f"{role}: version {metadata.signed.version} lapsed on {metadata.signed.expires:%Y-%m-%d}",
                place=Place(str(repository.path)),
                hint="its holders must sign a new version: edgeseal repo rotate",
            )


def _check_keys(role: str, wanted: RoleKeys, *, development: bool) -> None:
    if not 1 <= wanted.threshold <= len(wanted.ids):
        raise InputError(f"{role}: a threshold of {wanted.threshold} does not fit {len(wanted.ids)} keys")
    marked = holders(key for key in wanted.keys if is_development(key))
    if marked and not development:
        raise InputError(f"{role}: a release repository cannot have development keys: {', '.join(marked)}")


def _with_role(
    repository: Repository, role: str, pattern: str, add: Mapping[str, bytes], wanted: Publication, now: datetime
) -> dict[str, Metadata[Any]]:
    """The next version of a delegated role; of the targets too when it is new or they lapse soon."""
    documents: dict[str, Metadata[Any]] = {}
    before = repository.delegated.get(role)
    keys = wanted.keys or repository.keys(TARGETS)
    if before is not None and wanted.keys is not None:
        raise InputError(f"{role} has keys already", hint="change them with edgeseal repo rotate")
    if before is None:
        _check_keys(role, keys, development=repository.development)
    if before is None or days_left(repository.targets.signed, now) < wanted.periods.warn:
        documents[TARGETS] = draft_targets(
            repository.targets,
            expires=wanted.periods.expires(TARGETS, now),
            delegate={role: (keys, [pattern])} if before is None else None,
        )
    documents[role] = draft_targets(before, expires=wanted.periods.expires(role, now), add=add)
    return documents


def _rotated(
    repository: Repository,
    roles: Mapping[str, RoleKeys],
    after: Mapping[str, RoleKeys],
    now: datetime,
    periods: Periods,
) -> dict[str, Metadata[Any]]:
    changed = {role for role in roles if roles[role] != after[role]}

    def due(role: str, metadata: Metadata[Any]) -> bool:
        return role in changed or days_left(metadata.signed, now) < periods.warn

    documents: dict[str, Metadata[Any]] = {}
    if changed & set(TOP_LEVEL) or due(ROOT, repository.root) or not changed:
        top = {role: after[role] for role in TOP_LEVEL}
        documents[ROOT] = draft_root(
            repository.root, top, expires=periods.expires(ROOT, now), development=repository.development
        )
    delegations = sorted(changed & set(repository.delegated))
    if delegations or due(TARGETS, repository.targets):
        patterns = {role: _paths(repository.targets, role) for role in delegations}
        documents[TARGETS] = draft_targets(
            repository.targets,
            expires=periods.expires(TARGETS, now),
            delegate={role: (after[role], patterns[role]) for role in delegations},
        )
    for role, metadata in sorted(repository.delegated.items()):
        if due(role, metadata):
            documents[role] = draft_targets(metadata, expires=periods.expires(role, now))
    return documents


def _paths(targets: Metadata[Targets], role: str) -> list[str]:
    delegations = targets.signed.delegations
    assert delegations is not None and delegations.roles is not None
    return list(delegations.roles[role].paths or ())
