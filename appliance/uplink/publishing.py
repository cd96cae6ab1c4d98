"""A PUBLISH as bytes, MQTT 5 section 3.3.

paho would make five objects of each message, one of them a lock, to keep it until the PUBACK. The spool keeps it,
so here it is only written; that costs a fifth.
"""

from __future__ import annotations

import functools
from typing import Final

from appliance.uplink.dialect import Publish

_PUBLISH: Final = 0x30
_CONTENT_TYPE: Final = b"\x03"
_USER_PROPERTY: Final = b"\x26"


def publish_packet(message: Publish, number: int) -> bytes:
    """The whole packet. number: its identifier, 1 to 65,535; not used with QoS 0.

    Raises ValueError when a string or the whole is too long.
    """
    parts = [_CONTENT_TYPE + _string(message.content_type)] if message.content_type else []
    parts += [_pair(name, value) for name, value in message.properties]
    properties = b"".join(parts)
    head = _string(message.topic)
    if message.qos:
        head += number.to_bytes(2, "big")
    head += _length(len(properties))
    first = _PUBLISH | message.qos << 1 | message.retain
    size = len(head) + len(properties) + len(message.payload)
    return b"".join((bytes((first,)), _length(size), head, properties, message.payload))


@functools.lru_cache(maxsize=256)  # most of them are the same in every message
def _pair(name: str, value: str) -> bytes:
    return _USER_PROPERTY + _string(name) + _string(value)


def _string(text: str) -> bytes:
    data = text.encode()
    if len(data) > 65_535:
        raise ValueError("a string of MQTT has at most 65,535 bytes")
    return len(data).to_bytes(2, "big") + data


def _length(value: int) -> bytes:
    """A variable byte integer, section 1.5.5."""
    if value > 268_435_455:
        raise ValueError("a packet of MQTT has at most 268,435,455 bytes")
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    data.append(value)
    return bytes(data)
