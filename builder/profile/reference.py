"""What is generated from the profile's types: the JSON schema for editors and the reference page for people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import inspect

from builder.profile.document import MAXIMUM_BYTES
from builder.profile.forms import FORMS
from builder.profile.shape import expectation
from builder.profile.types import Profile

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_HEAD = f"""# The hardware profile, format 1

<!-- written by `make golden` from the types in builder/profile and appliance/formats: edit those -->

A profile is the only thing that a person writes for a device: `profiles/NAME.yaml`. It is strict YAML: UTF-8, at most
{MAXIMUM_BYTES // 1024} KiB, one document, no anchors, aliases or tags, no key twice, no unknown key. Only `null`,
`true`, `false` and decimal numbers are not text; `no`, `1:30` and `2031-12-31` are.

`edgeseal profile check PROFILE` tells everything that is wrong with one, with line and hint. For completion and checks
while typing, begin the file with

```yaml
# yaml-language-server: $schema=../docs/reference/profile.schema.json
```

(`edgeseal profile schema` prints that schema.) Besides what the tables say, the keys must fit each other: zones do not
overlap, a conduit leads somewhere ([network policy](../specs/network-policy.md)), partitions fit the disk, a model that
judges is sealed in, and so on; the tables of refused profiles, `bad-profiles.txt` and `bad-networks.txt` in
`tests/unit/data/`, are the complete list with the message of each. A conduit whose `review` has passed is a warning,
and an error with `--release`.

A key without a default must be given.
"""


def profile_schema() -> dict[str, Any]:
    """JSON schema (2020-12) of a profile, keys in a fixed order."""
    schema = msgspec.json.schema(Profile)
    ordered: dict[str, Any] = json.loads(json.dumps(schema, sort_keys=True))
    return {"$schema": _DIALECT, "title": "edgeseal hardware profile"} | ordered


def profile_schema_text() -> str:
    """The bytes of docs/reference/profile.schema.json."""
    return json.dumps(profile_schema(), indent=2, ensure_ascii=False) + "\n"


def profile_reference() -> str:
    """The text of docs/reference/profile.md."""
    described = inspect.type_info(Profile)
    assert isinstance(described, inspect.StructType)
    return _HEAD + "".join(_section(described, ""))


def _section(described: inspect.StructType, path: str) -> Iterator[str]:
    yield f"\n## {f'`{path}`' if path else 'Top level'}\n\n{_about(described)}\n\n"
    yield "| key | value | default | meaning |\n|---|---|---|---|\n"
    inner: list[tuple[str, inspect.StructType]] = []
    for field in described.fields:
        struct, is_list = _struct_of(field.type)
        here = f"{path}.{field.encode_name}".removeprefix(".")
        if struct is not None:
            inner.append((f"{here}[]" if is_list else here, struct))
        value = _value(field.type, struct, is_list)
        yield f"| `{field.encode_name}` | {value} | {_default(field)} | {_meaning(field.type)} |\n"
    for here, struct in inner:
        yield from _section(struct, here)


def _about(described: inspect.StructType) -> str:
    text = (described.cls.__doc__ or "").strip()
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def _bare(described: inspect.Type) -> inspect.Type:
    while isinstance(described, inspect.Metadata):
        described = described.type
    return described


def _struct_of(described: inspect.Type) -> tuple[inspect.StructType | None, bool]:
    bare = _bare(described)
    is_list = isinstance(bare, inspect.VarTupleType)
    if isinstance(bare, inspect.VarTupleType):
        bare = _bare(bare.item_type)
    if isinstance(bare, inspect.UnionType):
        bare = next((one for one in map(_bare, bare.types) if isinstance(one, inspect.StructType)), bare)
    return (bare, is_list) if isinstance(bare, inspect.StructType) else (None, is_list)


def _value(described: inspect.Type, struct: inspect.StructType | None, is_list: bool) -> str:
    if struct is not None:
        optional = ", or nothing" if isinstance(_bare(described), inspect.UnionType) else ""
        return "a list, see below" if is_list else f"see below{optional}"
    return (_form(described) or expectation(described)).replace("|", "\\|")


def _form(described: inspect.Type) -> str | None:
    bare = _bare(described)
    match bare:
        case inspect.StrType(pattern=str(pattern)):
            return FORMS[pattern].words
        case inspect.VarTupleType(item_type=item):
            form = _form(item)
            return f"a list: {form}" if form else None
        case inspect.UnionType(types=types):
            some = [member for member in types if not isinstance(member, inspect.NoneType)]
            form = _form(some[0]) if len(some) == 1 else None
            return f"{form}, or nothing" if form else None
        case _:
            return None


def _default(field: inspect.Field) -> str:
    if field.required:
        return ""
    if isinstance(field.default, msgspec.Struct):
        return "see below"
    if field.default is None:
        return "nothing"
    return f"`{json.dumps(field.default)}`"


def _meaning(described: inspect.Type) -> str:
    if isinstance(described, inspect.Metadata) and described.extra_json_schema:
        return str(described.extra_json_schema.get("description", ""))
    return ""
