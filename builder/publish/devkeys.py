"""Development keys of a repository: all of them in one directory, so that one command can do a whole ceremony."""

from __future__ import annotations

from pathlib import Path

from appliance.core.errors import InputError, Place
from builder.publish.ceremony import asked_keys
from builder.publish.keys import Keyring, RepositoryKey, make_key, read_key
from builder.publish.roles import ONLINE, ROOT, SNAPSHOT, TARGETS, TIMESTAMP, RoleKeys
from builder.publish.staging import ceremony_path, read_ceremony, sign_file

OFFLINE_KEYS = 3
OFFLINE_THRESHOLD = 2


def development_roles(directory: Path) -> dict[str, RoleKeys]:
    """Three keys for root and for targets, two of which must sign, and one for each online role; made when missing.

    Raises InputError when a key there is not marked as a development key.
    """
    names = {role: [f"{role}-{number}" for number in range(1, OFFLINE_KEYS + 1)] for role in (ROOT, TARGETS)}
    names |= {role: [role] for role in ONLINE}
    roles = {}
    for role, own in names.items():
        keys = tuple(_development_key(directory / f"{name}.json").key for name in own)
        roles[role] = RoleKeys(keys, OFFLINE_THRESHOLD if role in (ROOT, TARGETS) else 1)
    return roles


def online_roles(directory: Path) -> dict[str, RoleKeys]:
    """The keys snapshot.json and timestamp.json of a directory. Raises InputError when one is missing."""
    return {role: RoleKeys((read_key(directory / f"{role}.json").key,), 1) for role in (SNAPSHOT, TIMESTAMP)}


def sign_with_all(path: Path, ring: Keyring) -> None:
    """Sign the staged ceremony with every key here that it asks for. Raises InputError when there is none."""
    signers = ring.signers(asked_keys(read_ceremony(ceremony_path(path))))
    if not signers:
        raise InputError("no key that is asked is here", place=Place(str(ring.directory)))
    for signer in signers:
        sign_file(ceremony_path(path), signer)


def _development_key(path: Path) -> RepositoryKey:
    key = read_key(path) if path.exists() else make_key(path, holder=path.stem, development=True)
    if not key.development:
        raise InputError("this key is not marked as a development key", place=Place(str(path)))
    return key
