"""Reads the protobuf messages of an ONNX file, and refuses what a lenient reader would pass over.

Only the fields that onnx.proto (IR version 13) names exist; a second value of a single field, an unknown field, a group
or a length beyond the end is an error. So nothing is in the file that the gate did not see and onnxruntime might.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from appliance.core.errors import DecodeError

Kind = Literal["int", "float", "double", "bytes", "ints", "floats", "doubles", "blobs"]
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_WIRE: dict[Kind, int] = {
    "int": _VARINT,
    "ints": _VARINT,
    "float": _FIXED32,
    "floats": _FIXED32,
    "double": _FIXED64,
    "doubles": _FIXED64,
    "bytes": _LENGTH,
    "blobs": _LENGTH,
}
_FIXED_SIZE = {_FIXED32: 4, _FIXED64: 8}


@dataclass(frozen=True)
class Shape:
    """The fields of one message: number -> (name, kind). A plural kind may repeat (numbers also packed)."""

    name: str
    fields: Mapping[int, tuple[str, Kind]]


@dataclass
class Message:
    """What was there. ints: packed numbers of fields of kind `ints`; sizes: bytes of data of any other field.

    values holds `bytes` and `blobs` as views into the file, numbers as int; fixed-size numbers are only counted.
    """

    shape: Shape
    values: dict[str, list[memoryview | int]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    def has(self, name: str) -> bool:
        """The field was written, even if it is empty."""
        return name in self.values

    def blobs(self, name: str) -> list[memoryview]:
        """Values of a `bytes` or `blobs` field."""
        return [value for value in self.values.get(name, []) if isinstance(value, memoryview)]

    def numbers(self, name: str) -> list[int]:
        """Values of an `int` or `ints` field, as signed 64-bit numbers."""
        return [value for value in self.values.get(name, []) if isinstance(value, int)]

    def number(self, name: str) -> int:
        """Value of an `int` field, 0 when it is absent."""
        return next(iter(self.numbers(name)), 0)

    def text(self, name: str) -> str:
        """Value of a `bytes` field as UTF-8, '' when it is absent. Raises DecodeError."""
        return next(iter(self.texts(name)), "")

    def texts(self, name: str) -> list[str]:
        """Values of a field as UTF-8. Raises DecodeError."""
        try:
            return [bytes(value).decode() for value in self.blobs(name)]
        except UnicodeDecodeError as error:
            raise DecodeError(f"{self.shape.name}.{name}: not UTF-8") from error


def read_message(data: memoryview, shape: Shape) -> Message:
    """Raises DecodeError on anything but exactly the fields of `shape`."""
    message = Message(shape)
    for number, wire, value in _fields(data, shape.name):
        if number not in shape.fields:
            raise DecodeError(f"{shape.name}: unknown field {number}")
        name, kind = shape.fields[number]
        _keep(message, name, kind, wire, value)
    return message


def _keep(message: Message, name: str, kind: Kind, wire: int, value: memoryview | int) -> None:
    place = f"{message.shape.name}.{name}"
    kept = message.values.setdefault(name, [])
    if kept and kind in ("int", "float", "double", "bytes"):
        raise DecodeError(f"{place}: given twice")
    if wire == _WIRE[kind]:
        kept.append(value)
        size = 8 if isinstance(value, int) else len(value)
    elif wire == _LENGTH and kind in ("ints", "floats", "doubles") and isinstance(value, memoryview):
        size = _keep_packed(kept, value, kind, place)
    else:
        raise DecodeError(f"{place}: wire type {wire}, expected {_WIRE[kind]}")
    message.sizes[name] = message.sizes.get(name, 0) + size


def _keep_packed(kept: list[memoryview | int], data: memoryview, kind: Kind, place: str) -> int:
    if kind == "ints":
        at, before = 0, len(kept)
        while at < len(data):
            value, at = _varint(data, at, place)
            kept.append(value)
        return 8 * (len(kept) - before)
    if len(data) % _FIXED_SIZE[_WIRE[kind]]:
        raise DecodeError(f"{place}: {len(data)} bytes are no whole number of values")
    kept.append(data)
    return len(data)


def _fields(data: memoryview, what: str) -> Iterator[tuple[int, int, memoryview | int]]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at, what)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(data, at, what)
            yield number, wire, value
            continue
        if wire == _LENGTH:
            size, at = _varint(data, at, what)
        elif wire in _FIXED_SIZE:
            size = _FIXED_SIZE[wire]
        else:
            raise DecodeError(f"{what}: field {number} has wire type {wire}")
        if not 0 <= size <= len(data) - at:
            raise DecodeError(f"{what}: field {number} needs {size} bytes, {len(data) - at} are left")
        yield number, wire, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int, what: str) -> tuple[int, int]:
    """(signed 64-bit value, index behind it)."""
    value = 0
    for count in range(10):
        if at + count >= len(data):
            raise DecodeError(f"{what}: ends within a number")
        byte = data[at + count]
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            if value >= 1 << 64:
                break
            return value - (1 << 64) if value >= 1 << 63 else value, at + count + 1
    raise DecodeError(f"{what}: a number of more than 64 bits")
