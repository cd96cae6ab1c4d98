"""Profiles that are right: what is read from them, and what is generated from their types."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from msgspec import inspect

from appliance.formats.device import DeviceConfig, decode_device_config, encode_device_config
from builder.host.paths import source_root
from builder.profile.check import RULES
from builder.profile.document import decode_document
from builder.profile.forms import FORMS
from builder.profile.load import load_profile, profile_names, profile_path
from builder.profile.reference import profile_reference, profile_schema, profile_schema_text
from builder.profile.rules_board import CLASSES
from builder.profile.rules_disk import hash_tree_bytes
from builder.profile.types import MIB, Profile
from tests.conftest import Golden

NAMES = ["industrial-pc", "npu-gateway", "smart-camera", "virtual-arm64", "virtual-x86_64"]
REFERENCE = source_root() / "docs" / "reference"


def test_the_profiles_of_the_checkout() -> None:
    assert profile_names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_profile_loads_by_name_and_by_path(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    by_name = load_profile(name)
    assert by_name.name == name
    monkeypatch.chdir(tmp_path)
    assert load_profile(str(profile_path(name))) == by_name


@pytest.mark.xdist_group("json-schema")
@pytest.mark.parametrize("name", NAMES)
def test_editors_know_the_schema_of_a_profile(name: str) -> None:
    import jsonschema  # takes over a second; other workers do without it

    path = profile_path(name)
    text = path.read_text()
    assert text.startswith("# yaml-language-server: $schema=../docs/reference/profile.schema.json\n")
    jsonschema.validate(decode_document(text.encode(), file=name).value, profile_schema())


@pytest.mark.parametrize("name", NAMES)
def test_the_device_reads_what_the_profile_says(name: str) -> None:
    profile = load_profile(name)
    config = decode_device_config(encode_device_config(profile.device_config(development=True)))
    assert isinstance(config, DeviceConfig)
    assert (config.profile, config.inference, config.uplink) == (name, profile.inference, profile.uplink)


def test_every_hardware_class_has_a_profile() -> None:
    assert {load_profile(name).hardware.hardware_class for name in NAMES} == set(CLASSES)


def test_only_virtual_profiles_have_a_test_agent() -> None:
    for profile in map(load_profile, NAMES):
        assert profile.development.test_agent == CLASSES[profile.hardware.hardware_class].virtual


def test_json_schema_is_current(golden: Golden) -> None:
    golden(REFERENCE / "profile.schema.json", profile_schema_text())


def test_reference_is_current(golden: Golden) -> None:
    golden(REFERENCE / "profile.md", profile_reference())


def test_every_pattern_is_put_into_words() -> None:
    patterns = {found for found in _patterns(inspect.type_info(Profile)) if found}
    assert patterns == set(FORMS)


def test_the_example_of_a_form_has_that_form() -> None:
    for pattern, form in FORMS.items():
        assert re.search(pattern, form.example.strip('"')), form


def test_every_rule_says_what_it_holds() -> None:
    assert len({rule.__name__ for rule in RULES}) == len(RULES)
    assert all(rule.__doc__ for rule in RULES)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("2031-12-31", "2031-12-31"),
        ("0x10", "0x10"),
        ("010", "010"),
        ("1_000", "1_000"),
        ("true", True),
        ("null", None),
        ("~", None),
        ("-5", -5),
        ("1e3", 1000.0),
        ("'7'", "7"),
        ("{a: 1}", {"a": 1}),
        ("{<<: {a: 1}}", {"<<": {"a": 1}}),
    ],
)
def test_scalars_surprise_nobody(text: str, value: object) -> None:
    assert decode_document(f"key: {text}\n".encode(), file="x").value == {"key": value}


def test_a_value_has_the_line_of_its_key() -> None:
    document = decode_document(b"a:\n  b:\n    - c\n    - d: |\n        text\n", file="x")
    assert document.lines == {
        (): 1,
        ("a",): 1,
        ("a", "b"): 2,
        ("a", "b", 0): 3,
        ("a", "b", 1): 4,
        ("a", "b", 1, "d"): 4,
    }


@pytest.mark.parametrize(
    ("data", "tree"),
    [(4096, 4096), (8192, 8192), (128 * 4096, 8192), (129 * 4096, 4096 * 4), (160 * MIB, 4096 * (1 + 320 + 3 + 1))],
)
def test_size_of_a_hash_tree(data: int, tree: int) -> None:
    assert hash_tree_bytes(data) == tree


def _patterns(described: inspect.Type) -> list[str | None]:
    match described:
        case inspect.Metadata():
            return _patterns(described.type)
        case inspect.StructType():
            return [found for field in described.fields for found in _patterns(field.type)]
        case inspect.VarTupleType():
            return _patterns(described.item_type)
        case inspect.UnionType():
            return [found for member in described.types for found in _patterns(member)]
        case inspect.StrType():
            return [described.pattern]
        case _:
            return []
