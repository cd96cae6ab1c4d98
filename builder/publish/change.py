"""A change of a repository: drafts of its offline metadata, and the step that puts signed ones in force.

draft_targets, draft_root   the next version, unsigned
sign_metadata               add a signature
apply                       thresholds, versions and hashes are checked; snapshot and timestamp follow; all at once
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from securesystemslib.signer import Key, Signer
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from appliance.core.errors import EdgesealError, Place, VerificationError
from builder.archive.digest import file_sha256
from builder.publish.install import copy_new, locked, make_directory, new_files, write_new, writing
from builder.publish.keys import DEVELOPMENT_FIELD, sign_bytes
from builder.publish.repository import Repository, read_repository, repository_exists, target_file
from builder.publish.roles import (
    ROOT,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    Periods,
    RoleKeys,
    lapsed,
    require_threshold,
    role_keys,
    signatures_of,
)


class Signers(Protocol):
    """Where the online keys are: a Keyring, for example."""

    def signers(self, keys: Sequence[Key]) -> list[Signer]:
        """Those of `keys` that can sign here."""


@dataclass(frozen=True)
class Change:
    """Signed offline metadata that is to be in force. None, or not named: it stays.

    files: bytes of every new target, by its path. content: files that are named by their SHA-256.
    """

    root: Metadata[Root] | None = None
    targets: Metadata[Targets] | None = None
    delegated: Mapping[str, Metadata[Targets]] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    content: tuple[Path, ...] = ()


def draft_root(
    before: Metadata[Root] | None, roles: Mapping[str, RoleKeys], *, expires: datetime, development: bool = False
) -> Metadata[Root]:
    """The next version of the root with exactly these keys for the four roles. development: it says so for ever."""
    root = Root(version=before.signed.version + 1 if before else 1, expires=expires, consistent_snapshot=True)
    if development:
        root.unrecognized_fields[DEVELOPMENT_FIELD] = True
    for role, wanted in roles.items():
        for key in wanted.keys:
            root.add_key(key, role)
        root.roles[role].threshold = wanted.threshold
    return Metadata(root)


def draft_targets(
    before: Metadata[Targets] | None,
    *,
    expires: datetime,
    add: Mapping[str, bytes] | None = None,
    remove: Iterable[str] = (),
    delegate: Mapping[str, tuple[RoleKeys, Sequence[str]]] | None = None,
) -> Metadata[Targets]:
    """The next version of a targets role (delegated or not), unsigned.

    add: target path to bytes; a target of that path is replaced. delegate: role to its keys and path patterns; a
    delegation of that name is replaced.
    """
    targets = copy.deepcopy(before.signed) if before else Targets()
    targets.version = before.signed.version + 1 if before else 1
    targets.expires = expires
    for path in remove:
        targets.targets.pop(path)
    for path, data in (add or {}).items():
        targets.targets[path] = TargetFile.from_data(path, data, ["sha256"])
    for role, (wanted, patterns) in (delegate or {}).items():
        _delegate(targets, role, wanted, patterns)
    return Metadata(targets)


def sign_metadata(metadata: Metadata[Any], signer: Signer) -> None:
    """Add a signature. Raises EdgesealError when the key cannot be used."""
    signature = sign_bytes(signer, metadata.signed_bytes)
    metadata.signatures[signature.keyid] = signature


def apply(path: Path, change: Change, online: Signers, *, now: datetime, periods: Periods) -> Repository:
    """Put a change in force and return the repository as it is then. Without a repository, `change` is its beginning.

    With an empty change snapshot and timestamp are renewed. A delegated role that lapsed does not stop the others.
    Raises VerificationError when a threshold is not met, a version does not rise by one, a role has lapsed, or a new
    target's bytes are not there; EdgesealError when an online key is not here. The repository is as before then.
    """
    make_directory(path)
    with writing(path), locked(path):
        base = read_repository(path) if repository_exists(path) else None
        state = _NextState(base, change)
        _check_signed(base, state, change, now)
        snapshot, timestamp = _online(base, state, online, now, periods)
        with new_files(path) as fresh:
            _write(fresh, path, base, state, change, snapshot, timestamp)
        return read_repository(path)


class _NextState:
    """What will be in force."""

    def __init__(self, base: Repository | None, change: Change) -> None:
        root = change.root or (base.root if base else None)
        targets = change.targets or (base.targets if base else None)
        if root is None or targets is None:
            raise VerificationError("a new repository begins with a root and targets")
        self.root: Metadata[Root] = root
        self.targets: Metadata[Targets] = targets
        self.delegated: dict[str, Metadata[Targets]] = {**(base.delegated if base else {}), **change.delegated}

    def in_snapshot(self) -> dict[str, Metadata[Targets]]:
        """By role."""
        return {TARGETS: self.targets, **self.delegated}


def _check_signed(base: Repository | None, state: _NextState, change: Change, now: datetime) -> None:
    if change.root is not None and base is not None:
        require_threshold(base.root.signed, ROOT, change.root)
    require_threshold(state.root.signed, ROOT, state.root)
    require_threshold(state.root.signed, TARGETS, state.targets)
    for role, metadata in state.delegated.items():
        require_threshold(state.targets.signed, role, metadata)
    for role, found in ((ROOT, change.root), (TARGETS, change.targets), *change.delegated.items()):
        if found is None:
            continue
        before = base.metadata(role) if base else None
        expected = before.signed.version + 1 if before else 1
        if found.signed.version != expected:
            raise VerificationError(f"{role}: this is version {found.signed.version}, the next one is {expected}")
    offline: tuple[tuple[str, Metadata[Any]], ...] = (
        (ROOT, state.root),
        (TARGETS, state.targets),
        *change.delegated.items(),
    )
    for role, item in offline:
        if lapsed(item.signed, now):
            raise VerificationError(
                f"{role}: version {item.signed.version} lapsed on {item.signed.expires:%Y-%m-%d}: its holders must sign"
                " a new one"
            )


def _online(
    base: Repository | None, state: _NextState, online: Signers, now: datetime, periods: Periods
) -> tuple[Metadata[Snapshot], Metadata[Timestamp]]:
    """The next snapshot and timestamp, signed by every key that is here and that the new or the old root names."""
    meta = {f"{role}.json": _meta_file(metadata) for role, metadata in state.in_snapshot().items()}
    snapshot = Metadata(
        Snapshot(
            version=base.snapshot.signed.version + 1 if base else 1,
            expires=periods.expires(SNAPSHOT, now),
            meta=meta,
        )
    )
    _sign_online(base, state, SNAPSHOT, snapshot, online)
    timestamp = Metadata(
        Timestamp(
            version=base.timestamp.signed.version + 1 if base else 1,
            expires=periods.expires(TIMESTAMP, now),
            snapshot_meta=_meta_file(snapshot),
        )
    )
    _sign_online(base, state, TIMESTAMP, timestamp, online)
    return snapshot, timestamp


def _sign_online(
    base: Repository | None, state: _NextState, role: str, metadata: Metadata[Any], online: Signers
) -> None:
    keys = {key.keyid: key for key in role_keys(state.root.signed, role).keys}
    if base is not None:
        keys |= {key.keyid: key for key in base.keys(role).keys}
    for signer in online.signers(list(keys.values())):
        sign_metadata(metadata, signer)
    found = signatures_of(state.root.signed, role, metadata)
    if found.missing:
        raise EdgesealError(
            f"{role}: {found.missing} of {found.threshold} online keys are not here: {', '.join(found.unsigned)}",
            hint="name the directory of the online keys with --keys",
        )


def _meta_file(metadata: Metadata[Any]) -> MetaFile:
    data = metadata.to_bytes()
    return MetaFile(metadata.signed.version, len(data), {"sha256": hashlib.sha256(data).hexdigest()})


def _write(
    fresh: Path,
    path: Path,
    base: Repository | None,
    state: _NextState,
    change: Change,
    snapshot: Metadata[Snapshot],
    timestamp: Metadata[Timestamp],
) -> None:
    metadata = fresh / "new/metadata"
    changed: dict[str, Metadata[Any]] = {**change.delegated, SNAPSHOT: snapshot}
    if change.targets is not None:
        changed[TARGETS] = change.targets
    for role, item in changed.items():
        write_new(metadata / f"{item.signed.version}.{role}.json", item.to_bytes())
    if change.root is not None:
        order = "after" if base and _old_root_accepts(base, state, snapshot, timestamp) else "before"
        write_new(fresh / order / f"{change.root.signed.version}.root.json", change.root.to_bytes())
    write_new(fresh / "timestamp.json", timestamp.to_bytes())
    _write_targets(fresh, path, state, change)
    for item_path in change.content:
        _write_content(fresh, path, item_path)


def _write_targets(fresh: Path, path: Path, state: _NextState, change: Change) -> None:
    for metadata in state.in_snapshot().values():
        for name, target in metadata.signed.targets.items():
            place = target_file(path, name, target.hashes["sha256"])
            if place.exists():
                continue
            data = change.files.get(name)
            if data is None or hashlib.sha256(data).hexdigest() != target.hashes["sha256"]:
                raise VerificationError(f"the bytes of target {name} are not here")
            write_new(fresh / "new" / place.relative_to(path), data)


def _write_content(fresh: Path, path: Path, source: Path) -> None:
    name = source.name
    found = file_sha256(source)
    if found != name:
        raise VerificationError(f"its SHA-256 is {found[:16]}…, not its name", place=Place(str(source)))
    if not (path / "content" / name[:2] / name).exists():
        copy_new(source, fresh / "new/content" / name[:2] / name)


def _old_root_accepts(
    base: Repository, state: _NextState, snapshot: Metadata[Snapshot], timestamp: Metadata[Timestamp]
) -> bool:
    """Whether a client that has only the old root can already use all that is new."""
    found = ((TARGETS, state.targets), (SNAPSHOT, snapshot), (TIMESTAMP, timestamp))
    return not any(signatures_of(base.root.signed, role, metadata).missing for role, metadata in found)


def _delegate(targets: Targets, role: str, wanted: RoleKeys, patterns: Sequence[str]) -> None:
    if targets.delegations is None:
        targets.delegations = Delegations(keys={}, roles={})
    delegations = targets.delegations
    assert delegations.roles is not None
    delegations.roles[role] = DelegatedRole(role, [], wanted.threshold, terminating=True, paths=list(patterns))
    for key in wanted.keys:
        targets.add_key(key, role)
    used = {keyid for item in delegations.roles.values() for keyid in item.keyids}
    delegations.keys = {keyid: key for keyid, key in delegations.keys.items() if keyid in used}
