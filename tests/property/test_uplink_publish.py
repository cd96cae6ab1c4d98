"""PUBLISH packets are the bytes that paho would have sent."""

from __future__ import annotations

import socket
from typing import Any

import paho.mqtt.client as mqtt
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from appliance.uplink.dialect import Publish
from appliance.uplink.publishing import publish_packet

TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=40)
MESSAGES = st.builds(
    Publish,
    topic=TEXTS.filter(bool),
    payload=st.one_of(st.binary(max_size=40), st.integers(100, 40_000).map(bytes)),
    qos=st.sampled_from([0, 1]),
    retain=st.booleans(),
    content_type=TEXTS,
    properties=st.lists(st.tuples(TEXTS, TEXTS), max_size=12).map(tuple),
)


def packet_of_paho(message: Publish, number: int) -> bytes:
    """Taken where paho would hand it to its socket."""
    client: Any = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    sent: list[bytes] = []
    client._sock = socket.socket()
    client._packet_queue = lambda _command, packet, *_: sent.append(bytes(packet))
    properties: Any = Properties(PacketTypes.PUBLISH)
    if message.content_type:
        properties.ContentType = message.content_type
    if message.properties:
        properties.UserProperty = list(message.properties)
    topic = message.topic.encode()
    client._send_publish(number, topic, message.payload, message.qos, message.retain, False, None, properties)
    client._sock_close()
    return sent[0]


@given(MESSAGES, st.integers(1, 65_535))
def test_a_message_is_what_paho_would_send(message: Publish, number: int) -> None:
    assert publish_packet(message, number) == packet_of_paho(message, number)
