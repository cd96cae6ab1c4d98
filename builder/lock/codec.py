"""Bytes of a lock: JSON with one item a line, so that a diff of two locks reads like a list of packages."""

from __future__ import annotations

import json

import msgspec

from appliance.core.errors import DecodeError, Place
from builder.lock.types import Lock

_LISTS = ("packages", "wheels")


def encode_lock(lock: Lock) -> bytes:
    """Deterministic: same lock, same bytes."""
    value = msgspec.to_builtins(lock)
    lines = [f" {json.dumps(key)}: {json.dumps(item)}" for key, item in sorted(value.items()) if key not in _LISTS]
    for key in _LISTS:
        items = [f"  {json.dumps(item, sort_keys=True)}" for item in value[key]]
        body = "[\n" + ",\n".join(items) + "\n ]" if items else "[]"
        lines.append(f" {json.dumps(key)}: {body}")
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def decode_lock(data: bytes, *, file: str) -> Lock:
    """file: its name, for the error. Raises DecodeError on any other shape or a second spelling of the same lock."""
    hint = "locks are written by `edgeseal lock PROFILE`, never by hand"
    try:
        lock = msgspec.json.decode(data, type=Lock)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DecodeError(f"not a lock: {error}", place=Place(file), hint=hint) from error
    if encode_lock(lock) != data:
        raise DecodeError("not in canonical form", place=Place(file), hint=hint)
    for items in (lock.packages, lock.wheels):
        names = [item.name for item in items]
        if names != sorted(set(names)):
            raise DecodeError("items are not sorted by name, or one stands twice", place=Place(file), hint=hint)
    return lock
