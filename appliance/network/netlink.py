"""Netlink's framing: messages and attributes. Pure.

linux/netlink.h and linux/netfilter/nfnetlink.h: a datagram holds messages, a message of netfilter a family, a
version and a number in network order, then attributes; all are padded to four bytes. Numbers of the framing are in the
machine's order, those inside netfilter's attributes in network order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from appliance.core.errors import DecodeError

HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
NETFILTER = struct.Struct("=BB")  # family, version; the number after them is in network order
ATTRIBUTE = struct.Struct("=HH")  # length, type
NETFILTER_BYTES = 4
_ERRNO = struct.Struct("=i")

REQUEST, ACK = 0x1, 0x4
NOOP, ERROR, DONE, OVERRUN = 1, 2, 3, 4
_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER


@dataclass(frozen=True)
class Message:
    """type: subsystem << 8 | message, or one of NOOP to OVERRUN. payload: what follows the header."""

    type: int
    sequence: int
    payload: bytes


def aligned(length: int) -> int:
    """The next multiple of four."""
    return (length + 3) & ~3


def encode_attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    length = ATTRIBUTE.size + len(value)
    return ATTRIBUTE.pack(length, kind) + value + bytes(aligned(length) - length)


def encode_message(
    kind: int, flags: int, sequence: int, *, family: int = 0, number: int = 0, attributes: Iterable[bytes] = ()
) -> bytes:
    """A request to netfilter. number: res_id of nfgenmsg, the group of a log."""
    payload = NETFILTER.pack(family, 0) + number.to_bytes(2, "big") + b"".join(attributes)
    return HEADER.pack(HEADER.size + len(payload), kind, flags, sequence, 0) + payload


def decode_messages(datagram: bytes) -> list[Message]:
    """All messages of one datagram. Raises DecodeError."""
    messages = []
    offset = 0
    while offset < len(datagram):
        if len(datagram) - offset < HEADER.size:
            raise DecodeError(f"netlink: {len(datagram) - offset} bytes after the last message")
        length, kind, _, sequence, _ = HEADER.unpack_from(datagram, offset)
        if not HEADER.size <= length <= len(datagram) - offset:
            raise DecodeError(f"netlink: a message of {length} bytes with {len(datagram) - offset} left")
        messages.append(Message(kind, sequence, datagram[offset + HEADER.size : offset + length]))
        offset += aligned(length)
    return messages


def decode_attributes(data: bytes) -> dict[int, bytes]:
    """type -> value. Raises DecodeError, also when a type comes twice."""
    found: dict[int, bytes] = {}
    offset = 0
    while offset < len(data):
        if len(data) - offset < ATTRIBUTE.size:
            raise DecodeError(f"netlink: {len(data) - offset} bytes after the last attribute")
        length, kind = ATTRIBUTE.unpack_from(data, offset)
        if not ATTRIBUTE.size <= length <= len(data) - offset:
            raise DecodeError(f"netlink: an attribute of {length} bytes with {len(data) - offset} left")
        if kind & _TYPE_MASK in found:
            raise DecodeError(f"netlink: attribute {kind & _TYPE_MASK} comes twice")
        found[kind & _TYPE_MASK] = data[offset + ATTRIBUTE.size : offset + length]
        offset += aligned(length)
    return found


def netfilter_attributes(message: Message) -> dict[int, bytes]:
    """The attributes of a message of netfilter. Raises DecodeError."""
    if len(message.payload) < NETFILTER_BYTES:
        raise DecodeError(f"netlink: a message of netfilter with {len(message.payload)} bytes")
    return decode_attributes(message.payload[NETFILTER_BYTES:])


def error_of(message: Message) -> int:
    """errno of an ERROR message; 0 is an acknowledgement. Raises DecodeError."""
    if len(message.payload) < _ERRNO.size:
        raise DecodeError(f"netlink: an error of {len(message.payload)} bytes")
    return -int(_ERRNO.unpack_from(message.payload)[0])


def number_of(attributes: dict[int, bytes], kind: int, *, size: int) -> int | None:
    """A number in network order, or None where it is missing. Raises DecodeError when it has another size."""
    value = attributes.get(kind)
    if value is None:
        return None
    if len(value) != size:
        raise DecodeError(f"netlink: attribute {kind} has {len(value)} bytes, expected {size}")
    return int.from_bytes(value, "big")
