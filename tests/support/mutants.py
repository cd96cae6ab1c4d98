"""Systematic mistakes in a ruleset: every rule dropped, every condition of it, every element, neighbours swapped.

Two tests share them: the proof must find every mutant that behaves differently, and real packets must too.
"""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["drop-rule", "drop-condition", "swap-rules", "drop-element", "widen-element", "policy"]


@dataclass(frozen=True)
class Mutant:
    """line: of the ruleset, counted from 1. change: what was done to it, for messages. ruleset: the whole text."""

    kind: Kind
    line: int
    change: str
    ruleset: bytes

    def __str__(self) -> str:
        return f"line {self.line}: {self.kind}: {self.change}"


CONDITIONS = (
    r"ct state (?!vmap)(?:\w+|\{ [^}]*\}) ",
    r"socket cgroupv2 level 2 @\S+ ",
    r"limit rate over \S+ burst \d+ packets ",
    r"ct count over \d+ ",
    r"ip6 hoplimit 255 ",
    r"arp (?:htype|ptype|hlen|plen) \S+ ",
    r"(?:ip|ip6|arp) [sd]addr(?: ip)? (?:!= )?@\w+ ",
    r"meta nfproto \w+ ",
    r"meta skuid \d+ ",
)
"""What stands before a verdict, and can be forgotten."""


def mutants(ruleset: bytes) -> Iterator[Mutant]:
    """Each has exactly one change. Some say the same as the original; some the kernel does not load."""
    lines = ruleset.decode().splitlines()
    rules = list(_rule_lines(lines))
    for index in rules:
        yield _replaced(lines, index, None, "drop-rule", lines[index].strip())
        yield from _without_conditions(lines, index)
        yield from _inline_elements(lines, index)
    for one, other in itertools.pairwise(rules):
        if other == one + 1 and lines[one] != lines[other]:
            yield _swapped(lines, one)
    for index in _set_lines(lines):
        yield from _inline_elements(lines, index)
        yield from _wider_inline(lines, index)
    for index in _element_lines(lines):
        yield _replaced(lines, index, None, "drop-element", lines[index].strip())
        for wider in _wider(lines[index]):
            yield _replaced(lines, index, wider, "widen-element", f"{lines[index].strip()} becomes {wider.strip()}")
    for index, line in enumerate(lines):
        if "policy drop;" in line:
            yield _replaced(lines, index, line.replace("policy drop", "policy accept"), "policy", line.strip())


def _rule_lines(lines: list[str]) -> Iterator[int]:
    in_chain = False
    for index, line in enumerate(lines):
        if line.startswith("\tchain "):
            in_chain = True
        elif line == "\t}":
            in_chain = False
        elif in_chain and line.strip() and not line.strip().startswith(("type ", "#")):
            yield index


def _set_lines(lines: list[str]) -> Iterator[int]:
    """Lines that hold all elements of a set: `elements = { 192.0.2.1, 198.51.100.0/24 }`."""
    return (index for index, line in enumerate(lines) if re.fullmatch(r"\t\telements = \{ .+ \}", line))


def _element_lines(lines: list[str]) -> Iterator[int]:
    """Lines of one element in a named map: `192.0.2.1 . 6 . 443 : goto c_x,`, or added behind the table."""
    form = re.compile(r"(?:\t\t\t|add element \w+ \w+ \w+ \{ )\S.* : goto \S+,?(?: \})?")
    return (index for index, line in enumerate(lines) if form.fullmatch(line))


def _without_conditions(lines: list[str], index: int) -> Iterator[Mutant]:
    for pattern in CONDITIONS:
        for match in re.finditer(pattern, lines[index]):
            left = lines[index][: match.start()] + lines[index][match.end() :]
            if left.strip():
                yield _replaced(lines, index, left, "drop-condition", f"{match[0].strip()} of {lines[index].strip()}")


def _inline_elements(lines: list[str], index: int) -> Iterator[Mutant]:
    """Elements of a set that stands in the rule itself: `vmap { new : jump a, established : jump b }`."""
    found = re.search(r"\{ (.+?),? \}", lines[index])
    parts = found[1].split(", ") if found else []
    for number, part in enumerate(parts):
        kept = ", ".join(parts[:number] + parts[number + 1 :])
        if found and kept:
            line = lines[index][: found.start(1)] + kept + lines[index][found.end(1) :]
            yield _replaced(lines, index, line, "drop-element", f"{part} of {lines[index].strip()}")


def _wider_inline(lines: list[str], index: int) -> Iterator[Mutant]:
    found = re.search(r"\{ (.+?),? \}", lines[index])
    parts = found[1].split(", ") if found else []
    for number, part in enumerate(parts):
        *before, last = part.split(" . ")
        wider = _wider_field(last, is_port=False)
        if found and wider is not None:
            whole = ", ".join((*parts[:number], " . ".join((*before, wider)), *parts[number + 1 :]))
            line = lines[index][: found.start(1)] + whole + lines[index][found.end(1) :]
            yield _replaced(lines, index, line, "widen-element", f"{part} to {wider}")


def _wider(line: str) -> Iterator[str]:
    """One field of the key with twice the addresses, or the next port too."""
    indent = line[: line.index("{ ") + 2] if "{ " in line else "\t\t\t"
    key, _, verdict = line.removeprefix(indent).rpartition(" : ")
    fields = key.split(" . ")
    for number, field in enumerate(fields):
        wider = _wider_field(field, is_port=number == len(fields) - 1 and fields[number - 1] in ("6", "17"))
        if wider is not None:
            yield f"{indent}{' . '.join((*fields[:number], wider, *fields[number + 1 :]))} : {verdict}"


def _wider_field(field: str, *, is_port: bool) -> str | None:
    if is_port:
        first, _, last = field.partition("-")
        return f"{first}-{min(int(last or first) + 1, 65535)}"
    try:
        return str(ipaddress.ip_network(field).supernet())
    except ValueError:
        return None


def _replaced(lines: list[str], index: int, line: str | None, kind: Kind, change: str) -> Mutant:
    changed = [*lines[:index], *([] if line is None else [line]), *lines[index + 1 :]]
    return Mutant(kind, index + 1, change, _text(changed))


def _swapped(lines: list[str], index: int) -> Mutant:
    changed = [*lines[:index], lines[index + 1], lines[index], *lines[index + 2 :]]
    change = f"{lines[index].strip()} and {lines[index + 1].strip()}"
    return Mutant("swap-rules", index + 1, change, _text(changed))


def _text(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
