"""A recorded conversation of an edge node with its broker, connection by connection, for the clause checker."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.support.sparkplug_wire import WireMetric, WirePayload, read_payload


@dataclass(frozen=True)
class Message:
    """One MQTT publication. at_ms: the true time, ms since 1970, UTC."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    at_ms: int

    @property
    def type(self) -> str:
        """NBIRTH, NDATA …, or an empty text for what is no message of an edge node."""
        levels = self.topic.split("/")
        return levels[2] if levels[0] == "spBv1.0" and len(levels) > 2 and levels[1] != "STATE" else ""

    @functools.cached_property
    def read(self) -> WirePayload:
        return read_payload(self.payload)


@dataclass(frozen=True)
class Connect:
    """CONNECT. expiry: of the session, seconds. broker: which one."""

    will: Message | None
    version: int = 5
    clean_start: bool = True
    expiry: int = 0
    broker: str = ""


@dataclass(frozen=True)
class Subscribe:
    topic: str
    qos: int


@dataclass(frozen=True)
class Said:
    """From the node."""

    message: Message


@dataclass(frozen=True)
class Heard:
    """To the node."""

    message: Message


@dataclass(frozen=True)
class Ended:
    """reason: of the node's DISCONNECT; None when there was none."""

    reason: int | None


@dataclass(frozen=True)
class Restarted:
    """The node's process began anew: it has heard of nobody yet."""


Record = Connect | Subscribe | Said | Heard | Ended | Restarted


@dataclass(frozen=True)
class Connection:
    """CONNECT and all that followed it, in order."""

    connect: Connect
    records: tuple[Record, ...]

    @property
    def said(self) -> list[Message]:
        return [record.message for record in self.records if isinstance(record, Said)]

    def of(self, *types: str) -> list[Message]:
        """What the node said, of these types."""
        return [message for message in self.said if message.type in types]


@dataclass(frozen=True)
class Recording:
    """What to check. host: the primary host's id; empty for none."""

    group: str
    node: str
    host: str
    records: tuple[Record, ...]
    connections: tuple[Connection, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "connections", tuple(_split(self.records)))

    def topic(self, message_type: str) -> str:
        return f"spBv1.0/{self.group}/{message_type}/{self.node}"

    @property
    def state_topic(self) -> str:
        return f"spBv1.0/STATE/{self.host}"

    def messages(self, *types: str) -> list[Message]:
        return [message for connection in self.connections for message in connection.of(*types)]

    def states(self) -> Iterator[tuple[Connection, int, bool, bool]]:
        """(connection, place in it, online, whether it counts) of each STATE of our host: an older one does not.

        The host keeps its timestamps per broker, so they are compared per broker.
        """
        newest: dict[str, int] = {}
        for connection in self.connections:
            broker = connection.connect.broker
            for place, record in enumerate(connection.records):
                if isinstance(record, Restarted):
                    newest.clear()
                elif isinstance(record, Heard) and record.message.topic == self.state_topic:
                    told = json.loads(record.message.payload)
                    counts = told["timestamp"] >= newest.get(broker, 0)
                    newest[broker] = max(newest.get(broker, 0), told["timestamp"])
                    yield connection, place, told["online"], counts


def _split(records: tuple[Record, ...]) -> Iterator[Connection]:
    starts = [place for place, record in enumerate(records) if isinstance(record, Connect)]
    for start, end in itertools.pairwise([*starts, len(records)]):
        first = records[start]
        assert isinstance(first, Connect)
        yield Connection(first, records[start + 1 : end])


def metric_of(payload: WirePayload, name: str) -> WireMetric | None:
    return next((metric for metric in payload.metrics if metric.name == name), None)


def bdseq_of(payload: WirePayload) -> int | None:
    metric = metric_of(payload, "bdSeq")
    return metric.value if metric is not None and isinstance(metric.value, int) else None


def asks_for_rebirth(message: Message) -> bool:
    """What is no payload asks for nothing."""
    try:
        metric = metric_of(message.read, "Node Control/Rebirth")
    except ValueError:
        return False
    return metric is not None and (metric.kind, metric.value) == ("boolean", 1)
