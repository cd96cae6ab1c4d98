"""What is generated from the payloads' types: a JSON Schema for consumers, and the reference page for people. Pure."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from appliance.formats.uplink_envelope import (
    BATCH_CONTENT,
    ENVELOPE_BYTES,
    MAX_BATCH_DECODED,
    MAX_BATCH_MESSAGES,
    MAX_BODY_BYTES,
    Accepted,
    Epoch,
    Sequence,
)
from appliance.formats.verdict import DeviceId
from builder.uplink.leaves import Leaf, leaves_of
from builder.uplink.payloads import MEANINGS, Payload, payloads
from builder.uplink.picture import thousands

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_HEAD = f"""# What the uplink publishes

<!-- written by `make golden` from the types in appliance/formats and the meanings in builder/uplink: edit those -->

Every message of the streams `alarm`, `data` and `audit` is one [envelope](../specs/uplink-envelope.md) on the topic
NAMESPACE/DEVICE/KIND, at most {thousands(ENVELOPE_BYTES)} bytes around its body. A backlog may travel as
`{BATCH_CONTENT}` on NAMESPACE/DEVICE/batch: one zstd frame of at most {MAX_BATCH_MESSAGES} envelopes, which a
consumer opens to at most {thousands(MAX_BATCH_DECODED)} bytes. For machines: [uplink.schema.json](uplink.schema.json)
(`edgeseal uplink schema` prints it). What a profile lets out, with its own topics: `edgeseal uplink prove PROFILE`.

Numbers are whole; their unit is in the meaning. Bytes count the field's JSON text.
"""


def uplink_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of every message, keys in a fixed order."""
    table = payloads()
    types = [each.of for each in table]
    _, components = msgspec.json.schema_components([Accepted, *types], ref_template="#/$defs/{name}")
    for of in (Accepted, *types):
        _describe(components[of.__name__], of)
    return {
        "$schema": _DIALECT,
        "title": "what an edgeseal device publishes",
        "oneOf": [_message(each) for each in table],
        "$defs": json.loads(json.dumps(components, sort_keys=True)),
    }


def uplink_schema_text() -> str:
    """The bytes of docs/reference/uplink.schema.json."""
    return json.dumps(uplink_schema(), indent=2, ensure_ascii=False) + "\n"


def _describe(schema: dict[str, Any], of: type) -> None:
    for name, field in schema["properties"].items():
        meaning = MEANINGS.get((of, name)) or MEANINGS.get((of, f"{name}[]"))
        if meaning is not None:
            field["description"] = meaning


def _message(payload: Payload) -> dict[str, Any]:
    body = {"$ref": f"#/$defs/{payload.of.__name__}"}
    if payload.stream is None:
        return {"title": payload.kind} | body
    properties = {
        "accepted": {"$ref": "#/$defs/Accepted"},
        "body": body,
        "device": _plain(DeviceId),
        "epoch": _plain(Epoch),
        "kind": {"const": payload.kind},
        "schema": {"const": 1},
        "sequence": _plain(Sequence),
        "stream": {"const": payload.stream},
    }
    return {
        "title": payload.kind,
        "type": "object",
        "properties": properties,
        "required": sorted(properties),
        "additionalProperties": False,
    }


def _plain(of: Any) -> dict[str, Any]:
    schema: dict[str, Any] = msgspec.json.schema(of)
    return dict(sorted(schema.items()))


def uplink_reference() -> str:
    """The text of docs/reference/uplink-payloads.md."""
    parts = [_HEAD, "\n## In every envelope: `accepted`\n\nWhen the spool took the message.\n\n"]
    parts.append(_table([(Accepted, leaf) for leaf in leaves_of(Accepted)], MAX_BODY_BYTES))
    for payload in payloads():
        lanes = " and ".join(f"`{lane}`" for lane in payload.lanes) or "none: it is said at once"
        parts.append(
            f"\n## `{payload.kind}`: {payload.what}\n\nFrom {', '.join(payload.senders)}; lane {lanes}; a body has at "
            f"most {thousands(payload.limit)} bytes.\n\n"
        )
        parts.append(_table([(payload.of, leaf) for leaf in payload.leaves], payload.limit))
    return "".join(parts)


def _table(leaves: list[tuple[type, Leaf]], limit: int) -> str:
    lines = ["| field | form | bytes | meaning |\n|---|---|---|---|\n"]
    for of, leaf in leaves:
        bound = "no bound" if leaf.bound is None else f"≤ {thousands(min(leaf.bound, limit))}"
        lines.append(f"| `{leaf.path}` | {leaf.form} | {bound} | {MEANINGS.get((of, leaf.path), '')} |\n")
    return "".join(lines)
