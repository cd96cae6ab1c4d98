"""Roles of a TUF repository: who signs them, how long they hold, who is still missing. Pure; time is an argument."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from securesystemslib.signer import Key
from tuf.api.metadata import Metadata, Root, Signed, Targets

from appliance.core.errors import VerificationError
from builder.publish.keys import holder_of

ROOT, TARGETS, SNAPSHOT, TIMESTAMP = "root", "targets", "snapshot", "timestamp"
ONLINE = (SNAPSHOT, TIMESTAMP)
TOP_LEVEL = (ROOT, TARGETS, SNAPSHOT, TIMESTAMP)


@dataclass(frozen=True)
class Periods:
    """Days for which a new version of a role holds. warn: an offline role with fewer days left is told."""

    root: int = 1095
    targets: int = 365
    delegated: int = 365
    snapshot: int = 30
    timestamp: int = 14
    warn: int = 30

    def expires(self, role: str, now: datetime) -> datetime:
        """When a version made `now` (with a time zone) lapses; whole seconds."""
        days: int = getattr(self, role if role in TOP_LEVEL else "delegated")
        return now.replace(microsecond=0) + timedelta(days=days)


@dataclass(frozen=True)
class RoleKeys:
    """Who may sign a role, and how many of them must."""

    keys: tuple[Key, ...]
    threshold: int

    @property
    def ids(self) -> frozenset[str]:
        """The keys' ids."""
        return frozenset(key.keyid for key in self.keys)

    @property
    def holders(self) -> list[str]:
        """Who has the keys, sorted."""
        return holders(self.keys)


@dataclass(frozen=True)
class Signatures:
    """How far a role's threshold is met. signed, unsigned: holders of the role's keys, sorted."""

    threshold: int
    signed: tuple[str, ...]
    unsigned: tuple[str, ...]

    @property
    def missing(self) -> int:
        """Signatures that are still needed."""
        return max(0, self.threshold - len(self.signed))


def role_keys(delegator: Root | Targets, role: str) -> RoleKeys:
    """Of a role that `delegator` (a root, or the targets for a delegated role) names. Raises VerificationError."""
    try:
        found = delegator.get_delegated_role(role)
        return RoleKeys(tuple(delegator.get_key(keyid) for keyid in found.keyids), found.threshold)
    except ValueError as error:
        raise VerificationError(f"there is no role {role}") from error


def signatures_of(delegator: Root | Targets, role: str, metadata: Metadata[Any]) -> Signatures:
    """Whose valid signatures `metadata` has, of those that `delegator` asks for."""
    result = delegator.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
    return Signatures(
        result.threshold, tuple(holders(result.signed.values())), tuple(holders(result.unsigned.values()))
    )


def require_threshold(delegator: Root | Targets, role: str, metadata: Metadata[Any]) -> None:
    """Raises VerificationError naming how many signatures are missing, and whose."""
    found = signatures_of(delegator, role, metadata)
    if found.missing:
        raise VerificationError(threshold_message(role, found))


def threshold_message(role: str, found: Signatures) -> str:
    """What is said of a threshold that is not met."""
    missing = f"{found.missing} signature{'s' if found.missing > 1 else ''} missing"
    return (
        f"{role}: {len(found.signed)} of {found.threshold} signatures, {missing}; not signed: "
        f"{', '.join(found.unsigned) or 'nobody is left'}"
    )


def days_left(signed: Signed, now: datetime) -> int:
    """Whole days until a role lapses; negative when it has."""
    return (signed.expires - now) // timedelta(days=1)


def lapsed(signed: Signed, now: datetime) -> bool:
    """Whether clients refuse it at `now`."""
    return signed.expires <= now


def holders(keys: Iterable[Key]) -> list[str]:
    """Who has the keys, sorted."""
    return sorted(holder_of(key) for key in keys)


def known_keys(delegators: Sequence[Root | Targets], role: str) -> dict[str, Key]:
    """All keys that any of `delegators` ever asked for a role, by id."""
    found: dict[str, Key] = {}
    for delegator in delegators:
        try:
            found |= {key.keyid: key for key in role_keys(delegator, role).keys}
        except VerificationError:
            continue  # this one does not name the role
    return found
