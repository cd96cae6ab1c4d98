"""The model manifest: the vectors, and every refusal with its exact message."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.core.canonical import canonical_json
from appliance.core.errors import DecodeError
from appliance.formats.model_release import (
    MAX_MODEL_RELEASE_BYTES,
    ModelRelease,
    RunsOn,
    decode_model_release,
    encode_model_release,
    latest_model_path,
    model_path,
)
from builder.host.paths import source_root

VECTORS = json.loads((Path(__file__).parent.parent / "vectors/model-manifest.json").read_text())
GOOD = VECTORS["manifests"][0]["canonical"].encode()


@pytest.mark.parametrize("vector", VECTORS["manifests"], ids=lambda vector: vector["path"])
def test_the_vectors(vector: dict[str, str]) -> None:
    release = decode_model_release(vector["canonical"].encode())
    assert encode_model_release(release) == vector["canonical"].encode()
    assert model_path(release.model, release.version) == vector["path"]
    assert latest_model_path(release.model) == f"models/{release.model}/latest.json"


def test_the_page_shows_the_first_vector_and_has_a_row_for_every_key() -> None:
    page = (source_root() / VECTORS["spec"]).read_text()
    example = page.split("```json\n")[1].split("```")[0]
    shown = json.loads("".join(line.strip() for line in example.splitlines()).replace("…", ""))
    assert sorted(shown) == sorted(ModelRelease.__struct_fields__)
    rows = {line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| `")}
    said = {name.strip(" `") for row in rows for name in row.split(",")}
    wanted = set(ModelRelease.__struct_fields__) - {"products"}
    assert said == wanted | {f"products[].{name}" for name in RunsOn.__struct_fields__}


def test_which_products_may_run_it() -> None:
    release = decode_model_release(GOOD)
    assert release.for_product("label-check") == RunsOn(product="label-check", oldest=7)
    assert release.for_product("label") is None


def _edit(change: Callable[[dict[str, Any]], object]) -> bytes:
    value = json.loads(GOOD)
    change(value)
    return canonical_json(value)


NAME = "Expected `str` matching regex '^[a-z][a-z0-9-]{0,62}(?!\\\\n)$'"
PRODUCTS = [{"oldest": 1, "product": "b"}, {"oldest": 1, "product": "a"}]
REFUSED = [
    (b"", "Input data was truncated"),
    (b"\xff", "JSON is malformed: invalid character (byte 0)"),
    (GOOD[:-1], "not in canonical form"),
    (GOOD + b"\n", "not in canonical form"),
    (GOOD.replace(b'":', b'": ', 1), "not in canonical form"),
    (GOOD.replace(b'"version":3', b'"version":2,"version":3'), "not in canonical form"),
    (
        b" " * (MAX_MODEL_RELEASE_BYTES + 1),
        f"{MAX_MODEL_RELEASE_BYTES + 1} bytes, at most {MAX_MODEL_RELEASE_BYTES} are allowed",
    ),
    (_edit(lambda value: value.update(more=1)), "Object contains unknown field `more`"),
    (_edit(lambda value: value.pop("onnx")), "Object missing required field `onnx`"),
    (_edit(lambda value: value["products"][1].pop("oldest")), "not in canonical form"),
    (_edit(lambda value: value.update(schema=2)), "Invalid enum value 2 - at `$.schema`"),
    (_edit(lambda value: value.update(kind="firmware")), "Invalid enum value 'firmware' - at `$.kind`"),
    (_edit(lambda value: value.update(version=0)), "Expected `int` >= 1 - at `$.version`"),
    (_edit(lambda value: value.update(version="3")), "Expected `int`, got `str` - at `$.version`"),
    (_edit(lambda value: value.update(development=0)), "Expected `bool`, got `int` - at `$.development`"),
    (_edit(lambda value: value.update(built=2**40 + 1)), "Expected `int` <= 1099511627776 - at `$.built`"),
    (_edit(lambda value: value.update(model="../x")), f"{NAME} - at `$.model`"),
    (_edit(lambda value: value.update(products=[])), "Expected `array` of length >= 1 - at `$.products`"),
    (_edit(lambda value: value.update(products=PRODUCTS)), "products are not in ascending order"),
    (_edit(lambda value: value.update(products=PRODUCTS[:1] * 2)), "products are not in ascending order"),
    (_edit(lambda value: value["products"][0].update(product="A")), f"{NAME} - at `$.products[0].product`"),
    (_edit(lambda value: value["products"][0].update(oldest=0)), "Expected `int` >= 1 - at `$.products[0].oldest`"),
    (_edit(lambda value: value["onnx"].update(size=1)), "the card is of another file than onnx"),
    (_edit(lambda value: value["onnx"].update(sha256="02" * 32)), "the card is of another file than onnx"),
    (_edit(lambda value: value["card"].update(name="other")), "the card is of other, not of label-orientation"),
    (_edit(lambda value: value["card"].update(crop=300)), "model card: crop 300 is larger than resize_short 256"),
    (_edit(lambda value: value["card"].update(labels=["a", "a"])), "model card: two classes have the same label"),
    (_edit(lambda value: value["card"].update(schema=2)), "Invalid enum value 2 - at `$.card.schema`"),
]


@pytest.mark.parametrize(("data", "message"), REFUSED, ids=[f"{n}-{row[1]}" for n, row in enumerate(REFUSED)])
def test_refusals(data: bytes, message: str) -> None:
    with pytest.raises(DecodeError) as refused:
        decode_model_release(data)
    assert str(refused.value) == f"model manifest: {message}"


def test_what_does_not_fit_is_not_written() -> None:
    release = msgspec.structs.replace(decode_model_release(GOOD), model="other")
    with pytest.raises(DecodeError, match=r"^model manifest: the card is of label-orientation, not of other$"):
        encode_model_release(release)


def test_the_largest_card_has_room() -> None:
    """4096 labels of 63 characters are more than a card may have; what a card may have, a manifest may."""
    release = decode_model_release(GOOD)
    labels = tuple(f"{number:050}" for number in range(1200))
    card = msgspec.structs.replace(release.card, labels=labels)
    data = encode_model_release(msgspec.structs.replace(release, card=card))
    assert 60_000 < len(data) < MAX_MODEL_RELEASE_BYTES
    assert decode_model_release(data).card == card


@given(st.binary(max_size=300) | st.tuples(st.integers(0, len(GOOD) - 1), st.integers(1, 255)))
def test_one_encoding_only(edit: bytes | tuple[int, int]) -> None:
    """Whatever is decoded is exactly what would be written."""
    if isinstance(edit, tuple):
        data = bytearray(GOOD)
        data[edit[0]] ^= edit[1]
        edit = bytes(data)
    with contextlib.suppress(DecodeError):
        assert encode_model_release(decode_model_release(edit)) == edit
