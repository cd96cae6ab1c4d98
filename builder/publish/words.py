"""What would be signed, in words. Computed from the ceremony alone, by whoever holds the file. Pure.

One line per fact, the role's name first; what appears has a `+`, what disappears a `-`, what changes a `~`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from tuf.api.metadata import Key, Metadata, Root, Targets

from appliance.formats.model_release import decode_model_release
from appliance.formats.release import decode_release
from builder.publish.ceremony import Ceremony, progress
from builder.publish.keys import holder_of, is_development
from builder.publish.repository import root_is_development
from builder.publish.roles import TOP_LEVEL, RoleKeys, days_left, role_keys

Reader = Callable[[bytes], str]
"""One line about a target's bytes. Raises EdgesealError when they are not what it reads."""


def describe(ceremony: Ceremony, *, now: datetime, readers: Mapping[str, Reader] | None = None) -> list[str]:
    """Every fact of what would be signed. readers: by the beginning of a target's path; the vendor's by default."""
    words = _Words(ceremony, readers if readers is not None else VENDOR_READERS)
    lines = [ceremony.title, f"repository {(ceremony.identity or 'new')[:16]}{_mark(ceremony)}"]
    for role, metadata in ceremony.documents.items():
        lines += words.document(role, metadata, now)
    return [_plain(line) for line in lines]


def signature_lines(ceremony: Ceremony) -> list[str]:
    """Who has signed, who has not, per threshold."""
    return [
        f"{role}: {len(found.signed)} of {found.threshold} signatures"
        + (f", signed by {', '.join(found.signed)}" if found.signed else "")
        + (f"; {found.missing} missing, not signed: {', '.join(found.unsigned)}" if found.missing else "")
        for role, found in progress(ceremony)
    ]


def release_line(data: bytes) -> str:
    """Of a release manifest."""
    release = decode_release(data)
    kind = "DEVELOPMENT" if release.development else "release"
    built = datetime.fromtimestamp(release.built, UTC)
    return (
        f"{release.product} {release.version}, {kind}, {release.profile} for {release.architecture}, security epoch "
        f"{release.security_epoch}, root hash {release.root.root_hash}, UKI {release.uki.sha256}, built "
        f"{built:%Y-%m-%d %H:%M:%S} UTC, for devices from version {release.oldest} on"
    )


def model_line(data: bytes) -> str:
    """Of a model manifest."""
    release = decode_model_release(data)
    card, kind = release.card, "DEVELOPMENT" if release.development else "release"
    built = datetime.fromtimestamp(release.built, UTC)
    devices = ", ".join(f"{item.product} from version {item.oldest} on" for item in release.products)
    labels = ", ".join(card.labels[:_NAMED]) + (f" and {len(card.labels) - _NAMED} more" * (len(card.labels) > _NAMED))
    return (
        f"model {release.model} {release.version}, {kind}, {card.bytes} bytes, sha256 {card.sha256}, labels {labels}; "
        f"frames scaled to {card.resize_short}, cut to {card.crop}, {card.channel_order}, mean "
        f"{_ppm(card.mean_ppm)}, deviation {_ppm(card.std_ppm)}; from {card.source}, licence {card.licence}, built "
        f"{built:%Y-%m-%d %H:%M:%S} UTC, for {devices}"
    )


VENDOR_READERS: Mapping[str, Reader] = {"firmware/": release_line, "models/": model_line}


_NAMED = 32  # labels that are told one by one


class _Words:
    def __init__(self, ceremony: Ceremony, readers: Mapping[str, Reader]) -> None:
        self._ceremony = ceremony
        self._readers = readers

    def document(self, role: str, metadata: Metadata[Any], now: datetime) -> Iterator[str]:
        """All lines of one role."""
        before = self._ceremony.before(role)
        versions = f"{before.signed.version} -> {metadata.signed.version}" if before else f"{metadata.signed.version}"
        until = f"holds until {metadata.signed.expires:%Y-%m-%d} ({days_left(metadata.signed, now)} days)"
        old = before.signed if before else None
        facts = [f"version {versions}, {until}"]
        if isinstance(metadata.signed, Root):
            facts += _root_facts(old, metadata.signed)
        else:
            facts += _delegation_facts(old, metadata.signed)
            facts += self._target_facts(old, metadata.signed)
        yield from (f"{role}: {fact}" for fact in facts)

    def _target_facts(self, old: Targets | None, new: Targets) -> Iterator[str]:
        before = old.targets if old else {}
        for path in sorted(before.keys() | new.targets.keys()):
            if path not in new.targets:
                yield f"- {path}"
            elif path not in before:
                twin = _twin(path, new.targets) if path.endswith("/latest.json") else None
                yield f"+ {path}: {twin or self._target(path)}"
            elif new.targets[path].hashes != before[path].hashes:
                was, now = _twin(path, before), _twin(path, new.targets)
                yield f"~ {path}: {f'was {was}, now ' if was else ''}{now or self._target(path)}"

    def _target(self, path: str) -> str:
        data = self._ceremony.files[path]
        reader = next((reader for prefix, reader in self._readers.items() if path.startswith(prefix)), None)
        if reader is None:
            return f"{len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}"
        return reader(data)


def _ppm(values: tuple[int, int, int]) -> str:
    return "/".join(f"{value / 1_000_000:.6g}" for value in values)


def _plain(line: str) -> str:
    """What a terminal would obey, or show in another order, as an escape."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in line
    )


def _twin(path: str, targets: Mapping[str, Any]) -> str | None:
    """The other path with the same bytes: what `latest` stands for. Its own line says what they are."""
    hashes = targets[path].hashes
    return next((name for name in sorted(targets) if name != path and targets[name].hashes == hashes), None)


def _root_facts(old: Root | None, new: Root) -> Iterator[str]:
    if root_is_development(new):
        yield "DEVELOPMENT keys: nothing that they sign is a release"
    for role in TOP_LEVEL:
        wanted = role_keys(new, role)
        yield from _key_facts(f"keys of {role}", role_keys(old, role) if old else None, wanted)


def _delegation_facts(old: Targets | None, new: Targets) -> Iterator[str]:
    before = _delegations(old)
    after = _delegations(new)
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            yield f"- delegation {name}"
            continue
        wanted = role_keys(new, name)
        if name not in before:
            yield f"+ delegation {name} for {', '.join(after[name].paths or ())}"
            yield from _key_facts(f"keys of {name}", None, wanted)
            continue
        assert old is not None
        if before[name].paths != after[name].paths:
            yield f"~ delegation {name} for {', '.join(after[name].paths or ())}"
        yield from _key_facts(f"keys of {name}", role_keys(old, name), wanted)


def _delegations(targets: Targets | None) -> Mapping[str, Any]:
    return (targets.delegations.roles or {}) if targets is not None and targets.delegations is not None else {}


def _key_facts(what: str, old: RoleKeys | None, new: RoleKeys) -> Iterator[str]:
    if old is None:
        yield f"{what}: {new.threshold} of {', '.join(_called(key) for key in _sorted(new))}"
        return
    if old.threshold != new.threshold:
        yield f"~ {what}: threshold {old.threshold} -> {new.threshold}"
    for key in _sorted(old):
        if key.keyid not in new.ids:
            yield f"- {what}: {_called(key)}"
    for key in _sorted(new):
        if key.keyid not in old.ids:
            yield f"+ {what}: {_called(key)}"


def _sorted(keys: RoleKeys) -> list[Key]:
    return sorted(keys.keys, key=lambda key: (holder_of(key), key.keyid))


def _called(key: Key) -> str:
    return f"{holder_of(key)} ({key.keyid[:16]}{', DEVELOPMENT' if is_development(key) else ''})"


def _mark(ceremony: Ceremony) -> str:
    return ", DEVELOPMENT" if root_is_development(ceremony.root) else ""
