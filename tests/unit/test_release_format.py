"""The release manifest: the vectors, and every refusal with its exact message."""

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
from appliance.formats.device import Identifier, ProfileName, Sha256Hex
from appliance.formats.release import (
    MAX_RELEASE_BYTES,
    Content,
    decode_release,
    encode_release,
    latest_path,
    release_path,
)

VECTORS = json.loads((Path(__file__).parent.parent / "vectors/release-manifest.json").read_text())
GOOD = VECTORS["manifests"][0]["canonical"].encode()


@pytest.mark.parametrize("vector", VECTORS["manifests"], ids=lambda vector: vector["path"])
def test_the_vectors(vector: dict[str, str]) -> None:
    release = decode_release(vector["canonical"].encode())
    assert encode_release(release) == vector["canonical"].encode()
    assert release_path(release.product, release.version) == vector["path"]
    assert latest_path(release.product) == f"firmware/{release.product}/latest.json"


def test_the_path_of_content() -> None:
    assert Content(sha256=VECTORS["content"]["sha256"], size=1).path == VECTORS["content"]["path"]


def _edit(change: Callable[[dict[str, Any]], object]) -> bytes:
    value = json.loads(GOOD)
    change(value)
    return canonical_json(value)


REFUSED = [
    (b"", "Input data was truncated"),
    (GOOD[:-1], "not in canonical form"),
    (GOOD + b"\n", "not in canonical form"),
    (GOOD.replace(b'":', b'": ', 1), "not in canonical form"),
    (GOOD.replace(b'"version":8', b'"version":7,"version":8'), "not in canonical form"),
    (b" " * (MAX_RELEASE_BYTES + 1), f"{MAX_RELEASE_BYTES + 1} bytes, at most {MAX_RELEASE_BYTES} are allowed"),
    (_edit(lambda value: value.update(more=1)), "Object contains unknown field `more`"),
    (_edit(lambda value: value.pop("uki")), "Object missing required field `uki`"),
    (_edit(lambda value: value.pop("oldest")), "not in canonical form"),
    (_edit(lambda value: value.update(schema=2)), "Invalid enum value 2 - at `$.schema`"),
    (_edit(lambda value: value.update(kind="model")), "Invalid enum value 'model' - at `$.kind`"),
    (_edit(lambda value: value.update(version=0)), "Expected `int` >= 1 - at `$.version`"),
    (_edit(lambda value: value.update(version="8")), "Expected `int`, got `str` - at `$.version`"),
    (_edit(lambda value: value.update(security_epoch=-1)), "Expected `int` >= 0 - at `$.security_epoch`"),
    (_edit(lambda value: value.update(architecture="mips")), "Invalid enum value 'mips' - at `$.architecture`"),
    (
        _edit(lambda value: value.update(product="Line")),
        "Expected `str` matching regex '^[a-z][a-z0-9-]{0,62}(?!\\\\n)$' - at `$.product`",
    ),
    (_edit(lambda value: value.update(oldest=9)), "oldest is above version"),
    (_edit(lambda value: value["root"].update(size=4097)), "root.size is not a multiple of 4096"),
    (_edit(lambda value: value["root"].update(hash_size=1)), "root.hash_size is not a multiple of 4096"),
    (
        _edit(lambda value: value["root"].update(root_hash="5F" * 32)),
        "Expected `str` matching regex '^[0-9a-f]{64}(?!\\\\n)$' - at `$.root.root_hash`",
    ),
    (
        _edit(lambda value: value["root"].update(salt="abc")),
        "Expected `str` matching regex '^([0-9a-f]{2}){0,256}(?!\\\\n)$' - at `$.root.salt`",
    ),
    (_edit(lambda value: value["delta"]["frames"].update(size=0)), "Expected `int` >= 1 - at `$.delta.frames.size`"),
    (_edit(lambda value: value["uki"].update(size=2**40 + 1)), "Expected `int` <= 1099511627776 - at `$.uki.size`"),
]


@pytest.mark.parametrize(("data", "message"), REFUSED, ids=[row[1] for row in REFUSED])
def test_refusals(data: bytes, message: str) -> None:
    with pytest.raises(DecodeError) as refused:
        decode_release(data)
    assert str(refused.value) == f"release manifest: {message}"


def test_what_does_not_fit_is_not_written() -> None:
    release = msgspec.structs.replace(decode_release(GOOD), oldest=9)
    with pytest.raises(DecodeError, match=r"^release manifest: oldest is above version$"):
        encode_release(release)


@given(st.binary(max_size=300) | st.tuples(st.integers(0, len(GOOD) - 1), st.integers(1, 255)))
def test_one_encoding_only(edit: bytes | tuple[int, int]) -> None:
    """Whatever is decoded is exactly what would be written."""
    if isinstance(edit, tuple):
        data = bytearray(GOOD)
        data[edit[0]] ^= edit[1]
        edit = bytes(data)
    with contextlib.suppress(DecodeError):
        assert encode_release(decode_release(edit)) == edit


def test_a_name_with_a_line_break_behind_it_is_no_name() -> None:
    """`$` alone would take it: it also matches before a final line break."""
    for value, kind in (("plant-4\n", Identifier), ("ab" * 32 + "\n", Sha256Hex), ("virtual\n", ProfileName)):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(value, kind)
