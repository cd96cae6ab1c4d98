"""What the transport tells the service. connection: counts up from 1, one for every attempt."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Connected:
    """The broker accepted us and the subscriptions were answered.

    receive_maximum: messages in flight that it allows. maximum_packet_size: None for no limit. broker: host:port.
    unsubscribed: topic filters that it refused. unchecked_times: nobody looked at when its certificate is valid.
    """

    connection: int
    receive_maximum: int
    maximum_packet_size: int | None
    broker: str
    unsubscribed: tuple[str, ...] = ()
    unchecked_times: bool = False


@dataclass(frozen=True, slots=True)
class Lost:
    """There is no connection (any more). reason: for people. connect_sent: the broker was sent a CONNECT.

    ours: our certificate was not good enough, here or for the broker. connected: Connected had been reported.
    """

    connection: int
    reason: str
    broker: str
    connect_sent: bool = True
    ours: bool = False
    connected: bool = False


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The broker sent a PUBACK with success."""

    connection: int
    token: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """The broker refused this one message, or it is too large for it. The connection goes on.

    code: the PUBACK's reason code; None for too large.
    """

    connection: int
    token: int
    reason: str
    code: int | None = None


@dataclass(frozen=True, slots=True)
class Heard:
    """A message to us, at most 64 KiB, not trusted. Comes after the Connected of its connection.

    At most 1000 of them, or 1 MiB, in a second; what is over is dropped.
    """

    connection: int
    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Sent:
    """The bytes of a message of QoS 0 are in the socket; nobody will ever say that they arrived."""

    connection: int
    token: int


TransportEvent = Connected | Lost | Acknowledged | Rejected | Heard | Sent
