"""nftables' bytecode: one expression per line of `nft --debug=netlink`, read strictly. Pure.

What the expressions do is nf_tables' (Linux, net/netfilter/nft_*.c); their text is libnftnl's. An expression, a key, an
option or a form that is not known here is refused: a proof must not guess.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from appliance.core.errors import InputError

Compare = Literal["eq", "neq", "lt", "lte", "gt", "gte"]
Base = Literal["network", "transport"]

VERDICTS = ("accept", "drop", "return", "jump", "goto", "continue")
META_KEYS = ("nfproto", "protocol", "l4proto", "iifname", "oifname", "skuid")


@dataclass(frozen=True)
class Verdict:
    """kind: one of VERDICTS. chain: where jump and goto lead."""

    kind: str
    chain: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.chain}".strip()


@dataclass(frozen=True)
class Meta:
    """Load a fact about the packet; host byte order. Breaks where there is none."""

    key: str
    register: int


@dataclass(frozen=True)
class Payload:
    """Load `length` bytes at `offset` of a header. Breaks where the packet does not have them."""

    base: Base
    offset: int
    length: int
    register: int


@dataclass(frozen=True)
class CtState:
    """Load the state of the connection as a bit (NF_CT_STATE_BIT), in host byte order."""

    register: int


@dataclass(frozen=True)
class SocketCgroup:
    """Load the ID of the socket's cgroup (8 bytes) at the second level. Breaks without a full socket."""

    register: int


@dataclass(frozen=True)
class Bitwise:
    """target = (register & mask) ^ xor, byte by byte."""

    target: int
    register: int
    mask: bytes
    xor: bytes


@dataclass(frozen=True)
class ByteOrder:
    """Reverse each `size` bytes of `length` on a little-endian machine; nothing on a big-endian one."""

    target: int
    register: int
    length: int
    size: int


@dataclass(frozen=True)
class Cmp:
    """Go on when the register compares so with `data`, as bytes in memory order."""

    op: Compare
    register: int
    data: bytes


@dataclass(frozen=True)
class Range:
    """Go on when `first` <= register <= `last`, or not (op neq)."""

    op: Literal["eq", "neq"]
    register: int
    first: bytes
    last: bytes


@dataclass(frozen=True)
class Lookup:
    """Go on when the register is in the set, or not (inverted). has_verdict: the element's verdict is taken."""

    register: int
    set: str
    has_verdict: bool
    inverted: bool


@dataclass(frozen=True)
class Immediate:
    """Take the verdict."""

    verdict: Verdict


@dataclass(frozen=True)
class Limit:
    """Go on within the limit; when inverted, over it. value: what the rule says, for comparison and for people."""

    value: str
    inverted: bool


@dataclass(frozen=True)
class Note:
    """A counter or a log entry: no effect on the packet."""

    kind: str


Expression = (
    Meta | Payload | CtState | SocketCgroup | Bitwise | ByteOrder | Cmp | Range | Lookup | Immediate | Limit | Note
)


def parse_expression(text: str) -> Expression:
    """text: what stands between the brackets. Raises InputError when it is not known."""
    for pattern, make in _FORMS:
        if match := pattern.fullmatch(text):
            return make(match.groups())
    raise InputError(f"the expression `{text}` is not known")


def words_to_bytes(words: str) -> bytes:
    """`0x0000010a` or `696c7075 00306b6e`: registers of 32 bits as the machine holds them, to bytes in memory order."""
    return b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words.split())


def byte_offset(register: int) -> int:
    """Where a register begins in the 64 bytes: 1 to 4 are 16 bytes each, 8 to 23 are 4 each (enum nft_registers)."""
    if 1 <= register <= 4:
        return (register - 1) * 16
    if 8 <= register <= 23:
        return (register - 8) * 4
    raise InputError(f"the register {register} is not known")


def parse_verdict(text: str) -> Verdict:
    """`drop` or `goto -> c_broker`."""
    kind, _, chain = text.partition(" -> ")
    if kind not in VERDICTS or bool(chain) != (kind in ("jump", "goto")):
        raise InputError(f"the verdict `{text}` is not known")
    return Verdict(kind, chain)


def _meta(groups: Sequence[str]) -> Meta:
    if groups[0] not in META_KEYS:
        raise InputError(f"the key `meta {groups[0]}` is not known")
    return Meta(groups[0], int(groups[1]))


def _limit(groups: Sequence[str]) -> Limit:
    rate, unit, burst, flags = groups
    return Limit(f"{rate}/{unit} burst {burst}", flags == "1")


def _lookup(groups: Sequence[str]) -> Lookup:
    register, name, target, flags = groups
    return Lookup(int(register), name, target is not None, flags == "1")


def _range(groups: Sequence[str]) -> Range:
    data = words_to_bytes(groups[2])
    half = len(data) // 2
    if len(data) % 8:
        raise InputError(f"the range `{groups[2]}` has two ends of different length")
    return Range("eq" if groups[0] == "eq" else "neq", int(groups[1]), data[:half], data[half:])


_WORDS = r"((?:0x[0-9a-f]{8} ?)+)"
_Maker = Callable[[Sequence[str]], Expression]
_FORMS: tuple[tuple[re.Pattern[str], _Maker], ...] = tuple(
    (re.compile(pattern), make)
    for pattern, make in (
        (r"meta load (\w+) => reg (\d+)", _meta),
        (
            r"payload load (\d+)b @ (network|transport) header \+ (\d+) => reg (\d+)",
            lambda g: Payload(g[1], int(g[2]), int(g[0]), int(g[3])),
        ),
        (r"ct load state => reg (\d+)", lambda g: CtState(int(g[0]))),
        (r"socket load cgroupv2 => reg (\d+)", lambda g: SocketCgroup(int(g[0]))),
        (
            rf"bitwise reg (\d+) = \( reg (\d+) & {_WORDS}\) \^ {_WORDS}",
            lambda g: Bitwise(int(g[0]), int(g[1]), words_to_bytes(g[2]), words_to_bytes(g[3])),
        ),
        (
            r"byteorder reg (\d+) = (?:hton|ntoh)\(reg (\d+), (\d+), (\d+)\)",
            # libnftnl prints size before length
            lambda g: ByteOrder(int(g[0]), int(g[1]), int(g[3]), int(g[2])),
        ),
        (
            rf"cmp (eq|neq|lt|lte|gt|gte) reg (\d+) {_WORDS}",
            lambda g: Cmp(g[0], int(g[1]), words_to_bytes(g[2])),
        ),
        (rf"range (eq|neq) reg (\d+) {_WORDS}", _range),
        (r"lookup reg (\d+) set (\S+)(?: dreg (0))? 0x([01])", _lookup),
        (r"immediate reg 0 (.+)", lambda g: Immediate(parse_verdict(g[0]))),
        (r"limit rate (\d+)/(second|minute|hour|day|week) burst (\d+) type packets flags 0x([01])", _limit),
        (r"connlimit count (\d+) flags ([01])", lambda g: Limit(f"connections {g[0]}", g[1] == "1")),
        (r"counter pkts \d+ bytes \d+", lambda _: Note("counter")),
        (r"log prefix .* group \d+ snaplen \d+ qthreshold \d+", lambda _: Note("log")),
    )
)
