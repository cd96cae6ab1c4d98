"""Sparkplug payloads read by hand, without protobuf and without our encoder: what the bytes say, field by field."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

VALUES = {10: "int", 11: "long", 12: "float", 13: "double", 14: "boolean", 15: "string", 16: "bytes", 17: "dataset"}
VALUES |= {18: "template", 19: "extension"}


@dataclass(frozen=True)
class WireMetric:
    """Fields as they stand in the bytes; None where the field is missing. kind: which of the value fields is there."""

    name: str | None
    alias: int | None
    timestamp: int | None
    datatype: int | None
    historical: bool
    null: bool
    kind: str | None
    value: int | str | bytes | None
    properties: tuple[tuple[str, int | None, bytes | int | None], ...]


@dataclass(frozen=True)
class WirePayload:
    timestamp: int | None
    seq: int | None
    metrics: tuple[WireMetric, ...]


def read_payload(data: bytes) -> WirePayload:
    """Raises ValueError on anything that is no payload, on unknown fields too: we write none."""
    fields = list(_fields(data))
    if {number for number, _ in fields} - {1, 2, 3}:
        raise ValueError(f"unknown fields in the payload: {sorted({number for number, _ in fields})}")
    metrics = tuple(_metric(value) for number, value in fields if number == 2 and isinstance(value, bytes))
    return WirePayload(_number(fields, 1), _number(fields, 3), metrics)


def _metric(data: bytes) -> WireMetric:
    fields = list(_fields(data))
    found = [number for number, _ in fields if number in VALUES]
    if len(found) > 1 or {number for number, _ in fields} - {1, 2, 3, 4, 5, 7, 9} - VALUES.keys():
        raise ValueError("a metric with two values or unknown fields")
    last = dict(fields)
    kind = VALUES[found[0]] if found else None
    value = last[found[0]] if found else None
    if kind == "string" and isinstance(value, bytes):
        value = value.decode()
    properties = last.get(9)
    return WireMetric(
        name=_text(fields, 1),
        alias=_number(fields, 2),
        timestamp=_number(fields, 3),
        datatype=_number(fields, 4),
        historical=_number(fields, 5) == 1,
        null=_number(fields, 7) == 1,
        kind=kind,
        value=value,
        properties=tuple(_properties(properties)) if isinstance(properties, bytes) else (),
    )


def _properties(data: bytes) -> Iterator[tuple[str, int | None, bytes | int | None]]:
    fields = list(_fields(data))
    keys = [value for number, value in fields if number == 1]
    values = [value for number, value in fields if number == 2]
    for key, value in zip(keys, values, strict=True):  # as many of the one as of the other
        assert isinstance(key, bytes)
        assert isinstance(value, bytes)
        inner = list(_fields(value))
        yield key.decode(), _number(inner, 1), dict(inner).get(8)


def _number(fields: list[tuple[int, int | bytes]], wanted: int) -> int | None:
    found = [value for number, value in fields if number == wanted]
    if not found:
        return None
    if len(found) > 1 or not isinstance(found[0], int):
        raise ValueError(f"field {wanted} is no single number")
    return found[0]


def _text(fields: list[tuple[int, int | bytes]], wanted: int) -> str | None:
    found = [value for number, value in fields if number == wanted]
    if not found:
        return None
    if len(found) > 1 or not isinstance(found[0], bytes):
        raise ValueError(f"field {wanted} is no single text")
    return found[0].decode()


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) of a protobuf message: varints as int, everything else as bytes."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        match key & 7:
            case 0:
                value, place = _varint(data, place)
                yield key >> 3, value
            case 2:
                size, place = _varint(data, place)
                if place + size > len(data):
                    raise ValueError("a field ends behind the message")
                yield key >> 3, data[place : place + size]
                place += size
            case other:
                raise ValueError(f"wire type {other}, which no field of ours has")


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            raise ValueError("a number ends behind the message")
        value |= (data[place] & 0x7F) << shift
        place += 1
        if data[place - 1] < 0x80:
            return value, place
    raise ValueError("a number with more than 64 bits")
