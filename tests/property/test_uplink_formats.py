"""Decoders of what leaves and what comes back: each value survives, and no bytes break a reader."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.core.canonical import canonical_json
from appliance.core.errors import DecodeError
from appliance.formats.gap import Gap, decode_gap, encode_gap
from appliance.formats.receipt import HistorianReceipt, decode_receipt, encode_receipt
from appliance.formats.uplink_envelope import (
    Accepted,
    Envelope,
    decode_envelope,
    decode_properties,
    encode_envelope,
)
from appliance.formats.uplink_namespace import decode_namespace
from appliance.uplink import batch
from appliance.uplink.dialect import Sending
from appliance.uplink.json_dialect import JsonDialect
from appliance.uplink.spooled import Spooled
from builder.uplink.intervals import IntervalSet
from builder.uplink.receive import read_message
from builder.uplink.unpack import unpack

HEX = st.text("0123456789abcdef", min_size=32, max_size=32)
NUMBERS = st.integers(1, 2**53 - 1)
STREAMS = st.sampled_from(("alarm", "data", "audit"))
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
ENVELOPES = st.builds(
    Envelope,
    accepted=st.builds(
        Accepted,
        boot=NUMBERS,
        boot_id=HEX,
        monotonic_us=NUMBERS,
        quality=st.sampled_from(("synchronised", "held", "unknown")),
        wall_us=NUMBERS,
    ),
    body=st.dictionaries(TEXTS, VALUES, max_size=4).map(canonical_json),
    device=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", fullmatch=True),
    epoch=HEX,
    kind=st.from_regex(r"[a-z][a-z0-9-]{0,30}", fullmatch=True),
    sequence=NUMBERS,
    stream=STREAMS,
)


@given(ENVELOPES)
def test_the_fast_writer_writes_canonical_json(envelope: Envelope) -> None:
    accepted = {name: getattr(envelope.accepted, name) for name in envelope.accepted.__struct_fields__}
    value = {name: getattr(envelope, name) for name in envelope.__struct_fields__}
    expected = canonical_json(value | {"accepted": accepted, "body": json.loads(envelope.body)})
    assert encode_envelope(envelope) == expected
    assert decode_envelope(expected) == envelope


@given(ENVELOPES, st.integers(0, 2**16), st.integers(0, 255))
def test_a_changed_byte_is_refused_or_another_message(envelope: Envelope, place: int, byte: int) -> None:
    data = bytearray(encode_envelope(envelope))
    data[place % len(data)] = byte
    try:
        changed = decode_envelope(bytes(data))
    except DecodeError:
        return
    assert encode_envelope(changed) == bytes(data)


@given(st.builds(Gap, epoch=HEX, stream=STREAMS, first=NUMBERS, last=st.none() | NUMBERS, reason=st.just("dropped")))
def test_a_gap_survives_when_it_goes_forwards(gap: Gap) -> None:
    if gap.last is not None and gap.last < gap.first:
        with pytest.raises(DecodeError):
            decode_gap(encode_gap(gap))
    else:
        assert decode_gap(encode_gap(gap)) == gap


@given(st.lists(st.tuples(st.integers(1, 500), st.integers(0, 5)), min_size=1, max_size=40))
def test_a_receipt_of_any_interval_set_survives(parts: list[tuple[int, int]]) -> None:
    ranges = tuple(IntervalSet((first, first + more) for first, more in parts))
    receipt = HistorianReceipt(device="line-3", epoch="0" * 32, stream="data", ranges=ranges)
    assert decode_receipt(encode_receipt(receipt)) == receipt


@given(st.lists(st.dictionaries(TEXTS, VALUES, max_size=3).map(canonical_json), min_size=2, max_size=12))
def test_a_batch_is_opened_to_what_went_in(bodies: list[bytes]) -> None:
    dialect = JsonDialect(namespace="a/b", device="line-3", epoch="0" * 32, batches=True, receipts=False)
    messages = tuple(
        Spooled("data", number, "verdict", 1, "1" * 32, 5, 6, "held", body)
        for number, body in enumerate(bodies, start=1)
    )
    sent = dialect.encode_batch(messages, Sending("backlog", None))
    assert sent is not None
    read = read_message(sent.topic, sent.payload, sent.content_type, sent.properties)
    assert [each.envelope.body for each in read] == bodies


PACKED = batch.pack([b'{"a":1}\n', b'{"a":2}\n'])


@given(st.binary(max_size=200), st.integers(0, len(PACKED)), st.binary(max_size=20))
def test_no_bytes_break_a_reader(noise: bytes, cut: int, tail: bytes) -> None:
    for decode in (decode_envelope, decode_gap, decode_receipt, decode_namespace, unpack):
        for data in (noise, b"{" + noise, PACKED[:cut] + tail, tail + PACKED[cut:]):
            try:
                decode(data)
            except DecodeError:
                continue


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=12))
def test_no_properties_break_a_reader(pairs: list[tuple[str, str]]) -> None:
    with pytest.raises(DecodeError):
        decode_properties(pairs)
    with pytest.raises(DecodeError):
        read_message("a/b/batch", PACKED, "application/vnd.edgeseal.batch+zstd", pairs)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(DecodeError):
        decode_envelope(b'{"accepted":' + b"[" * 20_000)
    deep = b'{"a":' * 8000 + b"1" + b"}" * 8000
    whole = encode_envelope(
        Envelope(
            accepted=Accepted(boot=1, boot_id="1" * 32, monotonic_us=1, quality="held", wall_us=1),
            body=deep + b"\n",
            device="d",
            epoch="0" * 32,
            kind="verdict",
            sequence=1,
            stream="data",
        )
    )
    with pytest.raises(DecodeError):
        decode_envelope(whole)
