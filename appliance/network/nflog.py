"""What the kernel logged about a dropped packet. Pure.

linux/netfilter/nfnetlink_log.h: NFULNL_MSG_PACKET is subsystem 4, message 0. The prefix that the ruleset gives to nflog
is `edgeseal REASON `; the payload is the beginning of the packet from its network header on.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from appliance.core.errors import DecodeError
from appliance.network.netlink import Message, decode_messages, encode_attribute, netfilter_attributes, number_of
from appliance.network.packet import Flow, decode_flow

SUBSYSTEM = 4
PACKET, CONFIG = SUBSYSTEM << 8, SUBSYSTEM << 8 | 1
GROUP = 3
SNAPLEN = 96
PREFIX = "edgeseal "

_PACKET_HEADER, _INDEV, _OUTDEV, _PAYLOAD, _PREFIX, _SEQUENCE = 1, 4, 5, 9, 10, 12
_CFG_CMD, _CFG_MODE, _CFG_BUFFER, _CFG_TIMEOUT, _CFG_THRESHOLD, _CFG_FLAGS = 1, 2, 3, 4, 5, 6
_BIND, _COPY_PACKET, _COUNTED = 1, 2, 1
_HEADER = struct.Struct(">HBx")  # protocol by ethertype, hook
_MODE = struct.Struct(">IBx")
_TIMEOUT = 100  # hundredths of a second until the kernel delivers what it holds
_THRESHOLD = 32  # packets that it holds at most


@dataclass(frozen=True)
class Logged:
    """One dropped packet. reason: of the ruleset. index: of the interface, 0 where there is none.

    sequence: the kernel counts what it tells this group: a gap is what did not fit into our buffer.
    """

    reason: str
    index: int
    incoming: bool
    flow: Flow
    sequence: int | None


def configuration() -> tuple[list[bytes], ...]:
    """The attributes of the requests that bind our group, one list per request."""
    return (
        [encode_attribute(_CFG_CMD, bytes([_BIND]))],
        [
            encode_attribute(_CFG_MODE, _MODE.pack(SNAPLEN, _COPY_PACKET)),
            encode_attribute(_CFG_TIMEOUT, _TIMEOUT.to_bytes(4, "big")),
            encode_attribute(_CFG_THRESHOLD, _THRESHOLD.to_bytes(4, "big")),
            encode_attribute(_CFG_FLAGS, _COUNTED.to_bytes(2, "big")),
        ],
    )


def decode_log(datagram: bytes) -> list[Logged]:
    """Every packet that a datagram tells of. Raises DecodeError for anything else than the kernel's format."""
    return [decode_packet(message) for message in decode_messages(datagram) if message.type == PACKET]


def decode_packet(message: Message) -> Logged:
    """Raises DecodeError. What is inside the packet is a stranger's: it may be anything, and is never an error."""
    attributes = netfilter_attributes(message)
    protocol = _ethertype(attributes)
    incoming = _INDEV in attributes
    index = number_of(attributes, _INDEV if incoming else _OUTDEV, size=4) or 0
    return Logged(
        reason=_reason(attributes.get(_PREFIX, b"")),
        index=index,
        incoming=incoming,
        flow=decode_flow(protocol, attributes.get(_PAYLOAD, b"")[:SNAPLEN]),
        sequence=number_of(attributes, _SEQUENCE, size=4),
    )


def _ethertype(attributes: dict[int, bytes]) -> int:
    header = attributes.get(_PACKET_HEADER, b"")
    if len(header) != _HEADER.size:
        raise DecodeError(f"nflog: a packet header of {len(header)} bytes, expected {_HEADER.size}")
    protocol: int = _HEADER.unpack(header)[0]
    return protocol


def _reason(prefix: bytes) -> str:
    """The ruleset's word for it. Raises DecodeError for a prefix that is not ours."""
    try:
        text = prefix.rstrip(b"\0").decode("ascii")
    except UnicodeDecodeError as error:
        raise DecodeError("nflog: the prefix is not ASCII") from error
    reason = text.removeprefix(PREFIX).strip()
    if not text.startswith(PREFIX) or not reason or not reason.isprintable():
        raise DecodeError(f"nflog: prefix {text!r} is not `{PREFIX}REASON`")
    return reason
