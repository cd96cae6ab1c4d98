"""The label of a removable medium that carries updates. Spec: docs/specs/bundle.md (v1).

EDGESEAL/bundle.json says that there is a bundle, and what people may expect of it. No device believes it: what counts
is signed, below EDGESEAL/vendor and EDGESEAL/site. Canonical JSON.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec

from appliance.core.canonical import canonical_json
from appliance.core.errors import DecodeError
from appliance.formats.device import FrozenStruct, Identifier
from appliance.formats.release import Version

BUNDLE_DIRECTORY = "EDGESEAL"
BUNDLE_LABEL = "bundle.json"
MAX_BUNDLE_BYTES = 64 << 10
MAX_FILE_BYTES = 2**32 - 1
"""FAT has no larger files."""
MAX_PATH_PARTS = 8

RepositoryName = Literal["vendor", "site"]
REPOSITORIES: tuple[RepositoryName, ...] = ("vendor", "site")

_PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


class CarriedModel(FrozenStruct, frozen=True, kw_only=True):
    """versions: whose content is on the medium, ascending."""

    model: Identifier
    versions: Annotated[tuple[Version, ...], msgspec.Meta(min_length=1, max_length=256)]


class CarriedProduct(FrozenStruct, frozen=True, kw_only=True):
    """versions: whose content is on the medium, ascending. models: of the product, likewise, by name."""

    product: Identifier
    policy_sequence: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
    versions: Annotated[tuple[Version, ...], msgspec.Meta(max_length=256)]
    models: Annotated[tuple[CarriedModel, ...], msgspec.Meta(max_length=256)] = ()


class Bundle(FrozenStruct, frozen=True, kw_only=True):
    """What a medium carries.

    signed_at: the newest time that its metadata vouches for, Unix seconds. files, bytes: without this label.
    """

    schema: Literal[1] = 1
    site: Identifier
    signed_at: Annotated[int, msgspec.Meta(ge=0, le=2**40)]
    products: Annotated[tuple[CarriedProduct, ...], msgspec.Meta(max_length=256)]
    files: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
    bytes: Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]


def encode_bundle(bundle: Bundle) -> bytes:
    """The canonical bytes. Raises DecodeError when a bound does not hold."""
    names = [item.product for item in bundle.products]
    if names != sorted(set(names)):
        raise DecodeError("bundle: products are not in ascending order")
    for item in bundle.products:
        if list(item.versions) != sorted(set(item.versions)):
            raise DecodeError(f"bundle: the versions of {item.product} are not in ascending order")
        models = [model.model for model in item.models]
        if models != sorted(set(models)):
            raise DecodeError(f"bundle: the models of {item.product} are not in ascending order")
        for model in item.models:
            if list(model.versions) != sorted(set(model.versions)):
                raise DecodeError(f"bundle: the versions of model {model.model} are not in ascending order")
    data = canonical_json(msgspec.to_builtins(bundle))
    if len(data) > MAX_BUNDLE_BYTES:
        raise DecodeError(f"bundle: {len(data)} bytes, at most {MAX_BUNDLE_BYTES} are allowed")
    return data


def decode_bundle(data: bytes) -> Bundle:
    """Raises DecodeError on anything but exactly the canonical bytes of a Bundle."""
    if len(data) > MAX_BUNDLE_BYTES:
        raise DecodeError(f"bundle: {len(data)} bytes, at most {MAX_BUNDLE_BYTES} are allowed")
    try:
        bundle = msgspec.json.decode(data, type=Bundle)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DecodeError(f"bundle: {error}") from error
    if encode_bundle(bundle) != data:
        raise DecodeError("bundle: not in canonical form")
    return bundle


def path_parts(path: str) -> tuple[str, ...]:
    """The parts of a path below a repository, each a name that every file system takes.

    Raises DecodeError on any other: `..`, an empty or hidden part, other characters, a name that Windows keeps.
    """
    parts = tuple(path.split("/"))
    if len(parts) > MAX_PATH_PARTS or not all(_is_safe(part) for part in parts):
        raise DecodeError(f"bundle: no path of a repository: {path[:200]!r}")
    return parts


def _is_safe(part: str) -> bool:
    return bool(_PART.fullmatch(part)) and not part.endswith(".") and not _RESERVED.fullmatch(part)
