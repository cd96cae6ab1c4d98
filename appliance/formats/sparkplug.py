"""Values of Sparkplug B 3.0 (ISO/IEC 20237): topics, payloads, the primary host's state.

Which assertions of the specification we meet, and how: docs/reference/sparkplug.md.
Which bytes a payload has is the business of appliance.uplink.sparkplug_payload, which alone needs protobuf.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Literal

import msgspec

from appliance.core.errors import DecodeError

NAMESPACE = "spBv1.0"
BDSEQ = "bdSeq"
REBIRTH = "Node Control/Rebirth"
UNIT_PROPERTY = "engUnit"
SEQUENCES = 256  # seq and bdSeq are 0 to 255, then 0 again
MAX_COMMAND_BYTES = 16 << 10
MAX_COMMAND_METRICS = 256
MAX_STATE_BYTES = 1024

NodeMessage = Literal["NBIRTH", "NDATA", "NDEATH", "NCMD"]


class DataType(IntEnum):
    """Those of the specification's numbers that we use; counts of ours fit into 63 bits."""

    INT64 = 4
    BOOLEAN = 11
    STRING = 12


Value = int | str | bool | float | bytes | None
"""Of a metric; None is Sparkplug's null, or a kind of value that we never read."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of a payload. timestamp: ms since 1970, UTC. unit: becomes the property engUnit.

    A birth gives name, alias and datatype, data afterwards the alias only.
    """

    name: str | None = None
    alias: int | None = None
    timestamp: int | None = None
    datatype: int | None = None
    value: Value = None
    historical: bool = False
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class Payload:
    """One message. timestamp: of sending, ms since 1970, UTC. seq: 0 to 255; a death has none."""

    timestamp: int | None
    seq: int | None
    metrics: tuple[Metric, ...]


class HostState(msgspec.Struct, frozen=True, kw_only=True):
    """What the primary host says of itself; keys that we do not know are passed over, as the specification grows.

    timestamp: ms since 1970, of its connection when it dies unseen.
    """

    online: bool
    timestamp: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


def node_topic(group: str, message: NodeMessage, node: str) -> str:
    """The topic of an edge node's own messages and commands."""
    return f"{NAMESPACE}/{group}/{message}/{node}"


def state_topic(host: str) -> str:
    """Where the host application `host` says whether it is online."""
    return f"{NAMESPACE}/STATE/{host}"


def decode_host_state(data: bytes) -> HostState:
    """Raises DecodeError on anything but a JSON object with a boolean `online` and a whole `timestamp`."""
    if len(data) > MAX_STATE_BYTES:
        raise DecodeError(f"STATE: {len(data)} bytes, at most {MAX_STATE_BYTES} are allowed")
    try:
        return msgspec.json.decode(data, type=HostState)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(f"STATE: {error}") from error
