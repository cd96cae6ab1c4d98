"""The live ruleset as text, taken apart, and two of them compared in words. Pure.

The text is what libnftables prints for `list ruleset` with its netlink debugging on: first the bytecode of each rule
and the raw elements of each set, then the ruleset as it reads. Both are compared: two rules may read the same and
differ in the bytecode, since the printer leaves out what it takes as implied.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

Lines = tuple[str, ...]

# `inet edgeseal input 14 13`: family, table, chain, handle, handle of the rule before; `inet edgeseal @peers`
_RAW_HEADER = re.compile(r"^(\S+) (\S+) (@?\S+)(?: \d+)*\s*$")
_TABLE = re.compile(r"^table (\S+) (\S+) \{")
_OBJECT = re.compile(r"^\t(\S+) (\S+) \{")
_COUNTER = re.compile(r"\[ counter pkts \d+ bytes \d+ \]")
_ELEMENTS = "elements = {"


@dataclass(frozen=True)
class Listing:
    """tables: `inet edgeseal` -> its own settings. objects: `chain inet edgeseal input` -> its lines as they read.

    raw: `inet edgeseal input` or `inet edgeseal @peers` -> bytecode, or elements, sorted: their order means nothing.
    """

    tables: Mapping[str, Lines]
    objects: Mapping[str, Lines]
    raw: Mapping[str, Lines]

    def elements(self, name: str) -> frozenset[str]:
        """Of a set or map, as they read. name: as in `objects`. Empty also where there is no such set."""
        return frozenset(_elements(self.objects.get(name, ())))

    def without_elements(self, names: Iterable[str]) -> Listing:
        """The same without what is in these sets. names: as in `objects`."""
        hidden = frozenset(names)
        raw = frozenset(_raw_name(name) for name in hidden)
        return Listing(
            tables=self.tables,
            objects={
                name: tuple(line for line in lines if name not in hidden or not line.startswith(_ELEMENTS))
                for name, lines in self.objects.items()
            },
            raw={name: () if name in raw else lines for name, lines in self.raw.items()},
        )

    def sets_of_type(self, kind: str) -> tuple[str, ...]:
        """Names of the sets whose elements have this type."""
        return tuple(name for name, lines in self.objects.items() if f"type {kind}" in lines)


def parse_listing(text: str) -> Listing:
    """Handles and counters are left out: they are not part of what was decided."""
    lines = text.splitlines()
    start = next((number for number, line in enumerate(lines) if _TABLE.match(line)), len(lines))
    tables, objects = _readable(lines[start:])
    return Listing(tables, objects, _raw(lines[:start]))


def differences(expected: Listing, found: Listing) -> tuple[str, ...]:
    """What was added to `expected` and what is missing, one sentence part each. Empty when they are the same."""
    return tuple(
        _printable(line)
        for line in (
            *_whole("table", expected.tables, found.tables),
            *_settings(expected, found),
            *_objects(expected, found),
            *_hidden(expected, found),
        )
    )


# ---- taking apart


def _raw(lines: list[str]) -> dict[str, Lines]:
    found: dict[str, list[str]] = {}
    name = ""
    for line in lines:
        header = _RAW_HEADER.match(line)
        if header is not None and not line.startswith((" ", "\t")):
            name = " ".join(header.groups())
            found.setdefault(name, []).extend([] if "@" in name else ["rule"])
        elif line.strip():
            found.setdefault(name, []).append(_COUNTER.sub("[ counter ]", line.strip()))
    return {name: tuple(sorted(body) if "@" in name else body) for name, body in found.items()}


def _readable(lines: list[str]) -> tuple[dict[str, Lines], dict[str, Lines]]:
    tables: dict[str, list[str]] = {}
    objects: dict[str, list[str]] = {}
    table, body = "", []
    for line in _joined(lines):
        if match := _TABLE.match(line):
            table = " ".join(match.groups())
            body = tables.setdefault(table, [])
        elif match := _OBJECT.match(line):
            body = objects.setdefault(f"{match[1]} {table} {match[2]}", [])
        elif line == "\t}":
            body = tables[table]
        elif line.strip() and line != "}":
            body.append(line.strip())
    return _frozen(tables), _frozen(objects)


def _joined(lines: list[str]) -> Iterator[str]:
    """A rule or a list of elements may go over several lines: then a brace is open at the end of the first."""
    held, depth = "", 0
    for line in lines:
        held = f"{held} {line.strip()}" if held else line
        depth += line.count("{") - line.count("}")
        if depth <= 0 or not line.startswith("\t\t"):
            yield held
            held, depth = "", 0
    if held:
        yield held


def _frozen(bodies: Mapping[str, list[str]]) -> dict[str, Lines]:
    return {name: tuple(lines) for name, lines in bodies.items()}


def _elements(lines: Lines) -> Iterator[str]:
    for line in lines:
        if line.startswith(_ELEMENTS):
            yield from line.removeprefix(_ELEMENTS).removesuffix("}").strip().split(", ")


def _raw_name(name: str) -> str:
    """`inet edgeseal @peers` of `set inet edgeseal peers`."""
    _, family, table, own = name.split(" ", 3)
    return f"{family} {table} @{own}"


# ---- in words


def _whole(what: str, expected: Iterable[str], found: Iterable[str]) -> Iterator[str]:
    old, new = set(expected), set(found)
    yield from (f"{what} {name} added" for name in sorted(new - old))
    yield from (f"{what} {name} removed" for name in sorted(old - new))


def _settings(expected: Listing, found: Listing) -> Iterator[str]:
    for table in sorted(expected.tables.keys() & found.tables.keys()):
        yield from _changed(f"table {table}", expected.tables[table], found.tables[table], "setting")


def _objects(expected: Listing, found: Listing) -> Iterator[str]:
    """Of tables that are in both: what is in a table that came or went is told by its name."""
    both = expected.tables.keys() & found.tables.keys()
    old, new = _of_tables(expected.objects, both), _of_tables(found.objects, both)
    yield from (f"{name} added" for name in sorted(new.keys() - old.keys()))
    yield from (f"{name} removed" for name in sorted(old.keys() - new.keys()))
    for name in sorted(old.keys() & new.keys()):
        yield from _changed(name, _plain(old[name]), _plain(new[name]), "rule" if name.startswith("chain") else "line")
        gone, come = expected.elements(name), found.elements(name)
        yield from (f"{name}: element added: {element}" for element in sorted(come - gone))
        yield from (f"{name}: element removed: {element}" for element in sorted(gone - come))


def _changed(name: str, old: Lines, new: Lines, what: str) -> Iterator[str]:
    for step, low, high, first, last in difflib.SequenceMatcher(a=old, b=new, autojunk=False).get_opcodes():
        if step == "replace" and high - low == last - first == 1:
            yield f"{name}: `{new[first]}` instead of `{old[low]}`"
            continue
        if step in ("insert", "replace"):
            yield from (f"{name}: {what} added: {line}" for line in new[first:last])
        if step in ("delete", "replace"):
            yield from (f"{name}: {what} removed: {line}" for line in old[low:high])


def _hidden(expected: Listing, found: Listing) -> Iterator[str]:
    """Where the bytecode differs, though both read the same."""
    both = expected.tables.keys() & found.tables.keys()
    for name in sorted(expected.raw.keys() | found.raw.keys()):
        differs = expected.raw.get(name, ()) != found.raw.get(name, ())
        if differs and " ".join(name.split(" ")[:2]) in both and not _reads_otherwise(name, expected, found):
            yield f"{name}: reads as before, but its bytecode is another"


def _reads_otherwise(raw: str, expected: Listing, found: Listing) -> bool:
    family, table, own = raw.split(" ", 2)
    kinds = ("set", "map") if own.startswith("@") else ("chain",)
    names = [f"{kind} {family} {table} {own.removeprefix('@')}" for kind in kinds]
    return any(expected.objects.get(name) != found.objects.get(name) for name in names)


def _plain(lines: Lines) -> Lines:
    return tuple(line for line in lines if not line.startswith(_ELEMENTS))


def _of_tables(objects: Mapping[str, Lines], tables: Iterable[str]) -> dict[str, Lines]:
    known = set(tables)
    return {name: lines for name, lines in objects.items() if " ".join(name.split(" ")[1:3]) in known}


def _printable(text: str) -> str:
    """What stands in a ruleset may be a stranger's, comments above all."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)
