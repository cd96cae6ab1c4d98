"""One packet through the bytecode, expression by expression, as the kernel does it: slow, simple, and by itself. Pure.

It shares nothing with the prover but the readers: registers are real bytes here, headers are real headers. So it is a
second opinion on every verdict, and what real packets are compared with.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from appliance.core.errors import InputError
from builder.network.bytecode import (
    Bitwise,
    ByteOrder,
    Cmp,
    CtState,
    Expression,
    Immediate,
    Limit,
    Lookup,
    Meta,
    Note,
    Payload,
    Range,
    SocketCgroup,
    Verdict,
    byte_offset,
)
from builder.network.listing import Chain, Element, Rule, Ruleset, Table
from builder.network.packet import Packet
from builder.network.space import NO_PROTOCOL, STATE_BITS

_FAMILIES = {"ipv4": ("inet", "ip"), "ipv6": ("inet", "ip6"), "arp": ("arp",)}
_REGISTERS = 64


@dataclass(frozen=True)
class Result:
    """rule: the one that decided; None when it was the policy of `chain`, or no chain looks at such a packet."""

    verdict: Literal["accept", "drop"]
    rule: Rule | None
    chain: str


class _Break(Exception):  # noqa: N818  nf_tables' own word: the rule does not match
    pass


def verdict(ruleset: Ruleset, packet: Packet, *, cgroups: Mapping[str, int], over: bool = False) -> Result:
    """What becomes of `packet`: every base chain of its hook and family must accept it, in the order of priorities.

    cgroups: the ID of each cgroup by the name that the packet gives it, as the sets of `ruleset` hold them.
    over: whether every limit is exceeded.
    """
    hooked = [
        (chain.priority, table, chain)
        for table in ruleset.tables
        for chain in table.chains.values()
        if chain.hook == packet.hook and table.family in _FAMILIES[packet.family]
    ]
    result = Result("accept", None, "")
    for _, table, chain in sorted(hooked, key=lambda each: each[0]):
        result = _Run(table, packet, cgroups, over).base(chain)
        if result.verdict == "drop":
            break
    return result


class _Run:
    """One packet in one table."""

    def __init__(self, table: Table, packet: Packet, cgroups: Mapping[str, int], over: bool) -> None:
        self._table = table
        self._packet = packet
        self._cgroups = cgroups
        self._over = over
        self._registers = bytearray(_REGISTERS)
        self._loaded: dict[int, int] = {}

    def base(self, chain: Chain) -> Result:
        found = self._chain(chain)
        return found or Result("accept" if chain.policy == "accept" else "drop", None, chain.name)

    def _chain(self, chain: Chain) -> Result | None:
        """None: the packet comes back."""
        for rule in chain.rules:
            found = self._rule(rule)
            match found.kind:
                case "accept" | "drop":
                    return Result(found.kind, rule, chain.name)
                case "return":
                    return None
                case "goto":
                    return self._chain(self._table.chains[found.chain])
                case "jump":
                    result = self._chain(self._table.chains[found.chain])
                    if result is not None:
                        return result
        return None

    def _rule(self, rule: Rule) -> Verdict:
        found = Verdict("continue")
        try:
            for each in rule.expressions:
                found = self._expression(each) or found
        except _Break:
            return Verdict("continue")
        return found

    def _expression(self, each: Expression) -> Verdict | None:
        match each:
            case Meta():
                self._store(each.register, self._meta(each.key))
            case Payload():
                self._store(each.register, self._payload(each))
            case CtState():
                self._store(each.register, STATE_BITS[self._packet.state].to_bytes(4, sys.byteorder))
            case SocketCgroup():
                if self._packet.cgroup not in self._cgroups:
                    raise _Break
                self._store(each.register, self._cgroups[self._packet.cgroup].to_bytes(8, sys.byteorder))
            case Bitwise():
                content = self._load(each.register, len(each.mask))
                changed = bytes((a & b) ^ c for a, b, c in zip(content, each.mask, each.xor, strict=True))
                self._store(each.target, changed)
            case ByteOrder():
                content = self._load(each.register, each.length)
                if sys.byteorder == "little":
                    parts = range(0, each.length, each.size)
                    content = b"".join(content[start : start + each.size][::-1] for start in parts)
                self._store(each.target, content)
            case Cmp() | Range():
                self._compare(each)
            case Lookup():
                return self._lookup(each)
            case Immediate():
                return each.verdict
            case Limit():
                if each.inverted != self._over:
                    raise _Break
            case Note():
                pass
        return None

    def _store(self, register: int, content: bytes) -> None:
        start = byte_offset(register)
        padded = content + bytes(-len(content) % 4)
        self._registers[start : start + len(padded)] = padded
        self._loaded[start] = len(padded)

    def _load(self, register: int, length: int) -> bytes:
        start = byte_offset(register)
        return bytes(self._registers[start : start + length])

    def _meta(self, key: str) -> bytes:
        packet = self._packet
        if key == "nfproto":
            return bytes(({"ipv4": 2, "ipv6": 10, "arp": 3}[packet.family],))
        if key == "protocol":
            return {"ipv4": b"\x08\x00", "ipv6": b"\x86\xdd", "arp": b"\x08\x06"}[packet.family]
        if key in ("iifname", "oifname"):
            return (packet.iif if key == "iifname" else packet.oif).encode().ljust(16, b"\0")
        if key == "l4proto":
            if packet.family == "arp" or packet.protocol == NO_PROTOCOL:
                raise _Break
            return bytes((packet.protocol,))
        if packet.user is None:
            raise _Break
        return packet.user.to_bytes(4, sys.byteorder)

    def _payload(self, each: Payload) -> bytes:
        header = self._packet.network_header() if each.base == "network" else self._packet.transport_header()
        if header is None or each.offset + each.length > len(header):
            raise _Break
        return header[each.offset : each.offset + each.length]

    def _compare(self, each: Cmp | Range) -> None:
        if isinstance(each, Range):
            content = self._load(each.register, len(each.first))
            if (each.first <= content <= each.last) != (each.op == "eq"):
                raise _Break
            return
        content = self._load(each.register, len(each.data))
        held = {
            "eq": content == each.data,
            "neq": content != each.data,
            "lt": content < each.data,
            "lte": content <= each.data,
            "gt": content > each.data,
            "gte": content >= each.data,
        }
        if not held[each.op]:
            raise _Break

    def _lookup(self, each: Lookup) -> Verdict | None:
        found = self._table.sets[each.set]
        element = self._find(each.register, found.elements)
        if (element is None) != each.inverted:
            raise _Break
        if not each.has_verdict:
            return None
        if element is None or element.verdict is None:
            raise InputError(f"{each.set}: an element without a verdict")
        return element.verdict

    def _find(self, register: int, elements: Sequence[Element]) -> Element | None:
        """A key's fields are what was loaded one behind the other; each is one number between its two ends."""
        for element in elements:
            if not element.is_rest and self._holds(register, element):
                return element
        return next((element for element in elements if element.is_rest), None)

    def _holds(self, register: int, element: Element) -> bool:
        start, end = byte_offset(register), 0
        content = self._load(register, len(element.first))
        while end < len(content):
            begin, end = end, end + self._loaded[start + end]
            if not element.first[begin:end] <= content[begin:end] <= element.last[begin:end]:
                return False
        return True
