"""The broker's bytes, cut into MQTT packets and held against what a broker may send us, before paho sees them.

Pure. paho grows with whatever length is announced, keeps messages of QoS 2 for ever, and needs the square of their
number to read properties; nothing of that passes here. Spec: MQTT 5.0, OASIS standard.
"""

from __future__ import annotations

from typing import Final

MAX_PACKET: Final = 128 << 10
"""Of what we receive, announced as Maximum Packet Size (3.1.2.11.4)."""
MAX_PROPERTIES: Final = 4 << 10
_MAX_SMALL: Final = 4 << 10

CONNACK, PUBLISH, PUBACK, SUBACK, PINGRESP, DISCONNECT = 2, 3, 4, 9, 13, 14
_NAMES: Final = (
    *("type 0", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE", "SUBACK"),
    *("UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH"),
)
_LIMITS: Final = {
    CONNACK: 16 << 10,
    PUBLISH: MAX_PACKET,
    PUBACK: _MAX_SMALL,
    SUBACK: _MAX_SMALL,
    PINGRESP: 0,
    DISCONNECT: _MAX_SMALL,
}
"""Longest remainder by type; what is not here a client like ours is never sent."""


class ProtocolError(Exception):
    """The broker did what MQTT 5 or our CONNECT does not allow; str() says what."""


class Frames:
    """A stream of bytes as packets. Holds less than one packet, at most MAX_PACKET bytes."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._needed = 2  # bytes in _rest before it is worth a look: a drip is not read again and again
        self._greeted = False

    def feed(self, data: bytes) -> list[bytes]:
        """The packets that are complete now, in order. Raises ProtocolError as soon as a header shows the fault."""
        self._rest += data
        if len(self._rest) < self._needed:
            return []
        packets: list[bytes] = []
        data, start = bytes(self._rest), 0
        self._needed = 2
        while len(data) - start >= 2:
            length, body = _length(data, start)
            if body == 0:
                break
            self._admit(data[start], length)
            end = body + length
            if end > len(data):
                self._needed = end - start
                break
            if data[start] >> 4 == PUBLISH:
                _check_publish(data[start], data[body:end])
            packets.append(data[start:end])
            self._greeted = True
            start = end
        self._rest = bytearray(data[start:])
        return packets

    def _admit(self, header: int, length: int) -> None:
        kind = header >> 4
        limit = _LIMITS.get(kind)
        if limit is None or (kind != PUBLISH and header & 15):
            raise ProtocolError(f"it sent {_NAMES[kind]} with flags {header & 15}, which a client never gets")
        if (kind == CONNACK) == self._greeted:
            order = "a second CONNACK" if self._greeted else f"{_NAMES[kind]} before CONNACK"
            raise ProtocolError(f"it sent {order}")
        if length > limit:
            raise ProtocolError(f"it announced {_NAMES[kind]} of {length} bytes, at most {limit} are allowed")


def puback(packet: bytes) -> tuple[int, int]:
    """Identifier and reason code of a whole PUBACK, section 3.4; what else is in it is for nobody."""
    length, body = _length(packet, 0)
    if length < 2:
        raise ProtocolError("it sent PUBACK cut off")
    number = int.from_bytes(packet[body : body + 2], "big")
    return number, packet[body + 2] if length > 2 else 0


def _length(data: bytes, start: int) -> tuple[int, int]:
    """(remaining length, where the remainder begins; 0 while bytes are missing). Section 1.5.5."""
    value = 0
    for place in range(4):
        at = start + 1 + place
        if at >= len(data):
            return 0, 0
        value |= (data[at] & 127) << 7 * place
        if data[at] < 128:
            return value, at + 1
    raise ProtocolError("it sent a length of more than four bytes")


def _check_publish(header: int, body: bytes) -> None:
    """QoS, topic and the size of the properties; section 3.3."""
    qos = header >> 1 & 3
    if qos > 1:
        raise ProtocolError(f"it sent PUBLISH with QoS {qos}, we subscribe with 1")
    if body[:2] == b"\0\0":
        raise ProtocolError("it sent PUBLISH with a topic alias, we allow none")
    end = 2 + int.from_bytes(body[:2], "big")
    at = end + 2 * (qos > 0)
    if len(body) < 2 or at >= len(body):
        raise ProtocolError("it sent PUBLISH without a topic, or cut off")
    try:
        body[2:end].decode()
    except UnicodeDecodeError as error:
        raise ProtocolError("it sent PUBLISH with a topic that is no text") from error
    length, behind = _length(body, at - 1)
    if behind == 0 or behind + length > len(body):
        raise ProtocolError("it sent PUBLISH with properties cut off")
    if length > MAX_PROPERTIES:
        raise ProtocolError(f"it sent PUBLISH with {length} bytes of properties, at most {MAX_PROPERTIES} are allowed")
