"""The site's word on where a device stands: credential edgeseal.namespace. Spec: docs/specs/device-config.md."""

from __future__ import annotations

import msgspec

from appliance.core.errors import DecodeError
from appliance.formats.device import Namespace

NAMESPACE_CREDENTIAL = "edgeseal.namespace"
MAX_NAMESPACE_BYTES = 1024
_HINT = 'write it like {"enterprise": "example", "site": "plant-4", "line": "line-3"}'


def decode_namespace(data: bytes) -> Namespace:
    """A JSON object with the keys of Namespace, in any order and with any white space: people write it.

    Raises DecodeError on any other key, a level that is none, and a cell of no line.
    """
    if len(data) > MAX_NAMESPACE_BYTES:
        raise DecodeError(f"credential {NAMESPACE_CREDENTIAL}: {len(data)} bytes, at most {MAX_NAMESPACE_BYTES}")
    try:
        namespace = msgspec.json.decode(data, type=Namespace)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DecodeError(f"credential {NAMESPACE_CREDENTIAL}: {error}", hint=_HINT) from error
    if namespace.cell is not None and namespace.line is None:
        raise DecodeError(
            f"credential {NAMESPACE_CREDENTIAL}: `cell` without the `line` that it is part of", hint=_HINT
        )
    return namespace
