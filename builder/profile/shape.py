"""Does a document have the shape of a type? Every difference, not only the first.

msgspec stops at the first one. This walks msgspec's own description of the type, so there is still one definition; a
property test holds that both say yes to the same documents.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from msgspec import inspect

from builder.profile.anyone import instead_of_any, is_any
from builder.profile.forms import FORMS
from builder.profile.problem import Finding, Path, did_you_mean, nearest, path_text

_NAMES = {
    inspect.StrType: "text",
    inspect.IntType: "a whole number",
    inspect.BoolType: "true or false",
    inspect.VarTupleType: "a list",
    inspect.DictType: "a mapping",
    inspect.StructType: "a mapping",
}


def shape_findings(value: Any, of: type) -> Iterator[Finding]:
    """How `value` differs from the type `of`: structs, lists, text, whole numbers, booleans, literals, or null."""
    return _differences(value, inspect.type_info(of), ())


def _differences(value: Any, expected: inspect.Type, path: Path) -> Iterator[Finding]:
    expected = _bare(expected)
    if isinstance(expected, inspect.UnionType):
        if value is None and any(isinstance(member, inspect.NoneType) for member in expected.types):
            return
        expected = _member(value, expected)
    if is_any(value) and not _is_free(expected) and (hint := instead_of_any(path)):
        yield Finding(path, f"{path_text(path)}: {_shown(value)} opens more than anybody approved", hint)
        return
    match expected:
        case inspect.StructType():
            yield from _struct(value, expected, path)
        case inspect.DictType():
            yield from _names(value, expected, path)
        case inspect.VarTupleType():
            yield from _list(value, expected, path)
        case inspect.LiteralType():
            yield from _literal(value, expected, path)
        case inspect.StrType():
            yield from _text(value, expected, path)
        case inspect.IntType():
            yield from _number(value, expected, path)
        case inspect.BoolType():
            yield from _boolean(value, expected, path)
        case _:
            raise TypeError(f"a profile has no {expected}")


def _member(value: Any, expected: inspect.UnionType) -> inspect.Type:
    """What `value` was meant to be: text where there is a choice with text, and the other member else."""
    members = [_bare(member) for member in expected.types if not isinstance(member, inspect.NoneType)]
    texts = [member for member in members if isinstance(member, inspect.StrType)]
    others = [member for member in members if not isinstance(member, inspect.StrType)]
    (chosen,) = texts if texts and (isinstance(value, str) or not others) else others
    return chosen


def _is_free(expected: inspect.Type) -> bool:
    """A text of that type may be a word like `any`."""
    return isinstance(expected, inspect.StrType) and (
        expected.pattern is None or re.search(expected.pattern, "any") is not None
    )


def _bare(described: inspect.Type) -> inspect.Type:
    while isinstance(described, inspect.Metadata):
        described = described.type
    return described


def _struct(value: Any, expected: inspect.StructType, path: Path) -> Iterator[Finding]:
    fields = {field.encode_name: field for field in expected.fields}
    if not isinstance(value, dict):
        keys = f"its keys stand below it, indented: {', '.join(fields)}"
        yield _wrong_type(value, expected, path, keys if path else "a profile begins with `schema: 1`")
        return
    absent = set(fields) - set(value)
    meant = set()
    for key in value:
        if key in fields:
            yield from _differences(value[key], fields[key].type, (*path, key))
            continue
        meant.add(nearest(key, absent))
        hint = did_you_mean(key, absent, otherwise=f"known here: {', '.join(fields)}")
        yield Finding((*path, key), f"{path_text((*path, key))}: unknown key", hint)
    for name, field in fields.items():
        if field.required and name in absent - meant:
            yield Finding(path, f"{path_text((*path, name))}: missing", f"it is {expectation(field.type)}")


def _names(value: Any, expected: inspect.DictType, path: Path) -> Iterator[Finding]:
    """A mapping whose keys its writer chooses."""
    if not isinstance(value, dict):
        yield _wrong_type(value, expected, path, "its keys stand below it, indented, each as `NAME: VALUE`")
        return
    for key, item in value.items():
        yield from _text(key, _bare(expected.key_type), (*path, key))
        yield from _differences(item, expected.value_type, (*path, key))


def _list(value: Any, expected: inspect.VarTupleType, path: Path) -> Iterator[Finding]:
    if not isinstance(value, list):
        hint = "write `[]` for an empty list" if value is None else "begin each item with `- `, or write `[ITEM, ITEM]`"
        yield _wrong_type(value, expected, path, hint)
        return
    for number, item in enumerate(value):
        yield from _differences(item, expected.item_type, (*path, number))


def _literal(value: Any, expected: inspect.LiteralType, path: Path) -> Iterator[Finding]:
    if type(value) in {type(allowed) for allowed in expected.values} and value in expected.values:
        return
    choices = [str(allowed) for allowed in expected.values]
    hint = did_you_mean(str(value), choices, otherwise=f"write {expectation(expected)}")
    yield Finding(path, f"{path_text(path)}: {_shown(value)}, expected {expectation(expected)}", hint)


def _boolean(value: Any, expected: inspect.BoolType, path: Path) -> Iterator[Finding]:
    if not isinstance(value, bool):
        yield _wrong_type(value, expected, path, "write `true` or `false`")


def _text(value: Any, expected: inspect.Type, path: Path) -> Iterator[Finding]:
    assert isinstance(expected, inspect.StrType)
    where = path_text(path)
    if not isinstance(value, str):
        quoted = isinstance(value, bool | int | float)
        yield _wrong_type(value, expected, path, f'put it in quotes: "{_shown(value)}"' if quoted else "write one text")
    elif not value.isprintable():  # `$` in a pattern lets a final newline pass
        yield Finding(path, f"{where}: {_shown(value)} has control characters or line breaks", "write one line of text")
    elif expected.min_length is not None and len(value) < expected.min_length:
        yield Finding(path, f"{where}: empty, expected text", "say it in a few words")
    elif expected.max_length is not None and len(value) > expected.max_length:
        message = f"{where}: {len(value)} characters, expected at most {expected.max_length}"
        yield Finding(path, message, "say it in fewer words")
    elif expected.pattern is not None and re.search(expected.pattern, value) is None:
        form = FORMS[expected.pattern]
        yield Finding(path, f"{where}: {_shown(value)}, expected {form.words}", f"write it like `{form.example}`")


def _number(value: Any, expected: inspect.IntType, path: Path) -> Iterator[Finding]:
    where = path_text(path)
    if isinstance(value, bool) or not isinstance(value, int):
        yield _wrong_type(value, expected, path, "write digits only, without quotes, unit or fraction")
    elif expected.ge is not None and value < expected.ge:
        yield Finding(path, f"{where}: {value}, expected {expectation(expected)}", f"write {expected.ge} or more")
    elif expected.le is not None and value > expected.le:
        yield Finding(path, f"{where}: {value}, expected {expectation(expected)}", f"write {expected.le} or less")


def _wrong_type(value: Any, expected: inspect.Type, path: Path, hint: str) -> Finding:
    where = path_text(path)
    message = f"{_shown(value)}, expected {_NAMES[type(expected)]}"
    return Finding(path, f"{where}: {message}" if where else message, hint)


def _shown(value: Any) -> str:
    """A value as a person would write it, cut to one short line."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case list():
            return "a list"
        case dict():
            return "a mapping"
        case str():
            printable = value if value.isprintable() else repr(value)[1:-1]
            return f"`{printable}`" if len(printable) <= 60 else f"`{printable[:57]}…`"
        case _:
            return str(value)


def expectation(described: inspect.Type) -> str:
    """What a value of that type is, in a few words; also the reference page's column `type`."""
    match _bare(described):
        case inspect.UnionType(types=types):
            members = [expectation(member) for member in types if not isinstance(member, inspect.NoneType)]
            return ", or ".join([*members, *(["nothing"] if len(members) < len(types) else [])])
        case inspect.StrType(pattern=str(pattern)):
            return FORMS[pattern].words
        case inspect.LiteralType(values=values):
            return " or ".join(f"`{value}`" for value in values)
        case inspect.IntType(ge=low, le=high) if low is not None:
            return f"a whole number from {low}" + ("" if high is None else f" to {high}")
        case inspect.VarTupleType(item_type=item):
            return f"a list, each {expectation(item)}"
        case other:
            return _NAMES[type(other)]
