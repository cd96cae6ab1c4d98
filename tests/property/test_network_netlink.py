"""Netlink and nflog against anything: a DecodeError or a value, never another end."""

from __future__ import annotations

import contextlib

from hypothesis import example, given
from hypothesis import strategies as st

from appliance.core.errors import DecodeError
from appliance.network import nflog
from appliance.network.netlink import decode_attributes, decode_messages, encode_attribute, encode_message
from appliance.network.nflog import decode_log
from appliance.network.packet import Flow, decode_flow

KNOWN = st.sampled_from([1, 4, 5, 9, 10, 12, 99])
ATTRIBUTES = st.lists(st.tuples(KNOWN, st.binary(max_size=120)), max_size=8)


@given(st.binary(max_size=300))
def test_garbage_is_a_decode_error_or_nothing(data: bytes) -> None:
    for decode in (decode_messages, decode_attributes, decode_log):
        with contextlib.suppress(DecodeError):
            decode(data)


@given(ATTRIBUTES, st.binary(max_size=20), st.integers(0, 40))
def test_attributes_of_any_content(attributes: list[tuple[int, bytes]], tail: bytes, cut: int) -> None:
    parts = [encode_attribute(kind, value) for kind, value in attributes]
    data = encode_message(nflog.PACKET, 0, 0, attributes=parts) + tail
    for datagram in (data, data[: len(data) - cut]):
        with contextlib.suppress(DecodeError):
            decode_log(datagram)


@given(st.sampled_from([0x0800, 0x0806, 0x86DD, 0, 0xFFFF]), st.binary(max_size=nflog.SNAPLEN))
@example(0x86DD, b"\x60" + bytes(5) + b"\x00" + bytes(33) + bytes(56))
def test_a_packet_of_any_content_has_a_flow(ethertype: int, data: bytes) -> None:
    flow = decode_flow(ethertype, data)
    assert isinstance(flow, Flow)
    assert 0 <= flow.port <= 65_535


@given(st.sampled_from([b"\x45", b"\x60", b"\x4f", b"\x6f"]), st.binary(min_size=39, max_size=95))
def test_a_packet_that_begins_right(first: bytes, rest: bytes) -> None:
    flow = decode_flow(0x0800 if first[0] >> 4 == 4 else 0x86DD, first + rest)
    assert flow.source
    assert flow.destination


@given(st.lists(st.tuples(st.integers(1, 200), st.binary(max_size=64)), max_size=10, unique_by=lambda one: one[0]))
def test_attributes_come_back(attributes: list[tuple[int, bytes]]) -> None:
    data = b"".join(encode_attribute(kind, value) for kind, value in attributes)
    assert decode_attributes(data) == dict(attributes)
