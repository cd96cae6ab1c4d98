"""A ruleset as the kernel gives it back: tables, chains, rules, sets. Pure.

Rules and elements are read from the bytecode (`nft --debug=netlink list ruleset`). What that does not show is read from
the JSON listing: the hooks, priorities and policies of base chains, the flags of sets. The level of `socket cgroupv2`
stands in neither, only in nft's own syntax, which the first listing ends with.
"""

from __future__ import annotations

import ipaddress
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from appliance.core.errors import InputError
from builder.network.bytecode import Expression, SocketCgroup, Verdict, parse_expression, parse_verdict, words_to_bytes

FAMILIES = ("inet", "ip", "ip6", "arp")
CGROUP_LEVEL = 2
CGROUP_TYPES = ("cgroupsv2",)

_TABLE_KEYS = {"family", "name", "handle"}
_CHAIN_KEYS = {"family", "table", "name", "handle", "type", "hook", "prio", "policy"}
_SET_KEYS = {"family", "name", "table", "type", "handle", "flags", "elem", "map", "size"}
_SET_FLAGS = {"constant", "interval"}
_END, _REST = 1, 2
"""NFT_SET_ELEM_INTERVAL_END, NFT_SET_ELEM_CATCHALL."""

_RULE_HEAD = re.compile(r"(\w+) (\S+) (\S+) (\d+)(?: \d+)?\s*")
_SET_HEAD = re.compile(r"(\w+) (\S+) @(\S+)\s*")
_EXPRESSION = re.compile(r"\s+\[ (.+) \]\s*")
_ELEMENT = re.compile(
    r"\s+element (?P<key>[0-9a-f]{8}(?: [0-9a-f]{8})*)? +(?:- (?P<end>[0-9a-f]{8}(?: [0-9a-f]{8})*) +)?: "
    r"(?:(?P<verdict>[a-z]+(?: -> \S+)?) )?(?P<flags>\d+) \[end\](?:  userdata = .*)?\s*"
)


@dataclass(frozen=True)
class Rule:
    """One rule. text: in nft's own syntax, for people."""

    table: tuple[str, str]
    chain: str
    handle: int
    expressions: tuple[Expression, ...]
    text: str

    @property
    def key(self) -> tuple[tuple[str, str], str, int]:
        """What no other rule has."""
        return self.table, self.chain, self.handle

    def __str__(self) -> str:
        return f"{self.table[0]} {self.chain}: {self.text}"


@dataclass(frozen=True)
class Element:
    """first, last: the key's registers in memory order; both ends are inside, field by field.

    is_rest: nft's `*`, what no other element of the set holds; it has no key.
    """

    first: bytes
    last: bytes
    verdict: Verdict | None = None

    @property
    def is_rest(self) -> bool:
        return not self.first


@dataclass(frozen=True)
class Set:
    """A set or verdict map."""

    name: str
    types: tuple[str, ...]
    is_map: bool
    elements: tuple[Element, ...]

    def element_text(self, number: int) -> str:
        """For people: the fields of a key, as far as their types are known."""
        each = self.elements[number]
        ends = [_key_text(end, self.types) for end in (each.first, each.last)]
        key = "*" if each.is_rest else ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"
        return f"{key} : {each.verdict}" if each.verdict is not None else key


@dataclass(frozen=True)
class Chain:
    """hook, priority, policy: of a base chain."""

    name: str
    hook: str = ""
    kind: str = ""
    priority: int = 0
    policy: str = ""
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True)
class Table:
    """family: one of FAMILIES."""

    family: str
    name: str
    chains: Mapping[str, Chain]
    sets: Mapping[str, Set]

    @property
    def key(self) -> tuple[str, str]:
        return self.family, self.name


@dataclass(frozen=True)
class Ruleset:
    """Everything that hooks into a network namespace."""

    tables: tuple[Table, ...]

    @property
    def rules(self) -> Iterator[Rule]:
        return (rule for table in self.tables for chain in table.chains.values() for rule in chain.rules)


def read_listing(text: str, objects: str) -> Ruleset:
    """text, objects: as in builder.host.netfilter.Listing.

    Raises InputError, naming the rule, for anything that is not known.
    """
    if sys.byteorder != "little":
        raise InputError("bytecode of a big-endian machine is not known")
    bytecode, source = _split(text)
    described = json.loads(objects)["nftables"]
    raw = _Raw(bytecode, _RuleTexts(source))
    tables = [_table(each["table"], described, raw) for each in described if "table" in each]
    for each in described:
        if unknown := set(each) - {"metainfo", "table", "chain", "set", "map", "rule"}:
            raise InputError(f"the ruleset has a {sorted(unknown)[0]}, which is not known")
    ruleset = Ruleset(tuple(tables))
    _check_levels(ruleset, source)
    return ruleset


def bind_cgroups(ruleset: Ruleset, services: Sequence[str]) -> Ruleset:
    """Put number N into the set cg_SERVICE of the N-th service, counted from 1.

    The sets are empty when the ruleset is loaded: systemd and edgeseal-network put the cgroup's ID in at run time. Here
    the number stands for whatever that ID will be. Raises InputError for a set that has elements already.
    """
    return Ruleset(tuple(replace(table, sets=_bound(table.sets, services)) for table in ruleset.tables))


def _bound(sets: Mapping[str, Set], services: Sequence[str]) -> dict[str, Set]:
    found = dict(sets)
    for name, each in sets.items():
        if each.types != CGROUP_TYPES:
            continue
        if each.elements:
            raise InputError(f"the set {name} has elements: cgroups are known at run time only")
        service = name.removeprefix("cg_")
        if service in services and name.startswith("cg_"):
            key = (services.index(service) + 1).to_bytes(8, "little")
            found[name] = replace(each, elements=(Element(key, key),))
    return found


class _RuleTexts:
    """The rules of nft's own syntax, chain by chain, in the order of the bytecode."""

    def __init__(self, source: str) -> None:
        self._texts: dict[tuple[str, str, str], list[str]] = {}
        table, chain = ("", ""), ""
        for line in source.splitlines():
            words = line.split()
            if line.startswith("table "):
                table, chain = (words[1], words[2]), ""
            elif line.startswith("\tchain "):
                chain = words[1]
            elif line == "\t}":
                chain = ""
            elif chain and line.strip() and not line.strip().startswith("type "):
                texts = self._texts.setdefault((*table, chain), [])
                if line.startswith("\t\t\t"):
                    texts[-1] += f" {line.strip()}"
                else:
                    texts.append(line.strip())

    def of(self, family: str, table: str, chain: str) -> list[str]:
        return self._texts.get((family, table, chain), [])


class _Raw:
    """Rules and elements of the bytecode, as they stand."""

    def __init__(self, text: str, texts: _RuleTexts) -> None:
        self.rules: dict[tuple[str, str, str], list[Rule]] = {}
        self.elements: dict[tuple[str, str, str], list[tuple[bytes, bytes | None, Verdict | None, int]]] = {}
        self._texts = texts
        head: tuple[str, str, str, int] | None = None
        expressions: list[str] = []
        here: list[tuple[bytes, bytes | None, Verdict | None, int]] = []
        for line in text.splitlines():
            if match := _EXPRESSION.fullmatch(line):
                expressions.append(match[1])
            elif match := _ELEMENT.fullmatch(line):
                here.append(_element(match))
            elif match := _SET_HEAD.fullmatch(line):
                here = self.elements.setdefault((match[1], match[2], match[3]), [])
            elif match := _RULE_HEAD.fullmatch(line):
                self._finish(head, expressions)
                head, expressions = (match[1], match[2], match[3], int(match[4])), []
            elif line.strip():
                raise InputError(f"the line `{line.strip()}` of the bytecode is not known")
        self._finish(head, expressions)

    def _finish(self, head: tuple[str, str, str, int] | None, expressions: Sequence[str]) -> None:
        if head is None:
            return
        family, table, chain, handle = head
        done = self.rules.setdefault((family, table, chain), [])
        texts = self._texts.of(family, table, chain)
        if len(done) >= len(texts):
            raise InputError(f"{family} {chain}: the bytecode has more rules than the listing")
        text = texts[len(done)]
        try:
            parsed = tuple(parse_expression(each) for each in expressions)
        except InputError as error:
            raise InputError(f"{family} {chain}: {text}: {error.message}") from error
        done.append(Rule((family, table), chain, handle, parsed, text))


def _element(match: re.Match[str]) -> tuple[bytes, bytes | None, Verdict | None, int]:
    end, verdict = match["end"], match["verdict"]
    return (
        words_to_bytes(match["key"] or ""),
        words_to_bytes(end) if end else None,
        parse_verdict(verdict) if verdict else None,
        int(match["flags"]),
    )


def _split(text: str) -> tuple[str, str]:
    """The bytecode, and nft's own syntax behind it."""
    lines = text.splitlines(keepends=True)
    cut = next((number for number, line in enumerate(lines) if re.match(r"table \w+ \S+ \{", line)), len(lines))
    return "".join(lines[:cut]), "".join(lines[cut:])


def _table(described: dict[str, Any], objects: Sequence[dict[str, Any]], raw: _Raw) -> Table:
    family, name = described["family"], described["name"]
    if family not in FAMILIES:
        raise InputError(f"the table {family} {name}: the family {family} is not known", hint="use inet, and arp")
    _known(described, _TABLE_KEYS, f"the table {family} {name}")
    mine = [each for each in objects if _owner(each) == (family, name)]
    chains = {each["chain"]["name"]: _chain(each["chain"], raw) for each in mine if "chain" in each}
    sets = {each["name"]: _set(each, raw) for found in mine for each in (found.get("set"), found.get("map")) if each}
    for key, elements in raw.elements.items():
        if key[:2] == (family, name) and key[2] not in sets:
            sets[key[2]] = _anonymous(key[2], elements)
    return Table(family, name, chains, sets)


def _owner(each: Mapping[str, Any]) -> tuple[str, str] | None:
    body = next(iter(each.values()))
    return (body["family"], body["table"]) if "table" in body else None


def _known(described: Mapping[str, Any], known: set[str], where: str) -> None:
    if unknown := sorted(set(described) - known):
        raise InputError(f"{where}: the attribute `{unknown[0]}` is not known")


def _chain(described: dict[str, Any], raw: _Raw) -> Chain:
    family, table, name = described["family"], described["table"], described["name"]
    _known(described, _CHAIN_KEYS, f"{family} {name}")
    return Chain(
        name,
        hook=described.get("hook", ""),
        kind=described.get("type", ""),
        priority=described.get("prio", 0),
        policy=described.get("policy", ""),
        rules=tuple(raw.rules.get((family, table, name), ())),
    )


def _set(described: dict[str, Any], raw: _Raw) -> Set:
    family, table, name = described["family"], described["table"], described["name"]
    where = f"the set {name}"
    _known(described, _SET_KEYS, where)
    flags = set(described.get("flags", ()))
    if unknown := sorted(flags - _SET_FLAGS):
        raise InputError(f"{where}: the flag `{unknown[0]}` is not known")
    if described.get("map", "verdict") != "verdict":
        raise InputError(f"{where}: a map to `{described['map']}` is not known")
    types = described["type"] if isinstance(described["type"], list) else [described["type"]]
    elements = raw.elements.get((family, table, name), [])
    return Set(name, tuple(types), "map" in described, _sorted(_elements(elements, where, len(types), flags)))


def _anonymous(name: str, elements: Sequence[tuple[bytes, bytes | None, Verdict | None, int]]) -> Set:
    if len(elements) == 1 and elements[0][0] and not any(elements[0][0]):
        raise InputError(f"the set {name}: whether its one element 0 is a whole range does not show in the listing")
    flags = {"interval"} if any(flag == _END for *_, flag in elements) else set()
    return Set(name, (), name.startswith("__map"), _sorted(_elements(elements, f"the set {name}", 1, flags)))


def _sorted(elements: Iterable[Element]) -> tuple[Element, ...]:
    """The kernel's hash tables begin somewhere else each time."""
    return tuple(sorted(elements, key=lambda each: (each.is_rest, each.first, each.last)))


def _elements(
    raw: Sequence[tuple[bytes, bytes | None, Verdict | None, int]], where: str, fields: int, flags: set[str]
) -> Iterator[Element]:
    """An element stands for itself, has its end beside it (more fields than one), or as the next element (flag 1)."""
    for number, (key, _, verdict, flag) in enumerate(raw):
        if flag == _REST and not key:
            yield Element(b"", b"", verdict)
            raw = [*raw[:number], *raw[number + 1 :]]
        elif flag not in (0, _END) or not key:
            raise InputError(f"{where}: an element has a flag that is not known")
    if "interval" not in flags or fields > 1 or any(end for _, end, *_ in raw):
        for first, last, verdict, flag in raw:
            if flag:
                raise InputError(f"{where}: an element has an end that is not known")
            yield Element(first, last or first, verdict)
        return
    yield from _ranges(sorted(raw, key=lambda each: (each[0], not each[3])))


def _ranges(raw: Sequence[tuple[bytes, bytes | None, Verdict | None, int]]) -> Iterator[Element]:
    """Each element begins what reaches to the next one; an end begins nothing."""
    for number, (first, _, verdict, flag) in enumerate(raw):
        if flag:
            continue
        following = raw[number + 1][0] if number + 1 < len(raw) else None
        yield Element(first, _before(following) if following else b"\xff" * len(first), verdict)


def _before(key: bytes) -> bytes:
    return (int.from_bytes(key, "big") - 1).to_bytes(len(key), "big")


def _key_text(key: bytes, types: Sequence[str]) -> str:
    sizes = {"ifname": 16, "ipv6_addr": 16}
    if sum(sizes.get(each, 4) for each in types) != len(key):
        return key.hex(" ", 4)
    words = []
    for each in types:
        part, key = key[: sizes.get(each, 4)], key[sizes.get(each, 4) :]
        words.append(_field_text(part, each))
    return " . ".join(words)


def _field_text(part: bytes, kind: str) -> str:
    if kind == "ifname":
        return part.rstrip(b"\0").decode("ascii", "backslashreplace")
    if kind in ("ipv4_addr", "ipv6_addr"):
        return str(ipaddress.ip_address(part))
    return str(int.from_bytes(part[: {"inet_service": 2, "arp_op": 2}.get(kind, 1)], "big"))


def _check_levels(ruleset: Ruleset, source: str) -> None:
    """The bytecode's text hides the level of the cgroup, so each place is looked up in nft's own syntax."""
    loads = sum(isinstance(each, SocketCgroup) for rule in ruleset.rules for each in rule.expressions)
    levels = re.findall(r"socket cgroupv2 level (\d+)", source)
    for level in levels:
        if int(level) != CGROUP_LEVEL:
            raise InputError(f"`socket cgroupv2 level {level}` is not known: services are on level {CGROUP_LEVEL}")
    if len(levels) != loads:
        raise InputError("the level of `socket cgroupv2` does not show in the listing")
