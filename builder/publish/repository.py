"""A TUF repository directory, opened only when all of it is what somebody signed. Used for vendor and site alike.

    metadata/   N.root.json from 1 on, N.targets.json, N.ROLE.json, N.snapshot.json, timestamp.json
    targets/    SHA256.NAME, in the directory of the target's path (consistent snapshots)
    content/    SHA256[:2]/SHA256: what targets name by hash themselves; not TUF's affair
    staged/     a ceremony on its way; no client asks for it
    .work/      what is being built, or installed

A directory that someone edited is refused with the place. Expiry is no edit: `lapsed_roles` tells it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tuf.api.exceptions import LengthOrHashMismatchError, RepositoryError
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp

from appliance.core.errors import EdgesealError, InputError, Place, VerificationError
from builder.publish.install import locked
from builder.publish.keys import DEVELOPMENT_FIELD, is_development
from builder.publish.roles import (
    ROOT,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    RoleKeys,
    known_keys,
    lapsed,
    require_threshold,
    role_keys,
)

_VERSIONED = re.compile(r"([1-9][0-9]*)\.([A-Za-z0-9_-]+)\.json")
_HASHED = re.compile(r"([0-9a-f]{64})\.(.+)")
_INIT = "make one: edgeseal repo init"
_EDITED = "restore the directory from a copy; nothing was changed now"


@dataclass(frozen=True)
class Repository:
    """What a verified directory says. roots: every version from 1. delegated: by role name."""

    path: Path
    roots: tuple[Metadata[Root], ...]
    timestamp: Metadata[Timestamp]
    snapshot: Metadata[Snapshot]
    targets: Metadata[Targets]
    delegated: Mapping[str, Metadata[Targets]]

    @property
    def root(self) -> Metadata[Root]:
        """The newest."""
        return self.roots[-1]

    @property
    def identity(self) -> str:
        """Lower-case hex SHA-256 of the first root's file: no two repositories share it."""
        return identity_of(self.roots[0])

    @property
    def development(self) -> bool:
        """A root says so, or one of its keys does."""
        return root_is_development(self.root.signed)

    def metadata(self, role: str) -> Metadata[Any] | None:
        """The current metadata of any role, None when there is none."""
        top: dict[str, Metadata[Any]] = {
            ROOT: self.root,
            TARGETS: self.targets,
            SNAPSHOT: self.snapshot,
            TIMESTAMP: self.timestamp,
        }
        return top.get(role) or self.delegated.get(role)

    def keys(self, role: str) -> RoleKeys:
        """Who signs a role. Raises VerificationError when there is no such role."""
        delegator = self.root.signed if role in self.root.signed.roles else self.targets.signed
        return role_keys(delegator, role)

    def all_targets(self) -> Iterator[tuple[str, str, TargetFile]]:
        """(role, path, target) of every target there is."""
        for role, metadata in ((TARGETS, self.targets), *sorted(self.delegated.items())):
            for path, target in sorted(metadata.signed.targets.items()):
                yield role, path, target

    def target(self, path: str) -> TargetFile | None:
        """The target of that path, in whichever role."""
        return next((target for _, name, target in self.all_targets() if name == path), None)

    def read_target(self, path: str) -> bytes:
        """Its bytes, held against its hash. Raises VerificationError."""
        target = self.target(path)
        if target is None:
            raise VerificationError(f"there is no target {path}", place=Place(str(self.path)))
        return read_checked(target_file(self.path, path, target.hashes["sha256"]), target)

    def lapsed_roles(self, now: datetime) -> list[str]:
        """Roles that clients refuse at `now`, the offline ones first."""
        roles = (ROOT, TARGETS, *sorted(self.delegated), SNAPSHOT, TIMESTAMP)
        return [role for role in roles if (found := self.metadata(role)) is not None and lapsed(found.signed, now)]


def open_repository(path: Path) -> Repository:
    """Open and verify all metadata and every target; an installation that was interrupted is finished first.

    Raises InputError when there is no repository, VerificationError with the place when someone edited it.
    """
    if not path.is_dir():
        raise InputError("there is no repository", place=Place(str(path)), hint=_INIT)
    with locked(path, shared=True):
        return read_repository(path)


def read_repository(path: Path) -> Repository:
    """The same for who holds `locked` already."""
    directory = path / "metadata"
    if not (directory / "timestamp.json").is_file():
        if directory.exists():
            raise VerificationError("timestamp.json is missing", place=Place(str(directory)), hint=_EDITED)
        raise InputError("there is no repository", place=Place(str(path)), hint=_INIT)
    versions = _versions(directory)
    roots = _roots(directory, versions.get(ROOT, []))
    signed_roots = [root.signed for root in roots]
    timestamp = _read(directory / "timestamp.json", Timestamp)
    _verify(directory / "timestamp.json", TIMESTAMP, timestamp, signed_roots)
    snapshot_path, snapshot = _named(directory, SNAPSHOT, Snapshot, timestamp.signed.snapshot_meta)
    _verify(snapshot_path, SNAPSHOT, snapshot, signed_roots)
    targets_path, targets = _named(directory, TARGETS, Targets, _meta(snapshot_path, snapshot, TARGETS))
    _verify(targets_path, TARGETS, targets, signed_roots)
    delegated = {}
    for role in _delegated_names(targets.signed):
        role_path, delegated[role] = _named(directory, role, Targets, _meta(snapshot_path, snapshot, role))
        _verify(role_path, role, delegated[role], [targets.signed])
    repository = Repository(path, roots, timestamp, snapshot, targets, delegated)
    _refuse_extra_versions(directory, versions, repository)
    _check_targets(repository)
    return repository


def repository_exists(path: Path) -> bool:
    """Whether something was published in `path` already."""
    return (path / "metadata").exists() or (path / ".work/commit").exists()


def identity_of(first_root: Metadata[Root]) -> str:
    """What names a repository: the SHA-256 of 1.root.json."""
    return hashlib.sha256(first_root.to_bytes()).hexdigest()


def root_is_development(root: Root) -> bool:
    """A root that says so, or names a development key."""
    return root.unrecognized_fields.get(DEVELOPMENT_FIELD) is True or any(map(is_development, root.keys.values()))


def target_file(path: Path, target: str, sha256: str) -> Path:
    """Where the bytes of a target are in the repository `path`."""
    directory, _, name = target.rpartition("/")
    return path / "targets" / directory / f"{sha256}.{name}"


def read_checked(path: Path, target: TargetFile) -> bytes:
    """The bytes of a target's file. Raises VerificationError when they are not what was signed."""
    try:
        data = path.read_bytes()
        target.verify_length_and_hashes(data)
    except FileNotFoundError as error:
        raise VerificationError("this target is missing", place=Place(str(path)), hint=_EDITED) from error
    except OSError as error:
        raise EdgesealError(f"cannot be read: {error.strerror}", place=Place(str(path))) from error
    except LengthOrHashMismatchError as error:
        raise VerificationError("its bytes are not the target's", place=Place(str(path)), hint=_EDITED) from error
    return data


def decode_metadata(data: bytes, kind: type[Any], *, place: Place) -> Metadata[Any]:
    """Strictly: the type, and exactly the bytes that this program writes. Raises VerificationError."""
    try:
        metadata: Metadata[Any] = Metadata.from_bytes(data)
    except RepositoryError as error:
        raise VerificationError("not TUF metadata", place=place, hint=_EDITED) from error
    if not isinstance(metadata.signed, kind):
        raise VerificationError(f"not metadata of type {kind.type}", place=place, hint=_EDITED)
    if metadata.to_bytes() != data or metadata.unrecognized_fields:
        raise VerificationError("its bytes were changed: not as they were written", place=place, hint=_EDITED)
    return metadata


def _versions(directory: Path) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for path in sorted(directory.iterdir()):
        if path.name == "timestamp.json":
            continue
        match = _VERSIONED.fullmatch(path.name)
        if match is None or not path.is_file():
            raise VerificationError("this is none of the repository's files", place=Place(str(path)), hint=_EDITED)
        found.setdefault(match[2], []).append(int(match[1]))
    return {role: sorted(versions) for role, versions in found.items()}


def _roots(directory: Path, versions: list[int]) -> tuple[Metadata[Root], ...]:
    if versions != list(range(1, len(versions) + 1)) or not versions:
        missing = next(number for number in range(1, len(versions) + 2) if number not in versions)
        place = Place(str(directory / f"{missing}.root.json"))
        raise VerificationError("this version of the root is missing", place=place, hint=_EDITED)
    roots: list[Metadata[Root]] = []
    for version in versions:
        path = directory / f"{version}.root.json"
        root = _read(path, Root)
        if root.signed.version != version:
            message = f"it says that it is version {root.signed.version}"
            raise VerificationError(message, place=Place(str(path)), hint=_EDITED)
        before = [roots[-1].signed] if roots else []
        for signer in (*before, root.signed):
            _verify(path, ROOT, root, [*before, root.signed], threshold=signer)
        roots.append(root)
    return tuple(roots)


def _verify(
    path: Path,
    role: str,
    metadata: Metadata[Any],
    delegators: list[Any],
    *,
    threshold: Root | Targets | None = None,
) -> None:
    """The newest of `delegators` asks for the threshold; every signature is of a key that one of them names."""
    place = Place(str(path))
    known = known_keys(delegators, role)
    payload = metadata.signed_bytes
    for keyid, signature in metadata.signatures.items():
        if keyid not in known:
            message = f"it has a signature of an unknown key {keyid[:8]}"
            raise VerificationError(message, place=place, hint=_EDITED)
        try:
            known[keyid].verify_signature(signature, payload)
        except Exception as error:
            raise VerificationError(
                "its bytes were changed: a signature does not verify", place=place, hint=_EDITED
            ) from error
    try:
        require_threshold(threshold or delegators[-1], role, metadata)
    except VerificationError as error:
        raise VerificationError(error.message, place=place, hint=_EDITED) from error


def _read(path: Path, kind: type[Any]) -> Metadata[Any]:
    return decode_metadata(_bytes(path), kind, place=Place(str(path)))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise VerificationError("this file is missing", place=Place(str(path)), hint=_EDITED) from error
    except OSError as error:
        raise EdgesealError(f"cannot be read: {error.strerror}", place=Place(str(path))) from error


def _meta(path: Path, snapshot: Metadata[Snapshot], role: str) -> Any:
    try:
        return snapshot.signed.meta[f"{role}.json"]
    except KeyError as error:
        raise VerificationError(f"it does not name {role}", place=Place(str(path)), hint=_EDITED) from error


def _named(directory: Path, role: str, kind: type[Any], meta: Any) -> tuple[Path, Metadata[Any]]:
    """What a signed file names by version, length and hash."""
    path = directory / f"{meta.version}.{role}.json"
    data = _bytes(path)
    try:
        meta.verify_length_and_hashes(data)
    except LengthOrHashMismatchError as error:
        message = "its bytes were changed: not the ones that were published"
        raise VerificationError(message, place=Place(str(path)), hint=_EDITED) from error
    return path, decode_metadata(data, kind, place=Place(str(path)))


def _delegated_names(targets: Targets) -> list[str]:
    delegations = targets.delegations
    return sorted(delegations.roles or ()) if delegations is not None else []


def _refuse_extra_versions(directory: Path, versions: Mapping[str, list[int]], repository: Repository) -> None:
    for role, found in versions.items():
        current = repository.metadata(role)
        if current is None or max(found) > current.signed.version:
            place = Place(str(directory / f"{max(found)}.{role}.json"))
            raise VerificationError("this version was never published", place=place, hint=_EDITED)


def _check_targets(repository: Repository) -> None:
    """Every target is there; every file there has the hash in its name."""
    for _, path, target in repository.all_targets():
        read_checked(target_file(repository.path, path, target.hashes["sha256"]), target)
    for file in sorted((repository.path / "targets").rglob("*")):
        if file.is_dir():
            continue
        match = _HASHED.fullmatch(file.name)
        if match is None or hashlib.sha256(file.read_bytes()).hexdigest() != match[1]:
            raise VerificationError("this is none of the repository's files", place=Place(str(file)), hint=_EDITED)
