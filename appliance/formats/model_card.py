"""What the device must know about a sealed model. Spec: docs/specs/verdict.md (model card, v1).

Path in the image: /usr/lib/edgeseal/models/NAME/model.json, beside model.onnx. Integers only: mean_ppm and std_ppm are
millionths, of a channel scaled to 0..1.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from appliance.core.canonical import canonical_json
from appliance.core.errors import DecodeError
from appliance.formats.device import FrozenStruct, Identifier, Sha256Hex

MODELS_DIRECTORY = "/usr/lib/edgeseal/models"
MODEL_FILE = "model.onnx"
CARD_FILE = "model.json"
MAX_CARD_BYTES = 64 << 10

Label = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._/+-]{0,62}(?!\n)$")]
Ppm = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
PositivePpm = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class ModelCard(FrozenStruct, frozen=True, kw_only=True):
    """One model: its bytes, by digest and size, and how a frame becomes its input.

    labels: class names in the order of the model's output.
    input_name: name of the one input, float32, shape (n, 3, crop, crop).
    resize_short, crop: the frame is scaled until its shorter side has resize_short pixels; the middle is cut out.
    mean_ppm, std_ppm: per channel, in channel_order.
    channel_order: in which order the model wants the channels; frames arrive as RGB.
    source, licence: where it came from (a wheel pin), and its SPDX licence.
    """

    schema: Literal[1] = 1
    name: Identifier
    sha256: Sha256Hex
    bytes: Annotated[int, msgspec.Meta(ge=1, le=1 << 31)]
    labels: Annotated[tuple[Label, ...], msgspec.Meta(min_length=2, max_length=4096)]
    input_name: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    resize_short: Annotated[int, msgspec.Meta(ge=16, le=4096)] = 256
    crop: Annotated[int, msgspec.Meta(ge=16, le=4096)] = 224
    mean_ppm: tuple[Ppm, Ppm, Ppm] = (485_000, 456_000, 406_000)
    std_ppm: tuple[PositivePpm, PositivePpm, PositivePpm] = (229_000, 224_000, 225_000)
    channel_order: Literal["rgb", "bgr"] = "bgr"
    source: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    licence: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]


def encode_model_card(card: ModelCard) -> bytes:
    """The canonical bytes of `card`."""
    return canonical_json(msgspec.to_builtins(card))


def decode_model_card(data: bytes) -> ModelCard:
    """Raises DecodeError on anything but the canonical bytes of a consistent ModelCard."""
    if len(data) > MAX_CARD_BYTES:
        raise DecodeError(f"model card: {len(data)} bytes, at most {MAX_CARD_BYTES} are allowed")
    try:
        card = msgspec.json.decode(data, type=ModelCard)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DecodeError(f"model card: {error}") from error
    if encode_model_card(card) != data:
        raise DecodeError("model card: not in canonical form")
    if len(set(card.labels)) != len(card.labels):
        raise DecodeError("model card: two classes have the same label")
    if card.crop > card.resize_short:
        raise DecodeError(f"model card: crop {card.crop} is larger than resize_short {card.resize_short}")
    return card
