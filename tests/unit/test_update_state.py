"""The memory of an update: vectors, what may change in it, and every refusal with its exact message."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.core.canonical import canonical_json
from appliance.core.errors import DecodeError
from appliance.formats.approval import UtcOffset, Window
from appliance.formats.update_state import (
    MAX_REFUSED,
    MAX_STATE_BYTES,
    Refused,
    Trial,
    UpdateState,
    decode_state,
    encode_state,
    with_epoch,
    with_refused,
    with_seen,
    with_step,
    with_trial,
)
from builder.host.paths import source_root

VECTORS = json.loads((source_root() / "tests/vectors/update-state.json").read_text())["states"]
NEW, UNDER_WAY, FELL_BACK = (vector["canonical"].encode() for vector in VECTORS)
RELEASE = "ab" * 32
TRIAL = Trial(
    transaction="0123456789abcdef",
    release=RELEASE,
    version=8,
    security_epoch=3,
    slot="b",
    step="decided",
    confirm="online",
    policy_sequence=12,
)


def edited(data: bytes, *path: str | int, **changes: object) -> bytes:
    """Canonical JSON with keys of the object at `path` changed."""
    value: Any = json.loads(data)
    place = value
    for step in path:
        place = place[step]
    place.update(changes)
    return canonical_json(value)


def without(data: bytes, *path: str) -> bytes:
    """Canonical JSON without one key."""
    value: Any = json.loads(data)
    place = value
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    return canonical_json(value)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_the_vectors(vector: dict[str, Any]) -> None:
    state = decode_state(vector["canonical"].encode())
    assert state == msgspec.convert(vector["value"], UpdateState, strict=True)
    assert encode_state(state).decode() == vector["canonical"]


def test_a_new_device_remembers_nothing() -> None:
    assert encode_state(UpdateState()) == NEW


def test_the_spec_page_shows_the_vector_of_an_update_that_is_under_way() -> None:
    page = (source_root() / "docs/specs/update-state.md").read_text()
    example = page.split("```json\n")[1].split("```")[0]
    assert "".join(line.strip() for line in example.splitlines()).encode() + b"\n" == UNDER_WAY


def test_the_spec_page_has_a_row_for_every_key_and_no_other() -> None:
    page = (source_root() / "docs/specs/update-state.md").read_text()
    table = page.split("## Keys\n")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    rows = [name for cell in cells for name in re.findall("`(.+?)`", cell)]
    keys = set(UpdateState.__struct_fields__)
    keys |= {f"trial.{name}" for name in Trial.__struct_fields__}
    keys |= {f"refused[].{name}" for name in Refused.__struct_fields__}
    assert sorted(rows) == sorted(keys)


def test_marks_never_fall() -> None:
    state = with_seen(UpdateState(), t_low=1_800_000_000, policy_sequence=12)
    state = with_seen(state, t_low=1_700_000_000, policy_sequence=13)
    assert (state.t_low, state.policy_sequence) == (1_800_000_000, 13)
    state = with_seen(state, t_low=1_900_000_000, policy_sequence=1)
    assert (state.t_low, state.policy_sequence) == (1_900_000_000, 13)
    assert with_epoch(with_epoch(state, 4), 3).security_epoch == 4


def test_a_step_changes_the_step_and_nothing_else() -> None:
    before = with_trial(with_seen(UpdateState(), t_low=5, policy_sequence=12), TRIAL)
    after = with_step(before, "staged")
    assert after.trial == msgspec.structs.replace(TRIAL, step="staged")
    assert with_trial(after, TRIAL) == before


def test_a_release_that_fell_back_ends_its_trial() -> None:
    refused = Refused(release=RELEASE, policy_sequence=12, reason="it was sick")
    state = with_refused(with_trial(UpdateState(), TRIAL), refused)
    assert state.trial is None
    assert state.refused == (refused,)


def test_the_oldest_of_too_many_that_fell_back_is_forgotten() -> None:
    state = UpdateState()
    for number in range(MAX_REFUSED + 1):
        state = with_refused(state, Refused(release=RELEASE, policy_sequence=number, reason="sick"))
    assert [refused.policy_sequence for refused in state.refused] == list(range(1, MAX_REFUSED + 1))
    assert decode_state(encode_state(state)) == state


def test_the_fullest_state_that_the_service_can_make_is_read_again() -> None:
    """Else a device that works would call its own memory damaged, and begin anew."""
    windows = tuple(
        Window(days=("mon", "tue", "wed", "thu", "fri", "sat", "sun"), start_min=1439, minutes=10_080)
        for _ in range(32)
    )
    offsets = tuple(UtcOffset(since=2**40 - number, seconds=-50_400) for number in range(128, 0, -1))
    refused = Refused(release=RELEASE, policy_sequence=2**31 - 1, reason="é" * 1024)
    state = UpdateState(t_low=2**40, policy_sequence=2**31 - 1, security_epoch=2**31 - 1, refused=(refused,) * 32)
    full = with_trial(state, msgspec.structs.replace(TRIAL, windows=windows, offsets=offsets))
    data = encode_state(full)
    assert len(data) < MAX_STATE_BYTES
    assert decode_state(data) == full


REFUSALS: list[tuple[str, bytes, str]] = [
    ("empty", b"", "Input data was truncated"),
    ("not JSON", b"\x00", "JSON is malformed: invalid character (byte 0)"),
    (
        "not UTF-8",
        FELL_BACK.replace(b"sick", b"\xff\xfe\xfd\xfc"),
        "'utf-8' codec can't decode byte 0xff in position 42: invalid start byte",
    ),
    ("cut off", UNDER_WAY[: len(UNDER_WAY) // 2], "Input data was truncated"),
    ("two of them", NEW * 2, "JSON is malformed: trailing characters (byte 89)"),
    ("too long", b" " * (MAX_STATE_BYTES + 1), "262145 bytes, at most 262144 are allowed"),
    ("a list", b"[]\n", "Expected `object`, got `array`"),
    ("no newline", NEW[:-1], "not in canonical form"),
    ("white space", NEW.replace(b":", b": ", 1), "not in canonical form"),
    ("unsorted", b'{"trial":null,' + NEW[1:].replace(b',"trial":null', b""), "not in canonical form"),
    ("a key twice", NEW.replace(b'"t_low":0', b'"t_low":0,"t_low":0'), "not in canonical form"),
    ("a key left out", without(NEW, "refused"), "not in canonical form"),
    ("escaped", FELL_BACK.replace(b"sick", b"\\u0073ick"), "not in canonical form"),
    ("unknown key", edited(NEW, slot="a"), "Object contains unknown field `slot`"),
    ("schema", edited(NEW, schema=2), "Invalid enum value 2 - at `$.schema`"),
    ("mark below 0", edited(NEW, t_low=-1), "Expected `int` >= 0 - at `$.t_low`"),
    ("mark too large", edited(NEW, t_low=2**53), "Expected `int` <= 9007199254740991 - at `$.t_low`"),
    ("a float", NEW.replace(b'"t_low":0', b'"t_low":0.5'), "Expected `int`, got `float` - at `$.t_low`"),
    ("a text", edited(NEW, security_epoch="3"), "Expected `int`, got `str` - at `$.security_epoch`"),
    ("no sequence", edited(NEW, policy_sequence=-1), "Expected `int` >= 0 - at `$.policy_sequence`"),
    (
        "a trial of nothing",
        edited(NEW, trial={}),
        "Object missing required field `transaction` - at `$.trial`",
    ),
    (
        "a trial's unknown key",
        edited(UNDER_WAY, "trial", tries=3),
        "Object contains unknown field `tries` - at `$.trial`",
    ),
    (
        "transaction",
        edited(UNDER_WAY, "trial", transaction="0123456789ABCDEF"),
        "Expected `str` matching regex '^[0-9a-f]{16}(?!\\\\n)$' - at `$.trial.transaction`",
    ),
    (
        "release",
        edited(UNDER_WAY, "trial", release="ab" * 31),
        "Expected `str` matching regex '^[0-9a-f]{64}(?!\\\\n)$' - at `$.trial.release`",
    ),
    ("no release", without(UNDER_WAY, "trial", "release"), "Object missing required field `release` - at `$.trial`"),
    ("version 0", edited(UNDER_WAY, "trial", version=0), "Expected `int` >= 1 - at `$.trial.version`"),
    (
        "version",
        edited(UNDER_WAY, "trial", version=2**31),
        "Expected `int` <= 2147483647 - at `$.trial.version`",
    ),
    ("slot", edited(UNDER_WAY, "trial", slot="c"), "Invalid enum value 'c' - at `$.trial.slot`"),
    ("step", edited(UNDER_WAY, "trial", step="confirmed"), "Invalid enum value 'confirmed' - at `$.trial.step`"),
    ("clock", edited(UNDER_WAY, "trial", clock="ntp"), "Invalid enum value 'ntp' - at `$.trial.clock`"),
    (
        "time unknown",
        edited(UNDER_WAY, "trial", time_unknown="hold"),
        "Invalid enum value 'hold' - at `$.trial.time_unknown`",
    ),
    (
        "a transaction with a line's end",
        edited(UNDER_WAY, "trial", transaction="0123456789abcdef\n"),
        "Expected `str` matching regex '^[0-9a-f]{16}(?!\\\\n)$' - at `$.trial.transaction`",
    ),
    ("confirm", edited(UNDER_WAY, "trial", confirm="never"), "Invalid enum value 'never' - at `$.trial.confirm`"),
    (
        "window",
        edited(UNDER_WAY, "trial", "windows", 0, start_min=1440),
        "Expected `int` <= 1439 - at `$.trial.windows[0].start_min`",
    ),
    (
        "windows",
        edited(UNDER_WAY, "trial", windows=[{"days": [], "minutes": 1, "start_min": 0}] * 33),
        "Expected `array` of length <= 32 - at `$.trial.windows`",
    ),
    (
        "offset",
        edited(UNDER_WAY, "trial", "offsets", 0, seconds=50_401),
        "Expected `int` <= 50400 - at `$.trial.offsets[0].seconds`",
    ),
    (
        "too many refused",
        edited(NEW, refused=[{"policy_sequence": 1, "reason": "x", "release": RELEASE}] * 33),
        "Expected `array` of length <= 32 - at `$.refused`",
    ),
    (
        "reason",
        edited(FELL_BACK, "refused", 0, reason="x" * 1025),
        "Expected `str` of length <= 1024 - at `$.refused[0].reason`",
    ),
]


@pytest.mark.parametrize(("data", "message"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS])
def test_what_is_no_state(data: bytes, message: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_state(data)
    assert str(caught.value) == f"update state: {message}"


@pytest.mark.parametrize("data", [NEW, UNDER_WAY, FELL_BACK], ids=["new", "under way", "fell back"])
def test_a_state_that_was_cut_off_anywhere_is_refused(data: bytes) -> None:
    for length in range(len(data)):
        with pytest.raises(DecodeError, match=r"^update state: "):
            decode_state(data[:length])


def test_the_vectors_say_where_they_belong() -> None:
    whole = json.loads((source_root() / "tests/vectors/update-state.json").read_text())
    assert (whole["spec"], whole["version"]) == ("docs/specs/update-state.md", 1)
    assert Path(source_root(), whole["spec"]).is_file()
