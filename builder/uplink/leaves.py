"""What a type can hold, by introspection: every field with its form and its largest size in JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from re import _parser as pattern_parser  # type: ignore[attr-defined]
from typing import Any

from msgspec import inspect

_ESCAPED = 6  # bytes of one character of JSON at most: \u0000, or four of UTF-8
_QUOTES = 2


@dataclass(frozen=True)
class Leaf:
    """One field of a payload. path: `entries[]` for the items of a list. form: what it is, for people.

    bound: bytes that it takes in JSON at most, all items together; None for no bound. opaque: it holds bytes that mean
    nothing here. text: characters that a sender may choose freely, 0 for none.
    """

    path: str
    form: str
    bound: int | None
    opaque: bool = False
    text: int = 0


def leaves_of(of: type) -> tuple[Leaf, ...]:
    """Every field of a struct, those inside it included."""
    return tuple(_leaves(inspect.type_info(of), ""))


def _leaves(described: inspect.Type, path: str) -> Iterator[Leaf]:
    match _bare(described):
        case inspect.StructType(fields=fields):
            for field in fields:
                yield from _leaves(field.type, f"{path}.{field.encode_name}".removeprefix("."))
        case inspect.VarTupleType(item_type=item, max_length=most) | inspect.ListType(item_type=item, max_length=most):
            for leaf in _leaves(item, f"{path}[]"):
                yield _times(leaf, most)
        case inspect.TupleType(item_types=items):
            for number, item in enumerate(items):
                yield from _leaves(item, f"{path}[{number}]")
        case inspect.UnionType(types=types):
            yield _union([next(_leaves(one, path)) for one in types], path)
        case bare:
            yield _scalar(bare, path)


def _bare(described: inspect.Type) -> inspect.Type:
    while isinstance(described, inspect.Metadata):
        described = described.type
    return described


def _times(leaf: Leaf, most: int | None) -> Leaf:
    bound = None if leaf.bound is None or most is None else most * (leaf.bound + 1)
    count = "any number of" if most is None else f"up to {most}"
    return Leaf(leaf.path, f"{count} × {leaf.form}", bound, leaf.opaque, leaf.text)


def _union(members: list[Leaf], path: str) -> Leaf:
    bounds = [member.bound for member in members]
    bound = None if None in bounds else max(each for each in bounds if each is not None)
    form = " or ".join(member.form for member in members)
    return Leaf(path, form, bound, any(each.opaque for each in members), max(each.text for each in members))


def _scalar(bare: inspect.Type, path: str) -> Leaf:
    match bare:
        case inspect.IntType(ge=low, le=high):
            bound = None if low is None or high is None else max(len(str(low)), len(str(high)))
            return Leaf(path, f"whole number {_ends(low, high)}", bound)
        case inspect.BoolType():
            return Leaf(path, "true or false", len("false"))
        case inspect.NoneType():
            return Leaf(path, "nothing", len("null"))
        case inspect.LiteralType(values=values):
            words = tuple(str(value) for value in values)
            return Leaf(path, "one of " + ", ".join(sorted(words)), max(map(len, words)) + _QUOTES)
        case inspect.StrType(pattern=str(pattern)):
            return _patterned(path, pattern)
        case inspect.StrType(max_length=most):
            bound = None if most is None else most * _ESCAPED + _QUOTES
            return Leaf(path, f"text, {_most(most, 'characters')}", bound, text=most or 0)
        case inspect.BytesType(max_length=most):
            bound = None if most is None else -(-most // 3) * 4 + _QUOTES
            return Leaf(path, f"bytes, {_most(most, 'of them')}", bound, opaque=True)
        case _:
            return Leaf(path, f"anything ({type(bare).__name__})", None, opaque=True)


def _patterned(path: str, pattern: str) -> Leaf:
    parsed: Any = pattern_parser.parse(pattern)
    shortest, longest = parsed.getwidth()
    if longest >= int(pattern_parser.MAXWIDTH):
        return Leaf(path, f"text like {pattern}", None)
    wide = any(word in str(parsed) for word in ("ANY", "NEGATE"))  # may match characters beyond plain ones
    size = f"{longest} characters" if shortest == longest else f"{shortest} to {longest} characters"
    free = longest if wide else 0
    return Leaf(path, f"text, {size} of a fixed form", longest * (_ESCAPED if wide else 1) + _QUOTES, text=free)


def _ends(low: int | None, high: int | None) -> str:
    return f"from {'any' if low is None else low} to {'any' if high is None else high}"


def _most(most: int | None, what: str) -> str:
    return f"any number {what}" if most is None else f"at most {most} {what}"
