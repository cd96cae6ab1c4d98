"""Sparkplug B payloads as protobuf: the only module that imports google.protobuf.

The message types are built here from their field numbers (specification, chapter 6.4.1). What we neither write nor read
(data sets, templates, metadata, files) is not described, so it is skipped as unknown bytes and cannot nest.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from appliance.core.errors import DecodeError
from appliance.formats.sparkplug import (
    MAX_COMMAND_BYTES,
    MAX_COMMAND_METRICS,
    UNIT_PROPERTY,
    DataType,
    Metric,
    Payload,
    Value,
)

_PACKAGE = "edgeseal.sparkplug"
_VALUES = ("int_value", "long_value", "float_value", "double_value", "boolean_value", "string_value", "bytes_value")
_READ = frozenset(_VALUES)

# message -> (field, number, type). Types in capitals are messages; `*` repeats; `|` is one of the values.
_FIELDS: Final[dict[str, tuple[tuple[str, int, str], ...]]] = {
    "Payload": (("timestamp", 1, "uint64"), ("metrics", 2, "*Metric"), ("seq", 3, "uint64")),
    "Metric": (
        ("name", 1, "string"),
        ("alias", 2, "uint64"),
        ("timestamp", 3, "uint64"),
        ("datatype", 4, "uint32"),
        ("is_historical", 5, "bool"),
        ("is_null", 7, "bool"),
        ("properties", 9, "PropertySet"),
        ("int_value", 10, "|uint32"),
        ("long_value", 11, "|uint64"),
        ("float_value", 12, "|float"),
        ("double_value", 13, "|double"),
        ("boolean_value", 14, "|bool"),
        ("string_value", 15, "|string"),
        ("bytes_value", 16, "|bytes"),
    ),
    "PropertySet": (("keys", 1, "*string"), ("values", 2, "*PropertyValue")),
    "PropertyValue": (("type", 1, "uint32"), ("string_value", 8, "string")),
}


def _payload_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="edgeseal_sparkplug.proto", package=_PACKAGE, syntax="proto2")
    for name, fields in _FIELDS.items():
        described = file.message_type.add(name=name)
        if any(kind.startswith("|") for _, _, kind in fields):
            described.oneof_decl.add(name="value")
        for field, number, kind in fields:
            _describe(described.field.add(name=field, number=number), kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Payload"))


def _describe(field: Any, kind: str) -> None:
    shape = descriptor_pb2.FieldDescriptorProto
    field.label = shape.LABEL_REPEATED if kind.startswith("*") else shape.LABEL_OPTIONAL
    if kind.startswith("|"):
        field.oneof_index = 0
    bare = kind.lstrip("*|")
    if bare in _FIELDS:
        field.type, field.type_name = shape.TYPE_MESSAGE, f".{_PACKAGE}.{bare}"
    else:
        field.type = getattr(shape, f"TYPE_{bare.upper()}")


_Payload = _payload_class()


def encode_payload(payload: Payload) -> bytes:
    """The bytes of `payload`. A value's Python type decides its field: int is 64 bits wide (INT64), None is null.

    Raises ValueError on what has no field (float, bytes, negative or larger numbers).
    """
    wire = _Payload()
    if payload.timestamp is not None:
        wire.timestamp = payload.timestamp
    if payload.seq is not None:
        wire.seq = payload.seq
    for metric in payload.metrics:
        _write(wire.metrics.add(), metric)
    data: bytes = wire.SerializeToString(deterministic=True)
    return data


def _write(wire: Any, metric: Metric) -> None:
    if metric.name is not None:
        wire.name = metric.name
    if metric.alias is not None:
        wire.alias = metric.alias
    if metric.timestamp is not None:
        wire.timestamp = metric.timestamp
    if metric.datatype is not None:
        wire.datatype = metric.datatype
    if metric.historical:
        wire.is_historical = True
    if metric.unit is not None:
        wire.properties.keys.append(UNIT_PROPERTY)
        wire.properties.values.add(type=DataType.STRING, string_value=metric.unit)
    _write_value(wire, metric.value)


def _write_value(wire: Any, value: Value) -> None:
    match value:
        case None:
            wire.is_null = True
        case bool():
            wire.boolean_value = value
        case int():
            wire.long_value = value
        case str():
            wire.string_value = value
        case _:
            raise ValueError(f"no metric of ours is a {type(value).__name__}")


def decode_payload(
    data: bytes, *, max_bytes: int = MAX_COMMAND_BYTES, max_metrics: int = MAX_COMMAND_METRICS
) -> Payload:
    """A payload from the broker, not trusted. Raises DecodeError when it is no payload or larger than allowed.

    A signed number is read as the unsigned one that the wire holds.
    """
    if len(data) > max_bytes:
        raise DecodeError(f"Sparkplug payload: {len(data)} bytes, at most {max_bytes} are allowed")
    wire = _Payload()
    try:
        wire.ParseFromString(data)
        if len(wire.metrics) > max_metrics:
            raise DecodeError(f"Sparkplug payload: {len(wire.metrics)} metrics, at most {max_metrics} are allowed")
        return Payload(_given(wire, "timestamp"), _given(wire, "seq"), tuple(map(_read, wire.metrics)))
    except (message.DecodeError, UnicodeDecodeError) as error:
        raise DecodeError("Sparkplug payload: not protobuf of the specification's types") from error


def _given(wire: Any, field: str) -> Any:
    return getattr(wire, field) if wire.HasField(field) else None


def _read(wire: Any) -> Metric:
    which = wire.WhichOneof("value")
    null = wire.is_null or which not in _READ
    return Metric(
        name=_given(wire, "name"),
        alias=_given(wire, "alias"),
        timestamp=_given(wire, "timestamp"),
        datatype=_given(wire, "datatype"),
        value=None if null else getattr(wire, which),
        historical=wire.is_historical,
        unit=_unit(wire.properties),
    )


def _unit(properties: Any) -> str | None:
    for key, value in zip(properties.keys, properties.values, strict=False):
        if key == UNIT_PROPERTY and value.HasField("string_value"):
            unit: str = value.string_value
            return unit
    return None
