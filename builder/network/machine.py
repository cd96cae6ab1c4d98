"""One rule over all packets of a space: the expressions become steps, each a question to boxes. Pure.

An expression that breaks is a question that the packet answers with no: the rule does not match, and the next one is
asked. So every load adds what the packet must have for it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from appliance.core.errors import InputError
from builder.network.boxes import Box, Union, meet
from builder.network.bytecode import (
    Bitwise,
    ByteOrder,
    Cmp,
    CtState,
    Immediate,
    Limit,
    Lookup,
    Meta,
    Payload,
    Range,
    SocketCgroup,
    Verdict,
    byte_offset,
)
from builder.network.intervals import IntervalSet, intersect, subtract, union, upto
from builder.network.listing import Element, Rule, Set, Table
from builder.network.space import ByteOf, Load, RegisterByte, Space

_MOST_INTERVALS = 4096


@dataclass(frozen=True, eq=False)
class Inside:
    """Go on with packets in one of the boxes; when inverted, in none.

    set, numbers: where the boxes come from, and which elements of it they are.
    verdicts: of the boxes, when it is a map. rest: the element `*` and its verdict, for packets in none of them.
    """

    union: Union
    inverted: bool = False
    set: str = ""
    numbers: tuple[int, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    rest: tuple[int, Verdict] | None = None

    @property
    def is_map(self) -> bool:
        return bool(self.verdicts) or self.rest is not None


@dataclass(frozen=True)
class Within:
    """Go on within a limit; when inverted, over it. key: which limit of which rule."""

    key: tuple[Rule, int]
    value: str
    inverted: bool


Step = Inside | Within


@dataclass(frozen=True, eq=False)
class Program:
    """A rule's steps, and the verdict behind them, unless a map gives it. has_effect: it can decide anything."""

    rule: Rule
    steps: tuple[Step, ...]
    verdict: Verdict | None

    @property
    def has_effect(self) -> bool:
        return self.verdict is not None or any(isinstance(step, Inside) and step.is_map for step in self.steps)


class Compiler:
    """Rules of one table to programs over one space; sets are turned to boxes once."""

    def __init__(self, table: Table, space: Space) -> None:
        self._table = table
        self._space = space
        self._unions: dict[tuple[str, tuple[RegisterByte, ...]], tuple[Union, tuple[int, ...]]] = {}

    def program(self, rule: Rule) -> Program:
        """Raises InputError, naming the rule, for what is not known."""
        try:
            return self._program(rule)
        except InputError as error:
            raise InputError(f"{rule}: {error.message}") from error

    def _program(self, rule: Rule) -> Program:
        registers: dict[int, RegisterByte] = {}
        steps: list[Step] = []
        verdict: Verdict | None = None
        for number, each in enumerate(rule.expressions):
            if verdict is not None or any(isinstance(step, Inside) and step.is_map for step in steps):
                raise InputError("an expression behind the verdict is not known")
            match each:
                case Meta() | Payload() | CtState() | SocketCgroup():
                    steps += self._load(each, registers)
                case Bitwise() | ByteOrder():
                    _rewrite(each, registers)
                case Cmp() | Range():
                    steps.append(self._compare(each, registers))
                case Lookup():
                    steps.append(self._lookup(each, registers))
                case Limit():
                    steps.append(Within((rule, number), each.value, each.inverted))
                case Immediate():
                    verdict = each.verdict
                case _:
                    pass
            if steps and _never(steps[-1]):
                # such as a compare with another family's number: the loads behind it are about headers not there
                return Program(rule, tuple(steps), Verdict("continue"))
        return Program(rule, tuple(steps), verdict)

    def _load(
        self, each: Meta | Payload | CtState | SocketCgroup, registers: dict[int, RegisterByte]
    ) -> Iterator[Step]:
        loaded: Load
        match each:
            case Meta():
                loaded = self._space.meta(each)
            case Payload():
                loaded = self._space.payload(each)
            case CtState():
                loaded = self._space.state()
            case _:
                loaded = self._space.cgroup()
        content, guard = loaded
        start = byte_offset(each.register)
        registers.update({start + index: byte for index, byte in enumerate(content)})
        needed = {
            field: values
            for field, values in guard.items()
            if intersect(values, self._space.domains[field]) != self._space.domains[field]
        }
        if needed:
            yield Inside(Union([needed]))

    def _compare(self, each: Cmp | Range, registers: dict[int, RegisterByte]) -> Inside:
        if isinstance(each, Range):
            content = _read(registers, each.register, len(each.first))
            _refuse_parts(content)
            box = self._between(content, each.first, each.last)
            return Inside(Union([] if box is None else [box]), inverted=each.op == "neq")
        content = _read(registers, each.register, len(each.data))
        if any(isinstance(byte, ByteOf) and byte.field in ("iif", "oif") for byte in content) and len(content) != 16:
            raise InputError("an interface name by its beginning is not known")
        if each.op in ("eq", "neq"):
            box = self._between(content, each.data, each.data)
            return Inside(Union([] if box is None else [box]), inverted=each.op == "neq")
        _refuse_parts(content)
        low, high = b"\0" * len(content), b"\xff" * len(content)
        first, last = (low, each.data) if each.op in ("lt", "lte") else (each.data, high)
        whole = self._between(content, first, last)
        edge = self._between(content, each.data, each.data)
        if each.op in ("lte", "gte") or whole is None or edge is None:
            return Inside(Union([] if whole is None else [whole]))
        ((field, values),) = whole.items()
        left = subtract(values, edge[field])
        return Inside(Union([{field: left}] if left else []))

    def _lookup(self, each: Lookup, registers: dict[int, RegisterByte]) -> Inside:
        found = self._table.sets[each.set]
        if each.has_verdict != found.is_map or (each.has_verdict and each.inverted):
            raise InputError(f"a lookup in {each.set} of this form is not known")
        rest = [(number, each) for number, each in enumerate(found.elements) if each.is_rest]
        if rest and not found.is_map:
            raise InputError(f"the element `*` of the set {each.set} is not known")
        keyed = [each for each in found.elements if not each.is_rest]
        boxes = Union([])
        numbers: tuple[int, ...] = ()
        if keyed:
            content = _read(registers, each.register, len(keyed[0].first))
            boxes, numbers = self._boxes(found, content)
        verdicts = tuple(_verdict(found.elements[number]) for number in numbers) if found.is_map else ()
        otherwise = (rest[0][0], _verdict(rest[0][1])) if rest else None
        return Inside(boxes, each.inverted, each.set, numbers, verdicts, otherwise)

    def _boxes(self, found: Set, content: tuple[RegisterByte, ...]) -> tuple[Union, tuple[int, ...]]:
        key = (found.name, content)
        if key not in self._unions:
            made = [
                (number, self._element(each, content)) for number, each in enumerate(found.elements) if not each.is_rest
            ]
            kept = [(number, box) for number, box in made if box is not None]
            boxes = Union([box for _, box in kept])
            _refuse_overlap(found, boxes, [number for number, _ in kept])
            self._unions[key] = boxes, tuple(number for number, _ in kept)
        return self._unions[key]

    def _element(self, each: Element, content: tuple[RegisterByte, ...]) -> Box | None:
        if len(each.first) != len(content):
            raise InputError("a key of another length than the set's is not known")
        return self._between(content, each.first, each.last)

    def _between(self, content: Sequence[RegisterByte], first: bytes, last: bytes) -> Box | None:
        """Packets for which each run of bytes of one field lies between its two ends."""
        found: dict[str, IntervalSet] = {}
        for start, end in _runs(content):
            run = content[start:end]
            if isinstance(run[0], int):
                if not first[start:end] <= bytes(run) <= last[start:end]:  # type: ignore[arg-type]
                    return None
            elif run[0] is not None:
                field = run[0].field
                if first[start:end] != last[start:end] and not _is_whole(content, start, end):
                    raise InputError("a range over a part of a register is not known")
                values = self._values(tuple(run), first[start:end], last[start:end])  # type: ignore[arg-type]
                found[field] = intersect(found.get(field, self._space.domains[field]), values)
                if not found[field]:
                    return None
        return found

    def _values(self, run: tuple[ByteOf, ...], first: bytes, last: bytes) -> IntervalSet:
        if first == last:
            return _masked(run, first, self._bits(run[0].field))
        low, high = run[-1].weight, run[0].weight
        in_order = all(byte.weight == high - index for index, byte in enumerate(run))
        plain = all(byte.mask == 0xFF and not byte.xor for byte in run)
        if not (in_order and plain and high == self._bits(run[0].field) // 8 - 1):
            return self._tried(run, first, last)
        begin, end = int.from_bytes(first, "big"), int.from_bytes(last, "big")
        return ((begin << 8 * low, ((end + 1) << 8 * low) - 1),) if begin <= end else ()

    def _tried(self, run: tuple[ByteOf, ...], first: bytes, last: bytes) -> IntervalSet:
        """A small field: every value is asked."""
        bits = self._bits(run[0].field)
        if bits > 16:
            raise InputError("a range over a part of a field is not known")
        return union((value, value) for value in range(1 << bits) if first <= _held(run, value) <= last)

    def _bits(self, field: str) -> int:
        """Whole bytes; what lies above them (no user, no protocol) is excluded by the load's guard."""
        last = {"user": (1 << 32) - 1, "protocol": 255}.get(field, self._space.domains[field][-1][1])
        return max(-(-last.bit_length() // 8) * 8, 8) if field not in ("iif", "oif") else 128


def _never(step: Step) -> bool:
    return isinstance(step, Inside) and not step.inverted and not step.union.boxes and not step.is_map and not step.set


def _verdict(element: Element) -> Verdict:
    if element.verdict is None:
        raise InputError("an element without a verdict in a map is not known")
    return element.verdict


def _rewrite(each: Bitwise | ByteOrder, registers: dict[int, RegisterByte]) -> None:
    target = byte_offset(each.target)
    if isinstance(each, ByteOrder):
        content = _read(registers, each.register, each.length)
        if each.length % each.size:
            raise InputError("a byte order of parts is not known")
        parts = [content[start : start + each.size][::-1] for start in range(0, each.length, each.size)]
        moved: Sequence[RegisterByte] = tuple(itertools.chain.from_iterable(parts))
    else:
        content = _read(registers, each.register, len(each.mask))
        moved = [_changed(byte, mask, xor) for byte, mask, xor in zip(content, each.mask, each.xor, strict=True)]
    registers.update({target + index: byte for index, byte in enumerate(moved)})


def _changed(byte: RegisterByte, mask: int, xor: int) -> RegisterByte:
    if byte is None:
        return None
    if isinstance(byte, int):
        return (byte & mask) ^ xor
    return ByteOf(byte.field, byte.weight, byte.mask & mask, (byte.xor & mask) ^ xor)


def _read(registers: dict[int, RegisterByte], register: int, length: int) -> tuple[RegisterByte, ...]:
    start = byte_offset(register)
    if missing := [start + index for index in range(length) if start + index not in registers]:
        raise InputError(f"the register {register} is read at byte {missing[0] - start}, where nothing was loaded")
    return tuple(registers[start + index] for index in range(length))


def _runs(content: Sequence[RegisterByte]) -> Iterator[tuple[int, int]]:
    """Where bytes of one kind or field begin and end. One field twice in a row is two runs."""
    start = 0
    for index in range(1, len(content) + 1):
        if index == len(content) or not _goes_on(content[index - 1], content[index]):
            yield start, index
            start = index


def _refuse_parts(content: Sequence[RegisterByte]) -> None:
    """The kernel compares the whole as one number: only one field may be in it."""
    if len([start for start, _ in _runs(content) if content[start] is not None]) != 1:
        raise InputError("an order of more than one field is not known")


def _is_whole(content: Sequence[RegisterByte], start: int, end: int) -> bool:
    """Whether a run fills its registers, but for padding behind it."""
    behind = content[end : end + -end % 4]
    return start % 4 == 0 and all(byte is None for byte in behind)


def _goes_on(byte: RegisterByte, after: RegisterByte) -> bool:
    if isinstance(byte, ByteOf) and isinstance(after, ByteOf):
        return byte.field == after.field and abs(byte.weight - after.weight) == 1
    return type(byte) is type(after)


def _held(run: Sequence[ByteOf], value: int) -> bytes:
    return bytes(((value >> 8 * byte.weight) & byte.mask) ^ byte.xor for byte in run)


def _masked(run: Sequence[ByteOf], data: bytes, bits: int) -> IntervalSet:
    """Values of a field whose bytes of `run` are `data`."""
    mask = value = 0
    for byte, wanted in zip(run, data, strict=True):
        if (wanted ^ byte.xor) & ~byte.mask & 0xFF:
            return ()
        mask |= byte.mask << 8 * byte.weight
        value |= (wanted ^ byte.xor) << 8 * byte.weight
    free = [bit for bit in range(bits) if not mask >> bit & 1]
    low = 0
    while low < bits and not mask >> low & 1:
        low += 1
    above = [bit for bit in free if bit > low]
    if 1 << len(above) > _MOST_INTERVALS:
        raise InputError("a mask with holes over a wide field is not known")
    found = []
    for chosen in range(1 << len(above)):
        start = value | sum(1 << bit for index, bit in enumerate(above) if chosen >> index & 1)
        found.append((start, start + (1 << low) - 1))
    return union(found) if mask else upto((1 << bits) - 1)


def _refuse_overlap(found: Set, boxes: Union, numbers: Sequence[int]) -> None:
    """Which of two elements that overlap is found depends on when each was added."""
    if not found.is_map:
        return
    for index, box in enumerate(boxes.boxes):
        for other in boxes.near(box):
            if other > index:
                both = meet(box, boxes.boxes[other])
                raise InputError(
                    f"elements {numbers[index] + 1} and {numbers[other] + 1} of {found.name} overlap: {both}"
                )
