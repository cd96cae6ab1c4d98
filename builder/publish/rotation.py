"""Which keys a role has after a rotation. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from securesystemslib.signer import Key

from appliance.core.errors import InputError
from builder.publish.keys import holder_of
from builder.publish.roles import TARGETS, TOP_LEVEL, RoleKeys


@dataclass(frozen=True)
class KeyChange:
    """add: (role, key). remove: (role, holder or the beginning of a key id). thresholds: by role."""

    add: tuple[tuple[str, Key], ...] = ()
    remove: tuple[tuple[str, str], ...] = ()
    thresholds: Mapping[str, int] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What the ceremony is called."""
        parts = [f"add {holder_of(key)} to {role}" for role, key in self.add]
        parts += [f"remove {who} from {role}" for role, who in self.remove]
        parts += [f"threshold of {role} {number}" for role, number in self.thresholds.items()]
        text = "rotate: " + (", ".join(parts) or "new versions of the offline roles")
        return text if len(text) <= 200 else f"{text[:199]}…"


def change_keys(roles: Mapping[str, RoleKeys], changes: KeyChange) -> dict[str, RoleKeys]:
    """Every role's keys afterwards. A delegated role with the keys of the targets follows them, unless it is named.

    Raises InputError when a role, a holder or a key is not there, or is there already.
    """
    after = {role: {key.keyid: key for key in keys.keys} for role, keys in roles.items()}
    for role, key in changes.add:
        _known(roles, role)
        if key.keyid in roles[role].ids:
            raise InputError(f"{role} has the key of {holder_of(key)} already")
        after[role][key.keyid] = key
    for role, who in changes.remove:
        _known(roles, role)
        del after[role][_find(role, roles[role], who).keyid]
    for role in changes.thresholds:
        _known(roles, role)
    found = {
        role: RoleKeys(tuple(keys.values()), changes.thresholds.get(role, roles[role].threshold))
        for role, keys in after.items()
    }
    named = {role for role, _ in (*changes.add, *changes.remove)} | set(changes.thresholds)
    for role, keys in roles.items():
        followed = (keys.ids, keys.threshold) == (roles[TARGETS].ids, roles[TARGETS].threshold)
        if role not in TOP_LEVEL and role not in named and followed:
            found[role] = found[TARGETS]
    return found


def _known(roles: Mapping[str, RoleKeys], role: str) -> None:
    if role not in roles:
        raise InputError(f"there is no role {role}", hint=f"one of: {', '.join(roles)}")


def _find(role: str, keys: RoleKeys, who: str) -> Key:
    found = [key for key in keys.keys if holder_of(key) == who or (len(who) >= 8 and key.keyid.startswith(who))]
    if len(found) != 1:
        said = f"{len(found)} keys" if found else "no key"
        raise InputError(f"{role} has {said} of {who}", hint=f"its holders: {', '.join(keys.holders)}")
    return found[0]
