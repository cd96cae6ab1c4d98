"""Model manifest: what one version of one model consists of. Spec: docs/specs/model-manifest.md (v1).

It is a TUF target, models/NAME/VERSION.json, signed by a role of its own; the model itself is named in it by hash.
Canonical JSON.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from appliance.core.canonical import canonical_json
from appliance.core.errors import DecodeError
from appliance.formats.device import FrozenStruct, Identifier
from appliance.formats.model_card import ModelCard, decode_model_card, encode_model_card
from appliance.formats.release import Content, Version

MAX_MODEL_RELEASE_BYTES = 128 << 10
MAX_PRODUCTS = 64


class RunsOn(FrozenStruct, frozen=True, kw_only=True):
    """A product that may run the model. oldest: the smallest version of its firmware that may."""

    product: Identifier
    oldest: Version = 1


class ModelRelease(FrozenStruct, frozen=True, kw_only=True):
    """One version of one model.

    version: strictly increasing per model. development: published with development keys.
    built: when it was published, Unix seconds; for people: a model raises no device's reference time.
    products: who may run it, by name. onnx: the model, of exactly the card's digest and size.
    """

    schema: Literal[1] = 1
    kind: Literal["model"] = "model"
    model: Identifier
    version: Version
    development: bool
    built: Annotated[int, msgspec.Meta(ge=0, le=2**40)]
    products: Annotated[tuple[RunsOn, ...], msgspec.Meta(min_length=1, max_length=MAX_PRODUCTS)]
    onnx: Content
    card: ModelCard

    def for_product(self, product: str) -> RunsOn | None:
        """What it says of that product; None when the product must not run it."""
        return next((item for item in self.products if item.product == product), None)


def model_path(name: str, version: int) -> str:
    """Path of the TUF target."""
    return f"models/{name}/{version}.json"


def latest_model_path(name: str) -> str:
    """Path of the TUF target that has the same bytes as the newest version's."""
    return f"models/{name}/latest.json"


def encode_model_release(release: ModelRelease) -> bytes:
    """The canonical bytes. Raises DecodeError when a bound between fields does not hold."""
    return canonical_json(msgspec.to_builtins(check_model_release(release)))


def decode_model_release(data: bytes) -> ModelRelease:
    """Raises DecodeError on anything but exactly the canonical bytes of one. `data` must be trusted already."""
    if len(data) > MAX_MODEL_RELEASE_BYTES:
        raise DecodeError(f"model manifest: {len(data)} bytes, at most {MAX_MODEL_RELEASE_BYTES} are allowed")
    try:
        release = msgspec.json.decode(data, type=ModelRelease)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DecodeError(f"model manifest: {error}") from error
    if encode_model_release(release) != data:
        raise DecodeError("model manifest: not in canonical form")
    return release


def check_model_release(release: ModelRelease) -> ModelRelease:
    """Bounds between fields. Raises DecodeError."""
    card, names = release.card, [item.product for item in release.products]
    if names != sorted(set(names)):
        raise DecodeError("model manifest: products are not in ascending order")
    if card.name != release.model:
        raise DecodeError(f"model manifest: the card is of {card.name}, not of {release.model}")
    if (card.sha256, card.bytes) != (release.onnx.sha256, release.onnx.size):
        raise DecodeError("model manifest: the card is of another file than onnx")
    try:
        decode_model_card(encode_model_card(card))
    except DecodeError as error:
        raise DecodeError(f"model manifest: {error.message}") from error
    return release
