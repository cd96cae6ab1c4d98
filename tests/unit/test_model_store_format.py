"""What a device says of its stored models: vectors, and every refusal with its exact message."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from appliance.core.canonical import canonical_json
from appliance.core.errors import DecodeError
from appliance.formats.approval import UtcOffset, Window
from appliance.formats.model_store import (
    MAX_MODEL_FILE_BYTES,
    CurrentModel,
    PendingModel,
    StoredModel,
    decode_current,
    decode_pending,
    encode_current,
    encode_pending,
)
from builder.host.paths import source_root

VECTORS = json.loads((source_root() / "tests/vectors/model-store.json").read_text())
CURRENT, PENDING = (VECTORS[kind][0]["canonical"].encode() for kind in ("current", "pending"))
PAGE = (source_root() / "docs/specs/model-store.md").read_text()
Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize("vector", VECTORS["current"], ids=lambda vector: vector["name"])
def test_the_vectors_of_what_is_current(vector: dict[str, Any]) -> None:
    value = decode_current(vector["canonical"].encode())
    assert value == msgspec.convert(vector["value"], CurrentModel, strict=True)
    assert encode_current(value).decode() == vector["canonical"]


@pytest.mark.parametrize("vector", VECTORS["pending"], ids=lambda vector: vector["name"])
def test_the_vectors_of_what_is_on_its_way(vector: dict[str, Any]) -> None:
    value = decode_pending(vector["canonical"].encode())
    assert value == msgspec.convert(vector["value"], PendingModel, strict=True)
    assert encode_pending(value).decode() == vector["canonical"]


@pytest.mark.parametrize(("number", "data"), [(1, CURRENT), (2, PENDING)])
def test_the_page_shows_the_vectors(number: int, data: bytes) -> None:
    example = PAGE.split("```json\n")[number].split("```")[0]
    assert "".join(line.strip() for line in example.splitlines()).encode() + b"\n" == data


def test_the_page_has_a_row_for_every_key_and_no_other() -> None:
    table = PAGE.split("## Keys\n")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    rows = {name for cell in cells for name in re.findall("`(.+?)`", cell)}
    keys = set(CurrentModel.__struct_fields__) | set(PendingModel.__struct_fields__)
    assert rows == keys | {f"current.{name}" for name in StoredModel.__struct_fields__}


def edited(data: bytes, change: Change) -> bytes:
    value = json.loads(data)
    change(value)
    return canonical_json(value)


def test_the_fullest_that_the_service_can_make_is_read_again() -> None:
    days = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    windows = tuple(Window(days=days, start_min=1439, minutes=10_080) for _ in range(32))  # type: ignore[arg-type]
    offsets = tuple(UtcOffset(since=2**40 - number, seconds=-50_400) for number in range(128, 0, -1))
    full = msgspec.structs.replace(decode_pending(PENDING), windows=windows, offsets=offsets, version=2**31 - 1)
    data = encode_pending(full)
    assert len(data) < MAX_MODEL_FILE_BYTES
    assert decode_pending(data) == full


REFUSED: list[tuple[bytes, str]] = [
    (b"", "Input data was truncated"),
    (CURRENT[:-1], "not in canonical form"),
    (CURRENT.replace(b":", b": ", 1), "not in canonical form"),
    (b" " * (MAX_MODEL_FILE_BYTES + 1), "65537 bytes, at most 65536 are allowed"),
    (edited(CURRENT, lambda value: value.pop("previous")), "not in canonical form"),
    (edited(CURRENT, lambda value: value.update(current=None)), "Expected `object`, got `null` - at `$.current`"),
    (edited(CURRENT, lambda value: value.update(schema=2)), "Invalid enum value 2 - at `$.schema`"),
    (edited(CURRENT, lambda value: value.update(next=3)), "Object contains unknown field `next`"),
    (edited(CURRENT, lambda value: value["current"].update(version=0)), "Expected `int` >= 1 - at `$.current.version`"),
    (edited(CURRENT, lambda value: value["previous"].update(version=3)), "previous is not below current"),
]


@pytest.mark.parametrize(("data", "said"), REFUSED, ids=[f"{n}-{row[1]}" for n, row in enumerate(REFUSED)])
def test_what_does_not_say_what_is_current(data: bytes, said: str) -> None:
    with pytest.raises(DecodeError) as refusal:
        decode_current(data)
    assert str(refusal.value) == f"current model: {said}"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda value: value.pop("release"), "Object missing required field `release`"),
        (lambda value: value.update(step="decided"), "Object contains unknown field `step`"),
        (
            lambda value: value.update(transaction="x"),
            "Expected `str` matching regex '^[0-9a-f]{16}(?!\\\\n)$' - at `$.transaction`",
        ),
        (lambda value: value.update(clock="ntp"), "Invalid enum value 'ntp' - at `$.clock`"),
        (
            lambda value: value.update(windows=value["windows"] * 33),
            "Expected `array` of length <= 32 - at `$.windows`",
        ),
    ],
    ids=["no release", "unknown key", "transaction", "clock", "windows"],
)
def test_what_is_not_on_its_way(change: Change, said: str) -> None:
    with pytest.raises(DecodeError) as refusal:
        decode_pending(edited(PENDING, change))
    assert str(refusal.value) == f"pending model: {said}"


@pytest.mark.parametrize("data", [CURRENT, PENDING], ids=["current", "pending"])
def test_a_file_that_was_cut_off_anywhere_is_refused(data: bytes) -> None:
    decode = decode_current if data is CURRENT else decode_pending
    for length in range(len(data)):
        with pytest.raises(DecodeError):
            decode(data[:length])
