"""A model that is to be published: the ONNX file, held against the gate, and what people say of it.

The same gate as for a model that is sealed in (builder/model/gate.py), and it is loaded once (verify.py).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from appliance.core.errors import DecodeError, InputError, Place
from appliance.formats.device import FrozenStruct
from appliance.formats.model_card import (
    MAX_CARD_BYTES,
    Label,
    ModelCard,
    PositivePpm,
    Ppm,
    decode_model_card,
    encode_model_card,
)
from builder.model.card import MAX_MODEL_BYTES, check_labels
from builder.model.gate import Signature, inspect_model
from builder.model.verify import require_loads
from builder.publish.models import ModelFile


class Description(FrozenStruct, frozen=True, kw_only=True):
    """What an ONNX file cannot say of itself. Keys as in appliance.formats.model_card.ModelCard; none has a default.

    A wrong one is no error that anybody sees: the model would judge, and judge badly.
    """

    labels: tuple[Label, ...]
    resize_short: Annotated[int, msgspec.Meta(ge=16, le=4096)]
    mean_ppm: tuple[Ppm, Ppm, Ppm]
    std_ppm: tuple[PositivePpm, PositivePpm, PositivePpm]
    channel_order: Literal["rgb", "bgr"]
    source: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    licence: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]


def open_model(file: Path, description: Path, *, name: str) -> ModelFile:
    """Gate the model and load it once. Raises InputError, DecodeError, with the place; nothing is executed before."""
    said = _description(description)
    onnx = _read(file, limit=MAX_MODEL_BYTES)
    place = Place(str(file))
    try:
        signature = inspect_model(onnx)
        check_labels(said.labels, signature, who="the card")
        require_loads(onnx)
    except InputError as error:
        raise type(error)(error.message, hint=error.hint, place=place) from error
    return ModelFile(file, _card(name, onnx, said, signature, Place(str(description))))


def _card(name: str, onnx: bytes, said: Description, signature: Signature, place: Place) -> ModelCard:
    try:
        licence = canonicalize_license_expression(said.licence)
    except InvalidLicenseExpression as error:
        message = f"licence: `{said.licence}` is no SPDX expression"
        raise InputError(
            message, place=place, hint="for example Apache-2.0, or LicenseRef-NAME for your own"
        ) from error
    card = ModelCard(
        name=name,
        sha256=hashlib.sha256(onnx).hexdigest(),
        bytes=len(onnx),
        labels=said.labels,
        input_name=signature.input_name,
        resize_short=said.resize_short,
        crop=signature.crop,
        mean_ppm=said.mean_ppm,
        std_ppm=said.std_ppm,
        channel_order=said.channel_order,
        source=said.source,
        licence=licence,
    )
    try:
        return decode_model_card(encode_model_card(card))  # holds the bounds, which a constructor does not
    except DecodeError as error:
        raise InputError(error.message, place=place) from error


def _description(file: Path) -> Description:
    place = Place(str(file))
    try:
        return msgspec.json.decode(_read(file, limit=MAX_CARD_BYTES), type=Description)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        keys = ", ".join(Description.__struct_fields__)
        raise InputError(f"not a model's card: {error}", place=place, hint=f"JSON with the keys {keys}") from error


def _read(file: Path, *, limit: int) -> bytes:
    place = Place(str(file))
    try:
        size = file.stat().st_size
        if size > limit:
            raise InputError(f"{size} bytes, at most {limit} are allowed", place=place)
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read: {(error.strerror or str(error)).lower()}", place=place) from error
