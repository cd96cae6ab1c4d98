"""How messages of the spool become MQTT messages: the one place where topics and payloads are decided.

A dialect is pure: bytes and values in, values out. The service drives it: will() and subscriptions() before a
connection, opened() when the broker has accepted it, then encode() for every message, heard() for every one received.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from appliance.uplink.spooled import Lane, Spooled


@dataclass(frozen=True)
class Publish:
    """One MQTT message. properties: user properties of MQTT 5, in order. content_type: empty for none."""

    topic: str
    payload: bytes
    qos: Literal[0, 1] = 1
    retain: bool = False
    content_type: str = "application/json"
    properties: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Receipt:
    """The historian has these messages of a stream: sequences first to last, ends included."""

    epoch: str
    stream: str
    first: int
    last: int


@dataclass(frozen=True)
class Renewed:
    """The site answered our request for a certificate. data: as received, not checked."""

    data: bytes


@dataclass(frozen=True)
class Say:
    """Publish this at once; it is not from the spool."""

    publish: Publish


@dataclass(frozen=True)
class HangUp:
    """Say closing(), end this connection in order and make another; nothing of the spool may be sent before."""

    reason: str


Reaction = Receipt | Renewed | Say | HangUp


@dataclass(frozen=True)
class Sending:
    """What a message meets when it is sent: its lane, and its age (None: nobody can tell)."""

    lane: Lane
    age_ms: int | None


class Dialect(Protocol):
    """See the module."""

    def will(self) -> Publish | None:
        """What the broker shall say when we vanish; asked anew before every connection."""

    def unsent(self) -> None:
        """The connection that will() was asked for last ended before its CONNECT was sent."""

    def subscriptions(self) -> tuple[str, ...]:
        """Topic filters, all with QoS 1."""

    def opened(self, broker: str = "") -> tuple[Publish, ...]:
        """What is said first on a new connection, before any message of the spool. broker: which one, host:port."""

    def closing(self) -> tuple[Publish, ...]:
        """What is said last before we hang up in order."""

    @property
    def holds(self) -> bool:
        """True while messages of the spool must wait although there is a connection."""

    def heard(self, topic: str, payload: bytes) -> tuple[Reaction, ...]:
        """A message from the broker, not trusted; what is not understood gives no reaction. Never raises."""

    def encode(self, message: Spooled, sending: Sending) -> Publish:
        """One message."""

    def encode_batch(self, messages: tuple[Spooled, ...], sending: Sending) -> Publish | None:
        """Several of one stream, in order; None when this dialect has no batches."""
