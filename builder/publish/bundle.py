"""A bundle: both repositories, as far as some products need them, as files for a removable medium.

Spec: docs/specs/bundle.md. What goes in was accepted by the device's own client; what is on a medium is verified by it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.core.durable import fsync_directory, write_durable
from appliance.core.errors import InputError, Place, VerificationError
from appliance.formats.approval import SitePolicy, policy_path
from appliance.formats.bundle import (
    BUNDLE_DIRECTORY,
    BUNDLE_LABEL,
    MAX_FILE_BYTES,
    REPOSITORIES,
    Bundle,
    CarriedModel,
    CarriedProduct,
    encode_bundle,
    path_parts,
)
from appliance.formats.release import Content
from builder.host.scratch import scratch_directory
from builder.publish.deviceview import FoundModel, FoundRelease, SeenRepository, label_of, wanted_targets
from builder.publish.release import contents


@dataclass(frozen=True)
class Pair:
    """The two repositories. Both are trusted from a root of their own on."""

    vendor: SeenRepository
    site: SeenRepository

    def refresh(self, *, now: int) -> dict[str, int]:
        """When the metadata of each lapses first. Raises RefusedError, TransportError."""
        return {"site": self.site.refresh(now=now).expires, "vendor": self.vendor.refresh(now=now).expires}

    def metadata(self) -> Iterator[tuple[str, bytes]]:
        """(path in a bundle, bytes)."""
        for name, seen in zip(REPOSITORIES, (self.vendor, self.site), strict=True):
            yield from ((f"{name}/{path}", data) for path, data in seen.metadata())


@dataclass(frozen=True)
class Carried:
    """What a bundle has of one product. missing: approved targets that the vendor does not have."""

    policy: SitePolicy
    policy_data: bytes
    releases: tuple[FoundRelease, ...]
    models: tuple[FoundModel, ...]
    missing: tuple[str, ...]

    def content(self) -> Iterator[tuple[str, Content]]:
        """(of what, a file that it names)."""
        for release in self.releases:
            what = f"{self.policy.product} {release.release.version}"
            yield from ((what, content) for content in contents(release.release))
        for model in self.models:
            yield f"model {model.release.model} {model.release.version}", model.release.onnx

    def targets(self) -> Iterator[tuple[str, bytes]]:
        """(path in a bundle, bytes)."""
        yield f"site/{_target_path(policy_path(self.policy.product), self.policy_data)}", self.policy_data
        found: tuple[FoundRelease | FoundModel, ...] = (*self.releases, *self.models)
        for item in found:
            yield f"vendor/{_target_path(item.target.path, item.data)}", item.data


@dataclass(frozen=True)
class Checked:
    """What a device finds. files: how many were read. lapses: per repository, Unix seconds."""

    label: Bundle
    carried: tuple[Carried, ...]
    files: int
    lapses: dict[str, int]


def create_bundle(target: Path, pair: Pair, products: Sequence[str], *, now: int) -> tuple[Bundle, list[str]]:
    """Write the new directory `target`. Returns its label, and the approved targets that the vendor does not have.

    products: all of the site when none is named. The same repositories give the same bytes. Raises InputError,
    RefusedError, TransportError; nothing is left then.
    """
    if target.exists():
        raise InputError("there is something already", place=Place(str(target)), hint="a new directory for each bundle")
    pair.refresh(now=now)
    carried = [_carried(pair, product) for product in sorted(set(products)) or pair.site.products()]
    with scratch_directory(target.absolute().parent, f".{target.name}.bundle-") as scratch:
        files = _Files(scratch / BUNDLE_DIRECTORY)
        for item in carried:
            _write_content(files, pair, item)
        for path, data in (*(found for item in carried for found in item.targets()), *pair.metadata()):
            files.write(path, [data])
        label = _label(carried, files=len(files.written), size=files.bytes)
        write_durable(scratch / BUNDLE_DIRECTORY / BUNDLE_LABEL, encode_bundle(label))
        target.mkdir()
        (scratch / BUNDLE_DIRECTORY).rename(target / BUNDLE_DIRECTORY)
        fsync_directory(target)
    return label, [path for item in carried for path in item.missing]


def verify_bundle(mount: Path, pair: Pair, *, now: int) -> Checked:
    """What a device finds on the medium `mount`, which `pair` reads; every byte is read.

    Raises what the device would, and VerificationError on a file that no bundle has, or a label that says more.
    """
    label = label_of(mount)
    lapses = pair.refresh(now=now)
    carried = tuple(_carried(pair, item.product) for item in label.products)
    named = {content for item in carried for _, content in item.content()}
    known: dict[str, bytes | None] = {f"vendor/{content.path}": None for content in named} | dict(pair.metadata())
    for item in carried:
        known |= dict(item.targets())
    size = _compare(mount, known)
    for content in sorted(named, key=lambda content: content.sha256):
        for _ in pair.vendor.content(content):
            pass
    if label != _label(carried, files=len(known), size=size):
        raise VerificationError("the label does not say what is on the medium", place=Place(str(mount)))
    return Checked(label, carried, len(known), lapses)


class _Files:
    """What is written into a bundle, each path once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.written: set[str] = set()
        self.bytes = 0

    def write(self, path: str, pieces: Iterable[bytes]) -> None:
        """Durable, mode 0644. Raises DecodeError when a file system might not take the name."""
        place = self._directory.joinpath(*path_parts(path))
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("xb") as stream:
            for piece in pieces:
                stream.write(piece)
            stream.flush()
            os.fchmod(stream.fileno(), 0o644)
            os.fsync(stream.fileno())
            self.bytes += stream.tell()
        self.written.add(path)


def _carried(pair: Pair, product: str) -> Carried:
    found = pair.site.policy(product)
    if found is None:
        hint = f"its products: {', '.join(pair.site.products())}"
        raise InputError(f"the site has no product {product}", place=Place(pair.site.where), hint=hint)
    policy, data = found
    releases, missing = [], []
    for path in wanted_targets(policy):
        release = pair.vendor.release(path)
        if release is None:
            missing.append(path)
            continue
        _require_approved(policy, release)
        releases.append(release)
    models, absent = pair.vendor.models_for(policy)
    for model in models:
        _require_approved(policy, model)
    return Carried(policy, data, tuple(releases), tuple(models), (*missing, *absent))


def _require_approved(policy: SitePolicy, seen: FoundRelease | FoundModel) -> None:
    """In a policy that follows its vendor nothing is approved by name."""
    found = (seen.target.sha256, seen.target.length)
    for approval in policy.approvals:
        wanted = (approval.sha256, approval.length)
        if approval.target == seen.target.path and wanted != found:
            raise VerificationError(
                f"{approval.target}: the site approved sha256 {wanted[0]} ({wanted[1]} bytes), "
                f"the vendor has sha256 {found[0]} ({found[1]} bytes)"
            )


def _write_content(files: _Files, pair: Pair, item: Carried) -> None:
    for what, content in item.content():
        path = f"vendor/{content.path}"
        if content.size > MAX_FILE_BYTES:
            raise InputError(
                f"{content.path} has {content.size} bytes, a file on a medium at most {MAX_FILE_BYTES}",
                hint=f"install {what} from the network",
            )
        if path not in files.written:
            files.write(path, pair.vendor.content(content))


def _target_path(path: str, data: bytes) -> str:
    directory, _, name = path.rpartition("/")
    return f"targets/{directory}/{hashlib.sha256(data).hexdigest()}.{name}"


def _label(carried: Sequence[Carried], *, files: int, size: int) -> Bundle:
    return Bundle(
        site=carried[0].policy.site,
        signed_at=_signed_at(carried),
        products=_products(carried),
        files=files,
        bytes=size,
    )


def _products(carried: Iterable[Carried]) -> tuple[CarriedProduct, ...]:
    return tuple(
        CarriedProduct(
            product=item.policy.product,
            policy_sequence=item.policy.sequence,
            versions=tuple(sorted({release.release.version for release in item.releases})),
            models=tuple(CarriedModel(model=name, versions=versions) for name, versions in model_versions(item)),
        )
        for item in carried
    )


def model_versions(item: Carried) -> list[tuple[str, tuple[int, ...]]]:
    """(name, versions) of the models that are carried, both ascending."""
    names = sorted({model.release.model for model in item.models})
    found = {name: {model.release.version for model in item.models if model.release.model == name} for name in names}
    return [(name, tuple(sorted(versions))) for name, versions in found.items()]


def _signed_at(carried: Iterable[Carried]) -> int:
    """The newest time that a signature vouches for: what a device takes for its T_low."""
    return max(
        time
        for item in carried
        for time in (item.policy.signed_at, *(release.release.built for release in item.releases))
    )


def _compare(mount: Path, known: Mapping[str, bytes | None]) -> int:
    """The bytes of all files. Raises VerificationError on one too many, one too few, and one that is not as accepted.

    A device does not miss its own root, nor the newest one of the vendor's; who checks a medium does.
    """
    base, size, left = mount / BUNDLE_DIRECTORY, 0, set(known)
    for path in sorted(base.rglob("*")):
        name = path.relative_to(base).as_posix()
        if path.is_symlink() or not (path.is_dir() or name in known or name == BUNDLE_LABEL):
            raise VerificationError("this is no file of the bundle", place=Place(str(path)))
        if name not in known:
            continue
        size += path.stat().st_size
        left.discard(name)
        data = known[name]
        if data is not None and path.read_bytes() != data:
            raise VerificationError("its bytes are not those that a device accepts", place=Place(str(path)))
    if left:
        raise VerificationError("this file of the bundle is missing", place=Place(str(base / min(left))))
    return size
