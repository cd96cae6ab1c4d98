"""The shape checker and msgspec say yes to the same documents, and no document makes the loader crash."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from builder.profile.document import decode_document
from builder.profile.load import decode_profile
from builder.profile.problem import ProfileError
from builder.profile.shape import shape_findings
from builder.profile.types import Profile

TEXT = (Path(__file__).parent.parent / "unit" / "data" / "line-3.yaml").read_text()
GOOD = decode_document(TEXT.encode(), file="line-3.yaml").value

PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)
SCALARS = st.none() | st.booleans() | st.integers(-10, 10**7) | st.floats(allow_nan=False) | PRINTABLE
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(PRINTABLE, SCALARS, max_size=3)


def holders(value: Any) -> list[dict[str, Any] | list[Any]]:
    """Every mapping and list in `value`."""
    if isinstance(value, dict):
        return [value, *(found for item in value.values() for found in holders(item))]
    if isinstance(value, list):
        return [value, *(found for item in value for found in holders(item))]
    return []


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """A good profile with one to three values replaced, removed or added."""
    value = copy.deepcopy(GOOD)
    for _ in range(draw(st.integers(1, 3))):
        holder = draw(st.sampled_from(holders(value)))
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        match draw(st.sampled_from(["replace", "remove", "add"])) if keys else "add":
            case "replace":
                holder[draw(st.sampled_from(keys))] = draw(VALUES)
            case "remove":
                del holder[draw(st.sampled_from(keys))]
            case _ if isinstance(holder, dict):
                holder[draw(PRINTABLE)] = draw(VALUES)
            case _:
                holder.append(draw(VALUES))
    return value


@given(damaged())
def test_one_definition_of_the_shape(value: Any) -> None:
    try:
        msgspec.convert(value, Profile)
        right = True
    except msgspec.ValidationError:
        right = False
    assert right == (not list(shape_findings(value, Profile)))


@given(VALUES)
def test_any_value_at_the_top(value: Any) -> None:
    assert list(shape_findings(value, Profile))


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes(data: bytes) -> None:
    refused(data)


@given(st.integers(0, len(TEXT)), st.text(max_size=5), st.integers(0, 10))
def test_any_edit_of_a_good_profile(position: int, inserted: str, deleted: int) -> None:
    data = (TEXT[:position] + inserted + TEXT[position + deleted :]).encode(errors="replace")
    refused(data)


def refused(data: bytes) -> None:
    """Decoding ends in a profile or in problems that have places, whatever the bytes."""
    try:
        decode_profile(data, file="line-3.yaml", stem="line-3")
    except ProfileError as error:
        assert error.problems
        assert all(
            problem.place.file == "line-3.yaml" and problem.message and problem.hint for problem in error.problems
        )
