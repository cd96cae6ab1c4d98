"""One TUF repository as a device sees it. Spec: docs/specs/repository.md. Why like this: docs/adr/0015.

The only module that imports tuf. python-tuf decides what is trusted; what is added here is a reference time that is
given and never read from a clock, durable writes, bounds, and refusals that say whose fault it is.

Beyond python-tuf's public interface it uses `_trusted_set.reference_time`, `_persist_file`, `_update_root_symlink`,
`_download_metadata` and the `_load_…` steps; canaries in tests/unit/test_update_client.py fail when these change.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeAlias, cast

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.api.metadata import (
    TOP_LEVEL_ROLE_NAMES,
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from appliance.core.errors import VerificationError
from appliance.formats.device import UpdateConfig
from appliance.update.metadata_store import ROOT_HISTORY, MetadataStore
from appliance.update.transport import FileSource, NotThereError

MAX_DELEGATIONS = 32
"""Roles that one search for a target visits. A vendor's repository needs two."""

_LAST_SECOND = 253_402_300_799  # of the year 9999, the last that TUF can write

Reason: TypeAlias = Literal["expired", "signatures", "rollback", "mismatch", "malformed"]


class RefusedError(VerificationError):
    """What a repository offers is not accepted. role: whose metadata it was, or the path of a target."""

    def __init__(self, name: str, role: str, reason: Reason, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.role = role
        self.reason = reason


class ExpiredError(RefusedError):
    """Metadata whose last day lies before a time that a signature already proved."""


@dataclass(frozen=True)
class Freshness:
    """What a refresh accepted: the four versions, and when the first of them expires (Unix seconds).

    It never proves that this is the newest there is: a frozen repository looks the same until `expires`. TUF metadata
    holds no signing time, so nothing in it raises T_low; what does is in accepted targets (`built`, `signed_at`).
    """

    reference_time: int
    root: int
    timestamp: int
    snapshot: int
    targets: int
    expires: int


@dataclass(frozen=True)
class TargetInfo:
    """What accepted metadata says of a target. hashes: (algorithm, hex) as listed, at least one; all are checked."""

    path: str
    length: int
    hashes: tuple[tuple[str, str], ...]

    @property
    def sha256(self) -> str:
        """Raises VerificationError when the repository gives only other hashes."""
        found = dict(self.hashes).get("sha256")
        if found is None:
            raise VerificationError(f"target {self.path}: its metadata has no sha256")
        return found


class TrustedRepository:
    """A repository, trusted from `trusted_root` on (bytes that the image or the site vouches for) and nothing else.

    directory: of this repository alone, kept over restarts; rollback protection lives there. source: gives bytes that
    are not trusted. limits: bounds on each file, and on the root rotations that one refresh downloads.
    name: begins every message, as in `vendor repository`.
    """

    def __init__(
        self, directory: Path, trusted_root: bytes, source: FileSource, limits: UpdateConfig, *, name: str
    ) -> None:
        self._store = MetadataStore(directory)
        self._trusted_root = trusted_root
        self._source = source
        self._limits = limits
        self._name = name
        self._updater: _Updater | None = None

    def refresh(self, reference_time: int) -> Freshness:
        """Bring the metadata up to date. reference_time: T_low, Unix seconds; what expired by then is refused.

        Raises RefusedError (ExpiredError for expiry), TransportError, EdgesealError when the disk fails. Whatever was
        accepted before the failure stays stored, as TUF wants it; the next refresh goes on from there.
        """
        self._updater = None
        updater = _Updater(self._store, self._trusted_root, self._source, self._limits, self._name, reference_time)
        updater.refresh()
        self._updater = updater
        return updater.freshness()

    def target(self, path: str) -> TargetInfo | None:
        """What the repository says of a target, or None when no role that may speak for `path` names it.

        May download delegated metadata: raises as refresh() does. RuntimeError without a refresh that succeeded.
        """
        found = self._fresh().get_targetinfo(path)
        return None if found is None else TargetInfo(path, found.length, tuple(found.hashes.items()))

    def fetch(self, target: TargetInfo, *, at_most: int) -> bytes:
        """The target's bytes, after their length and all hashes were checked. Raises RefusedError, TransportError."""
        if target.length > at_most:
            raise RefusedError(
                self._name,
                target.path,
                "mismatch",
                f"target {target.path}: {target.length} bytes, at most {at_most} are allowed",
            )
        address = target.path
        if self._fresh().consistent_snapshot:
            folder, slash, file = address.rpartition("/")
            hashes = dict(target.hashes)
            address = f"{folder}{slash}{hashes.get('sha256', target.hashes[0][1])}.{file}"
        return self.check(target, self._source.get(f"targets/{address}", at_most=target.length))

    def check(self, target: TargetInfo, data: bytes) -> bytes:
        """`data`, which is what `target` names. Raises RefusedError when it is not."""
        try:
            TargetFile(target.length, dict(target.hashes), target.path).verify_length_and_hashes(data)
        except LengthOrHashMismatchError as error:
            sent, signed = _compared(target.length, dict(target.hashes), data)
            text = f"target {target.path}: {sent} were sent, {signed} are signed"
            raise RefusedError(self._name, target.path, "mismatch", text) from error
        return data

    def _fresh(self) -> _Updater:
        if self._updater is None:
            raise RuntimeError("refresh() comes first")
        return self._updater


class _Fetcher(FetcherInterface):
    """python-tuf's network, which is our source. Errors of the source pass through python-tuf as they are."""

    def __init__(self, source: FileSource) -> None:
        self._source = source

    def download_bytes(self, url: str, max_length: int) -> bytes:
        try:
            return self._source.get(url, at_most=max_length)
        except NotThereError as error:
            raise DownloadHTTPError(error.message, 404) from error  # how python-tuf finds the end of the root chain

    def _fetch(self, url: str) -> Iterator[bytes]:
        raise DownloadError(f"{url}: nothing is downloaded without a bound")


class _Updater(Updater):
    """One refresh and the searches that follow it."""

    def __init__(
        self,
        store: MetadataStore,
        trusted_root: bytes,
        source: FileSource,
        limits: UpdateConfig,
        name: str,
        reference_time: int,
    ) -> None:
        self._store = store
        self._name = name
        self._received: bytes | None = None
        config = UpdaterConfig(
            max_root_rotations=limits.root_rotations,
            max_delegations=MAX_DELEGATIONS,
            root_max_length=limits.root_bytes,
            timestamp_max_length=limits.timestamp_bytes,
            snapshot_max_length=limits.snapshot_bytes,
            targets_max_length=limits.targets_bytes,
        )
        try:
            super().__init__(
                str(store.directory), "metadata/", fetcher=_Fetcher(source), config=config, bootstrap=trusted_root
            )
        except RepositoryError as error:
            raise VerificationError(
                f"{name}: the trusted root that this device was given cannot be used: {_first_line(error)}",
                hint="the root comes from the image or from the site's provisioning, never from the repository",
            ) from error
        if not isinstance(self._trusted_set.reference_time, datetime):  # nothing was compared with it so far
            raise RuntimeError("this python-tuf takes its time from elsewhere")
        self._reference_time = min(reference_time, _LAST_SECOND)
        self._trusted_set.reference_time = datetime.fromtimestamp(self._reference_time, UTC)

    @property
    def consistent_snapshot(self) -> bool:
        """Whether files are named with their hash."""
        return bool(self._trusted_set.root.consistent_snapshot)

    def freshness(self) -> Freshness:
        """After a refresh."""
        trusted = self._trusted_set
        roles = (trusted.root, trusted.timestamp, trusted.snapshot, trusted.targets)
        return Freshness(
            reference_time=self._reference_time,
            root=trusted.root.version,
            timestamp=trusted.timestamp.version,
            snapshot=trusted.snapshot.version,
            targets=trusted.targets.version,
            expires=min(int(role.expires.timestamp()) for role in roles),
        )

    # --- writes: python-tuf renames without fsync, and removes root.json before it makes it anew

    def _persist_file(self, filename: str, data: bytes) -> None:
        self._store.write(str(Path(filename).relative_to(self._store.directory)), data)

    def _update_root_symlink(self) -> None:
        """Not now: _load_root does it, once the newest root is known, so that root.json never steps back."""

    # --- the steps, each with whose metadata it judges

    def _load_root(self) -> None:
        self._load_stored_roots()
        try:
            with self._judging("root"):
                super()._load_root()
        finally:
            newest = self._store.read(f"{ROOT_HISTORY}/{self._trusted_set.root.version}.root.json")
            if newest is not None:
                self._store.write("root.json", newest)

    def _load_stored_roots(self) -> None:
        """Roots that were accepted before do not count as rotations of this refresh, else a long chain never ends.

        One that is damaged, or that the present chain does not lead to, is left to be downloaded.
        """
        while (data := self._store.read(f"{ROOT_HISTORY}/{self._trusted_set.root.version + 1}.root.json")) is not None:
            try:
                self._trusted_set.update_root(data)
            except RepositoryError:
                return

    def _load_timestamp(self) -> None:
        with self._judging("timestamp"):
            super()._load_timestamp()

    def _load_snapshot(self) -> None:
        with self._judging("snapshot"):
            super()._load_snapshot()

    def _load_targets(self, role: str, parent_role: str) -> Targets:
        with self._judging(role, parent_role):
            return super()._load_targets(role, parent_role)

    def _download_metadata(self, rolename: str, length: int, version: int | None = None) -> bytes:
        self._received = None
        self._received = super()._download_metadata(rolename, length, version)
        return self._received

    # --- refusals

    @contextlib.contextmanager
    def _judging(self, role: str, parent: str = "root") -> Iterator[None]:
        self._received = None
        try:
            yield
        except DownloadHTTPError as error:
            raise cast("NotThereError", error.__cause__) from error
        except ExpiredMetadataError as error:
            raise self._expired(role) from error
        except RepositoryError as error:
            if self._received is None:  # nothing was asked for
                text = (
                    f"{parent} delegates to {role}, and snapshot {self._trusted_set.snapshot.version} does not name it"
                )
                self._refuse(role, "mismatch", text, error)
            if isinstance(error, LengthOrHashMismatchError):  # so it was never parsed
                named, by = self._named(role)
                sent, signed = _compared(named.length, named.hashes, self._received)
                self._refuse(role, "mismatch", f"{role}: {sent} were sent, {by} names {signed}", error)
            try:
                new = Metadata[Any].from_bytes(self._received)
            except DeserializationError:
                self._refuse(role, "malformed", f"{role}: this is not TUF metadata", error)
            self._judge(role, parent, error, new)

    def _judge(self, role: str, parent: str, error: RepositoryError, new: Metadata[Any]) -> NoReturn:
        version = new.signed.version
        if new.signed.type != (role if role in TOP_LEVEL_ROLE_NAMES else Targets.type):
            self._refuse(role, "malformed", f"{role}: {new.signed.type} metadata was sent in its place", error)
        if isinstance(error, UnsignedMetadataError):
            self._refuse(role, "signatures", self._missing_signatures(role, parent, new), error)
        if isinstance(error, BadVersionNumberError):
            self._judge_version(role, error, new.signed)
        if isinstance(new.signed, Snapshot) and "snapshot" in self._trusted_set:
            for file in sorted(set(self._trusted_set.snapshot.meta) - set(new.signed.meta)):
                text = f"snapshot {version} no longer names {file.removesuffix('.json')}"
                self._refuse(role, "rollback", text, error)
        self._refuse(role, "malformed", f"{role}: {_first_line(error)}", error)

    def _judge_version(self, role: str, error: RepositoryError, new: Signed) -> NoReturn:
        trusted = self._trusted_set
        if role == "root":
            text = f"root {new.version} was sent in place of root {trusted.root.version + 1}"
            self._refuse(role, "mismatch", text, error)
        if isinstance(new, Timestamp):
            old = trusted.timestamp
            text = f"timestamp {new.version} is older than timestamp {old.version}, which was accepted before"
            if new.version >= old.version:
                was, now = old.snapshot_meta.version, new.snapshot_meta.version
                text = f"timestamp {new.version} names snapshot {now}, and snapshot {was} was accepted before"
            self._refuse(role, "rollback", text, error)
        named, by = self._named(role)
        if named.version != new.version:
            self._refuse(role, "mismatch", f"{role} {new.version} was sent, {by} names {role} {named.version}", error)
        for file, before in trusted.snapshot.meta.items():
            now = cast("Snapshot", new).meta[file].version
            if now < before.version:
                what = file.removesuffix(".json")
                text = f"snapshot {new.version} names {what} {now}, and {what} {before.version} was accepted before"
                self._refuse(role, "rollback", text, error)
        self._refuse(role, "mismatch", f"{role}: {_first_line(error)}", error)

    def _expired(self, role: str) -> ExpiredError:
        moment = self._trusted_set.reference_time
        for name in ("root", "timestamp", "snapshot"):
            signed = self._signed(name)
            if signed is not None and signed.is_expired(moment):
                break
        else:
            name, signed = role, Metadata[Any].from_bytes(self._received or b"").signed
        return ExpiredError(
            self._name,
            name,
            "expired",
            f"{name} {signed.version} expired on {_utc(signed.expires)}, and signatures prove that it is "
            f"{_utc(moment)} or later",
        )

    def _missing_signatures(self, role: str, parent: str, new: Metadata[Any]) -> str:
        by = cast("Root | Targets", self._trusted_set[parent])
        demanded = by.get_verification_result(role, new.signed_bytes, new.signatures)
        if demanded.verified and isinstance(new.signed, Root):  # the old root is content, the new one is not
            by = new.signed
            demanded = by.get_verification_result(role, new.signed_bytes, new.signatures)
        return (
            f"{role} {new.signed.version} has {len(demanded.signed)} of the {demanded.threshold} signatures "
            f"that {parent} {by.version} demands"
        )

    def _named(self, role: str) -> tuple[MetaFile, str]:
        """What is said of `role`'s metadata, and by whom."""
        if role == "snapshot":
            return self._trusted_set.timestamp.snapshot_meta, f"timestamp {self._trusted_set.timestamp.version}"
        return self._trusted_set.snapshot.meta[f"{role}.json"], f"snapshot {self._trusted_set.snapshot.version}"

    def _signed(self, role: str) -> Signed | None:
        return self._trusted_set.get(role)

    def _refuse(self, role: str, reason: Reason, text: str, error: RepositoryError) -> NoReturn:
        raise RefusedError(self._name, role, reason, text) from error


def _compared(length: int | None, hashes: dict[str, str] | None, data: bytes) -> tuple[str, str]:
    """`data`, and what it should have been, in the same words."""
    sent, signed = [], []
    if length is not None:
        sent.append(f"{len(data)} bytes")
        signed.append(f"{length} bytes")
    for algorithm, digest in (hashes or {}).items():
        sent.append(f"{algorithm} {_digest(algorithm, data)}")
        signed.append(f"{algorithm} {digest}")
    return " with ".join(sent), " with ".join(signed)


def _digest(algorithm: str, data: bytes) -> str:
    try:
        return hashlib.new(algorithm, data).hexdigest()
    except (ValueError, TypeError):  # none that we know, or one without a fixed length
        return "unknown"


def _utc(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
