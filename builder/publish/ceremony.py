"""A ceremony: metadata that waits for signatures, in one file with all that is needed to read it.

The file goes to every key holder; each reads it (`words.py`), signs on their own machine, and sends it back; the
signatures are brought together. Nothing in it is believed: what is in force is verified from the first root on, and
every new target's bytes are there and have the signed hash. Used for vendor and site alike.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec
from securesystemslib.signer import Key, Signer
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Targets

from appliance.core.canonical import canonical_json
from appliance.core.errors import DecodeError, InputError, Place, VerificationError
from appliance.formats.device import FrozenStruct
from builder.publish.change import Change, sign_metadata
from builder.publish.keys import holder_of
from builder.publish.repository import Repository, identity_of
from builder.publish.roles import (
    ROOT,
    TARGETS,
    Signatures,
    holders,
    require_threshold,
    role_keys,
    signatures_of,
    threshold_message,
)

MAX_CEREMONY_BYTES = 64 << 20
_NOT = "not a ceremony"


class _File(FrozenStruct, frozen=True, kw_only=True):
    """The file. Metadata stands in it as in TUF's own files; files: target path to text."""

    schema: Literal[1] = 1
    kind: Literal["edgeseal-ceremony"] = "edgeseal-ceremony"
    title: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    roots: list[dict[str, Any]]
    base: dict[str, dict[str, Any]]
    documents: dict[str, dict[str, Any]]
    files: dict[str, str]


@dataclass(frozen=True)
class Asked:
    """Keys of a role, as `delegator` names them. needed: without their threshold the document is not in force."""

    delegator: Root | Targets
    role: str
    needed: bool


@dataclass(frozen=True)
class Ceremony:
    """roots: all that are in force, none for a new repository. base: targets and delegated roles in force, by name.

    documents: the next versions, by role. files: bytes of the new targets, by path.
    """

    title: str
    roots: tuple[Metadata[Root], ...]
    base: Mapping[str, Metadata[Targets]]
    documents: Mapping[str, Metadata[Any]]
    files: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def identity(self) -> str | None:
        """Of the repository; None for a new one."""
        return identity_of(self.roots[0]) if self.roots else None

    @property
    def root(self) -> Root:
        """The root that is in force after it."""
        found: Metadata[Root] = self.documents.get(ROOT) or self.roots[-1]
        return found.signed

    @property
    def targets(self) -> Targets:
        """The targets that are in force after it."""
        found: Metadata[Targets] = self.documents.get(TARGETS) or self.base[TARGETS]
        return found.signed

    def before(self, role: str) -> Metadata[Any] | None:
        """What is in force now."""
        if role == ROOT:
            return self.roots[-1] if self.roots else None
        return self.base.get(role)

    def asked(self, role: str) -> list[Asked]:
        """Who is asked to sign a document. A root: the old keys and the new ones.

        Where a new root names other keys for the targets, the old ones are welcome: with them there is no instant in
        which a client with the old root is refused.
        """
        if role not in (ROOT, TARGETS):
            return [Asked(self.targets, role, True)]
        asked = [Asked(self.root, role, True)]
        if ROOT in self.documents and self.roots:
            old = self.roots[-1].signed
            if role_keys(old, role) != role_keys(self.root, role):
                asked.insert(0, Asked(old, role, role == ROOT))
        return asked


def begin(
    title: str, repository: Repository | None, documents: Mapping[str, Metadata[Any]], files: Mapping[str, bytes]
) -> Ceremony:
    """A ceremony over a repository as it is now."""
    base = {TARGETS: repository.targets, **repository.delegated} if repository else {}
    return Ceremony(title, repository.roots if repository else (), base, documents, files)


def sign_ceremony(ceremony: Ceremony, signer: Signer) -> list[str]:
    """Add the key's signature to every document that asks for it; the documents' roles.

    Raises InputError, naming who may sign, when no document does.
    """
    key = signer.public_key
    signed = []
    for role, metadata in ceremony.documents.items():
        if any(key.keyid in role_keys(item.delegator, role).ids for item in ceremony.asked(role)):
            sign_metadata(metadata, signer)
            signed.append(role)
    if not signed:
        raise InputError(
            f"the key of {holder_of(key)} ({key.keyid[:8]}) is asked for nothing here",
            hint="; ".join(f"{role}: {', '.join(holders(asked_keys(ceremony, role)))}" for role in ceremony.documents),
        )
    return signed


def progress(ceremony: Ceremony) -> Iterator[tuple[str, Signatures]]:
    """(role, signatures) for every threshold that must be met."""
    for role, metadata in ceremony.documents.items():
        for item in ceremony.asked(role):
            if item.needed:
                yield role, signatures_of(item.delegator, role, metadata)


def require_signed(ceremony: Ceremony) -> None:
    """Raises VerificationError: how many signatures are missing, and whose."""
    open_ones = [threshold_message(role, found) for role, found in progress(ceremony) if found.missing]
    if open_ones:
        hint = "edgeseal repo sign FILE --key KEY, by the holders named"
        raise VerificationError("; ".join(dict.fromkeys(open_ones)), hint=hint)


def merge(ceremony: Ceremony, other: Ceremony, *, place: Place) -> Ceremony:
    """With the valid signatures of both. place: of `other`. Raises VerificationError when it is another ceremony."""
    if _unsigned(other) != _unsigned(ceremony):
        raise VerificationError("this is not the ceremony that is staged here", place=place)
    documents = {}
    for role, metadata in ceremony.documents.items():
        documents[role] = copy.deepcopy(metadata)
        documents[role].signatures |= other.documents[role].signatures
    return _without_strangers(dataclasses.replace(ceremony, documents=documents))


def require_current(ceremony: Ceremony, repository: Repository | None, *, place: Place) -> None:
    """Raises VerificationError when it is about another repository, or about a state that is past."""
    if ceremony.identity != (repository.identity if repository else None):
        raise VerificationError("this ceremony is for another repository", place=place)
    for role in (ROOT, TARGETS, *ceremony.documents):
        now = _version(repository.metadata(role) if repository else None)
        then = _version(ceremony.before(role))
        if now != then:
            message = f"this ceremony is past: {role} is at version {now}, it begins at {then}"
            raise VerificationError(
                message, place=place, hint="drop it and stage it again: edgeseal repo publish --drop"
            )


def _version(metadata: Metadata[Any] | None) -> int:
    found: int = metadata.signed.version if metadata else 0
    return found


def change_of(ceremony: Ceremony) -> Change:
    """What `apply` takes."""
    delegated = {role: item for role, item in ceremony.documents.items() if role not in (ROOT, TARGETS)}
    root, targets = ceremony.documents.get(ROOT), ceremony.documents.get(TARGETS)
    return Change(root=root, targets=targets, delegated=delegated, files=ceremony.files)


def encode_ceremony(ceremony: Ceremony) -> bytes:
    """The canonical bytes."""
    return canonical_json(
        {
            "schema": 1,
            "kind": "edgeseal-ceremony",
            "title": ceremony.title,
            "roots": [root.to_dict() for root in ceremony.roots],
            "base": {role: metadata.to_dict() for role, metadata in ceremony.base.items()},
            "documents": {role: metadata.to_dict() for role, metadata in ceremony.documents.items()},
            "files": {path: data.decode() for path, data in ceremony.files.items()},
        }
    )


def decode_ceremony(data: bytes, *, place: Place) -> Ceremony:
    """Strictly, and verified: see the module. Raises DecodeError or VerificationError, with the place."""
    if len(data) > MAX_CEREMONY_BYTES:
        raise DecodeError(f"{_NOT}: {len(data)} bytes, at most {MAX_CEREMONY_BYTES} are allowed", place=place)
    try:
        file = msgspec.json.decode(data, type=_File)
        ceremony = Ceremony(
            file.title,
            tuple(_metadata(item, Root) for item in file.roots),
            {role: _metadata(item, Targets) for role, item in file.base.items()},
            {role: _metadata(item, Root if role == ROOT else Targets) for role, item in file.documents.items()},
            {path: text.encode() for path, text in file.files.items()},
        )
    except (
        msgspec.MsgspecError,
        UnicodeError,
        RepositoryError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
    ) as error:
        raise DecodeError(f"{_NOT}: {error}", place=place) from error
    if encode_ceremony(ceremony) != data:
        raise DecodeError(f"{_NOT}: not in canonical form", place=place)
    try:
        _verify(ceremony)
    except VerificationError as error:
        raise VerificationError(f"{_NOT} that can be trusted: {error.message}", place=place) from error
    return ceremony


def _metadata(value: dict[str, Any], kind: type[Any]) -> Metadata[Any]:
    metadata: Metadata[Any] = Metadata.from_dict(copy.deepcopy(value))
    if not isinstance(metadata.signed, kind):
        raise ValueError(f"metadata of type {metadata.signed.type}, not {kind.type}")
    return metadata


def _verify(ceremony: Ceremony) -> None:
    """What is said to be in force is: every root by the one before it, and the rest by the newest."""
    if not ceremony.documents or (not ceremony.roots and {ROOT, TARGETS} - set(ceremony.documents)):
        raise VerificationError("there is nothing to be signed")
    for number, root in enumerate(ceremony.roots, start=1):
        if root.signed.version != number:
            raise VerificationError(f"root {number} is missing")
        require_threshold(ceremony.roots[max(0, number - 2)].signed, ROOT, root)
        require_threshold(root.signed, ROOT, root)
    if ceremony.roots:
        if TARGETS not in ceremony.base:
            raise VerificationError("there are no targets in force")
        require_threshold(ceremony.roots[-1].signed, TARGETS, ceremony.base[TARGETS])
    for role, metadata in ceremony.base.items():
        if role != TARGETS:
            require_threshold(ceremony.base[TARGETS].signed, role, metadata)
    for role, metadata in ceremony.documents.items():
        before = ceremony.before(role)
        if metadata.signed.version != (before.signed.version + 1 if before else 1):
            raise VerificationError(f"{role}: version {metadata.signed.version} is not the next one")
        for item in ceremony.asked(role):
            role_keys(item.delegator, role)
    _verify_files(ceremony)


def _verify_files(ceremony: Ceremony) -> None:
    """The bytes of every target that is new, and nothing else."""
    needed = set()
    for role, metadata in ceremony.documents.items():
        if not isinstance(metadata.signed, Targets):
            continue
        before = ceremony.before(role)
        known = {path: item.hashes for path, item in before.signed.targets.items()} if before else {}
        for path, target in metadata.signed.targets.items():
            if target.hashes == known.get(path):
                continue
            needed.add(path)
            data = ceremony.files.get(path)
            if (
                data is None
                or target.hashes != {"sha256": hashlib.sha256(data).hexdigest()}
                or target.length != len(data)
            ):
                raise VerificationError(f"the bytes of {path} are not the ones to be signed")
    if extra := sorted(set(ceremony.files) - needed):
        raise VerificationError(f"nothing to be signed names {extra[0]}")


def asked_keys(ceremony: Ceremony, *roles: str) -> list[Key]:
    """All keys that are asked to sign these documents; by default any."""
    keys: dict[str, Key] = {}
    for role in roles or ceremony.documents:
        for item in ceremony.asked(role):
            keys |= {key.keyid: key for key in role_keys(item.delegator, role).keys}
    return list(keys.values())


def _unsigned(ceremony: Ceremony) -> Any:
    documents = {role: metadata.signed.to_dict() for role, metadata in ceremony.documents.items()}
    return ceremony.title, ceremony.identity, documents, ceremony.files


def _without_strangers(ceremony: Ceremony) -> Ceremony:
    """Signatures that nobody asked for, or that do not verify, are dropped: a repository has none."""
    for role, metadata in ceremony.documents.items():
        keys = {key.keyid: key for key in asked_keys(ceremony, role)}
        payload = metadata.signed_bytes
        for keyid in list(metadata.signatures):
            if keyid not in keys or not _verifies(keys[keyid], metadata, payload):
                del metadata.signatures[keyid]
    return ceremony


def _verifies(key: Key, metadata: Metadata[Any], payload: bytes) -> bool:
    try:
        key.verify_signature(metadata.signatures[key.keyid], payload)
    except Exception:
        return False
    return True
