"""A repository as a device sees it: the same client, the same refusals. The one module here that imports the updater.

What an approver says yes to, and what a medium is said to hold, is what devices themselves would accept.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from appliance.core.errors import InputError, Place, VerificationError
from appliance.formats.approval import MAX_APPROVALS_BYTES, SitePolicy, decode_policy, policy_path
from appliance.formats.bundle import BUNDLE_DIRECTORY, BUNDLE_LABEL, Bundle, RepositoryName
from appliance.formats.device import UpdateConfig
from appliance.formats.model_release import (
    MAX_MODEL_RELEASE_BYTES,
    ModelRelease,
    decode_model_release,
    latest_model_path,
)
from appliance.formats.release import MAX_RELEASE_BYTES, Content, Release, decode_release
from appliance.update.client import Freshness, TargetInfo, TrustedRepository
from appliance.update.decide import targets_wanted
from appliance.update.http import HttpSource, Surroundings
from appliance.update.medium import MediumRepository, TreeRepository, read_label
from appliance.update.ranges import ByteRange, ContentSource
from appliance.update.transport import FileSource, NotThereError

LIMITS = UpdateConfig()
ATTEMPTS = 5
CHUNK = 1 << 20


class Source(FileSource, ContentSource, Protocol):
    """Where a repository is."""


@dataclass(frozen=True)
class FoundRelease:
    """A release that the vendor's accepted metadata names; data: the manifest's bytes."""

    target: TargetInfo
    data: bytes
    release: Release


@dataclass(frozen=True)
class FoundModel:
    """The same of a model."""

    target: TargetInfo
    data: bytes
    release: ModelRelease


class SeenRepository:
    """A repository, trusted from `root` on.

    where: an http: or https: address, a directory with metadata/, or one with a bundle. store: what was accepted before
    is kept there, so that nothing older is accepted later. ca: PEM, for https. Raises InputError.
    """

    def __init__(self, where: str, root: bytes, store: Path, *, name: RepositoryName, ca: bytes | None = None) -> None:
        self.where = where
        self.source = _source(where, name, ca)
        self.directory = store / name / hashlib.sha256(root).hexdigest()[:32]
        self._looked_for: set[str] = set()
        self._client = TrustedRepository(self.directory, root, self.source, LIMITS, name=f"{name} repository")

    def refresh(self, *, now: int) -> Freshness:
        """As a device whose time is `now` (Unix seconds) does. Raises RefusedError, TransportError."""
        return self._client.refresh(now)

    def release(self, path: str) -> FoundRelease | None:
        """None when the repository does not name it. Raises RefusedError, TransportError, DecodeError."""
        target = self._client.target(path)
        if target is None:
            return None
        self._looked_for.add(path)
        data = self._client.fetch(target, at_most=MAX_RELEASE_BYTES)
        return FoundRelease(target, data, decode_release(data))

    def model(self, path: str) -> FoundModel | None:
        """None when the repository does not name it. Raises RefusedError, TransportError, DecodeError."""
        found = self._model(path)
        if found is not None:
            self._looked_for.add(path)
        return found

    def models_for(self, policy: SitePolicy) -> tuple[list[FoundModel], list[str]]:
        """(the models that devices ask for under this policy, targets that are approved and not there), by path.

        Where the site follows its vendor these are the latest of all that are for the product; a role whose metadata is
        not here, as on a medium that was made for others, has none. Raises as `model` does.
        """
        if policy.mode == "hold":
            return [], []
        if policy.mode == "follow-vendor":
            latest = [self._latest(name) for name in self._model_names()]
            mine = [found for found in latest if found is not None and found.release.for_product(policy.product)]
            self._looked_for |= {found.target.path for found in mine}
            return mine, []
        paths = sorted(each.target for each in policy.approvals if each.target.startswith("models/"))
        found = {path: self.model(path) for path in paths}
        return [each for each in found.values() if each is not None], [path for path in paths if found[path] is None]

    def _latest(self, name: str) -> FoundModel | None:
        try:
            return self._model(latest_model_path(name))
        except NotThereError:
            return None

    def _model(self, path: str) -> FoundModel | None:
        target = self._client.target(path)
        if target is None:
            return None
        data = self._client.fetch(target, at_most=MAX_MODEL_RELEASE_BYTES)
        return FoundModel(target, data, decode_model_release(data))

    def _model_names(self) -> list[str]:
        delegations = Metadata[Targets].from_bytes(self._stored("targets")).signed.delegations
        roles = (delegations.roles if delegations is not None else None) or {}
        return sorted(role.removeprefix("models-") for role in roles if role.startswith("models-"))

    def policy(self, product: str) -> tuple[SitePolicy, bytes] | None:
        """None when the site does not name the product. Raises RefusedError, TransportError, DecodeError."""
        target = self._client.target(policy_path(product))
        if target is None:
            return None
        data = self._client.fetch(target, at_most=MAX_APPROVALS_BYTES)
        return decode_policy(data), data

    def products(self) -> list[str]:
        """Of a site: all that its accepted targets name."""
        targets = Metadata[Targets].from_bytes(self._stored("targets")).signed.targets
        return sorted(path.removeprefix("approvals/").removesuffix(".json") for path in targets)

    def metadata(self) -> Iterator[tuple[str, bytes]]:
        """(path, bytes) of every root from 1 on and of the metadata that was accepted, timestamp.json last.

        Of the delegated roles those are there that speak for a release that `release` found.
        """
        for version in range(1, Metadata[Root].from_bytes(self._stored("root")).signed.version + 1):
            yield f"metadata/{version}.root.json", self._root(version)
        timestamp = Metadata[Timestamp].from_bytes(self._stored("timestamp")).signed
        yield f"metadata/{timestamp.snapshot_meta.version}.snapshot.json", self._stored("snapshot")
        meta = Metadata[Snapshot].from_bytes(self._stored("snapshot")).signed.meta
        for role in ("targets", *sorted(self._delegated_roles())):
            yield f"metadata/{meta[f'{role}.json'].version}.{role}.json", self._stored(role)
        yield "metadata/timestamp.json", self._stored("timestamp")

    def content(self, content: Content) -> Iterator[bytes]:
        """The bytes of a content file, in pieces of at most CHUNK.

        Raises TransportError, and VerificationError after the last piece when the hash is another.
        """
        pieces = [ByteRange(at, min(CHUNK, content.size - at)) for at in range(0, content.size, CHUNK)]
        found = hashlib.sha256()
        for piece in self.source.read(content, pieces):
            found.update(piece)
            yield piece
        if found.hexdigest() != content.sha256:
            place = Place(f"{self.where}/{content.path}")
            raise VerificationError(f"its SHA-256 is {found.hexdigest()[:16]}…, not its name", place=place)

    def _root(self, version: int) -> bytes:
        """Of those before the trusted one nothing is believed: a device goes its own way through them."""
        kept = self.directory / "root_history" / f"{version}.root.json"
        if kept.exists():
            return kept.read_bytes()
        return self.source.get(f"metadata/{version}.root.json", at_most=LIMITS.root_bytes)

    def _delegated_roles(self) -> set[str]:
        """Those that speak for what `release` found."""
        delegations = Metadata[Targets].from_bytes(self._stored("targets")).signed.delegations
        if delegations is None:
            return set()
        return {role for path in self._looked_for for role, _ in delegations.get_roles_for_target(path)}

    def _stored(self, role: str) -> bytes:
        return (self.directory / f"{role}.json").read_bytes()


def wanted_targets(policy: SitePolicy) -> tuple[str, ...]:
    """What a device asks the vendor for under this policy."""
    return targets_wanted(policy)


def label_of(mount: Path) -> Bundle:
    """The label of a medium. Raises InputError when there is no bundle, TransportError, DecodeError."""
    try:
        return read_label(mount)
    except NotThereError as error:
        message = f"there is no bundle here: no {BUNDLE_DIRECTORY}/{BUNDLE_LABEL}"
        raise InputError(message, place=Place(str(mount)), hint="make one: edgeseal bundle create") from error


def _source(where: str, name: RepositoryName, ca: bytes | None) -> Source:
    if where.startswith(("http:", "https:")):
        around = Surroundings(clock=time.monotonic, sleep=time.sleep, draw=secrets.SystemRandom().random)
        called = f"{name} repository"
        return HttpSource(where, name=called, ca=ca, config=LIMITS, attempts=ATTEMPTS, around=around, bucket=None)
    path = Path(where)
    if (path / BUNDLE_DIRECTORY).is_dir():
        return MediumRepository(path, name)
    if (path / "metadata").is_dir():
        return TreeRepository(path, called=where)
    raise InputError(
        "there is no repository", place=Place(where), hint="an address, or a directory with metadata/ or a bundle"
    )


def read_root(file: Path) -> bytes:
    """A trusted root. Raises InputError."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"the trusted root cannot be read: {error.strerror}", place=Place(str(file))) from error
