"""Canonical JSON: the one byte sequence for a value (RFC 8785 for the values that we use: no floats).

Keys sorted by code point, no white space, UTF-8, no escapes beyond those JSON needs, one final newline.
"""

from __future__ import annotations

import json
from typing import Any


def canonical_json(value: Any) -> bytes:
    """value: dict, list, str, int, bool, None, nested. Raises TypeError or ValueError on anything else."""
    _refuse_floats(value)
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def _refuse_floats(value: Any) -> None:
    if isinstance(value, float):
        raise TypeError("a float has no single canonical form here: use an integer in a smaller unit")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError("keys of a canonical object are strings")
            _refuse_floats(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _refuse_floats(item)
