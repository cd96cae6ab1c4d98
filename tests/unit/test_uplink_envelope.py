"""The envelope, the gap record, the receipt and the batch: writer against reader, vectors, and every refusal."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard

from appliance.core.canonical import canonical_json
from appliance.core.errors import DecodeError
from appliance.formats.gap import Gap, decode_gap, encode_gap
from appliance.formats.receipt import HistorianReceipt, decode_receipt, encode_receipt
from appliance.formats.uplink_envelope import (
    BATCH_CONTENT,
    JSON_CONTENT,
    MAX_BATCH_BYTES,
    MAX_BATCH_DECODED,
    MAX_BODY_BYTES,
    decode_envelope,
    decode_properties,
    encode_envelope,
)
from appliance.uplink import batch
from appliance.uplink.dialect import Publish, Receipt, Renewed, Sending
from appliance.uplink.json_dialect import JsonDialect
from appliance.uplink.spooled import Spooled
from builder.uplink.receive import is_ours, read_message
from builder.uplink.unpack import unpack

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "uplink-envelope.json").read_text())
ENVELOPE = VECTORS["envelopes"][0]["canonical"].encode()
GAP, RECEIPT = VECTORS["gaps"][0].encode(), VECTORS["receipts"][0].encode()
EPOCH, DEVICE, NAMESPACE = "0a0b" * 8, "line-3-cell-7", "example/plant-4"
DIALECT = JsonDialect(namespace=NAMESPACE, device=DEVICE, epoch=EPOCH, batches=True, receipts=True)
LIVE, BACKLOG = Sending("live", 250), Sending("backlog", None)


def spooled(sequence: int, body: bytes = b'{"schema":1}\n') -> Spooled:
    return Spooled("data", sequence, "verdict", 3, "0b6f" * 8, 812_345_678, 1_795_000_000_000_000, "held", body)


def edited(data: bytes, **changes: object) -> bytes:
    return canonical_json(json.loads(data) | changes)


# ---- vectors


def test_the_vectors_are_what_writer_and_reader_mean() -> None:
    for vector in VECTORS["envelopes"]:
        envelope = decode_envelope(vector["canonical"].encode())
        assert encode_envelope(envelope).decode() == vector["canonical"]
        assert hashlib.sha256(envelope.body).hexdigest() == vector["body_sha256"]
    for text in VECTORS["gaps"]:
        assert encode_gap(decode_gap(text.encode())).decode() == text
    for text in VECTORS["receipts"]:
        assert encode_receipt(decode_receipt(text.encode())).decode() == text
    for vector in VECTORS["batches"]:
        lines = unpack(base64.b64decode(vector["base64"]))
        assert [decode_envelope(line).sequence for line in lines] == vector["sequences"]
        assert sum(map(len, lines)) == vector["bytes"]


def test_the_properties_of_the_vectors_are_those_of_the_dialect() -> None:
    [pairs] = VECTORS["user_properties"]
    body = decode_envelope(ENVELOPE).body
    assert [list(each) for each in DIALECT.encode(spooled(17, body), BACKLOG).properties] == pairs
    assert DIALECT.encode(spooled(17, body), BACKLOG).payload == ENVELOPE


# ---- refusals

LONG = canonical_json({"x": "a" * MAX_BODY_BYTES})
REFUSALS: tuple[tuple[str, Callable[[bytes], object], bytes, str], ...] = (
    ("nothing", decode_envelope, b"", "envelope: Input data was truncated"),
    ("too long", decode_envelope, b" " * 50_177, "envelope: 50177 bytes, at most 50176 are allowed"),
    ("no newline", decode_envelope, ENVELOPE[:-1], "envelope: not in canonical form"),
    ("white space", decode_envelope, ENVELOPE.replace(b":", b": ", 1), "envelope: not in canonical form"),
    (
        "a second key",
        decode_envelope,
        ENVELOPE.replace(b'{"acc', b'{"schema":1,"acc', 1),
        "envelope: not in canonical form",
    ),
    (
        "an unknown key",
        decode_envelope,
        edited(ENVELOPE, pixels="AAAA"),
        "envelope: Object contains unknown field `pixels`",
    ),
    (
        "no epoch",
        decode_envelope,
        ENVELOPE.replace(b"epoch", b"epok"),
        "envelope: Object contains unknown field `epok`",
    ),
    ("another schema", decode_envelope, edited(ENVELOPE, schema=2), "envelope: Invalid enum value 2 - at `$.schema`"),
    (
        "sequence 0",
        decode_envelope,
        edited(ENVELOPE, sequence=0),
        "envelope: Expected `int` >= 1 - at `$.sequence`",
    ),
    (
        "a stream that is none",
        decode_envelope,
        edited(ENVELOPE, stream="live"),
        "envelope: Invalid enum value 'live' - at `$.stream`",
    ),
    (
        "a body that is text",
        decode_envelope,
        edited(ENVELOPE, body="x"),
        "envelope: Expected `object`, got `str` - at `$.body`",
    ),
    (
        "a float in the body",
        decode_envelope,
        ENVELOPE.replace(b'"score_ppm":', b'"score_ppm":0.'),
        "envelope: body: a float has no single canonical form here: use an integer in a smaller unit",
    ),
    (
        "a body of any size",
        decode_envelope,
        edited(ENVELOPE, body=json.loads(LONG)),
        f"envelope: a body of {len(LONG)} bytes, at most {MAX_BODY_BYTES} are allowed",
    ),
    ("a gap that is long", decode_gap, b" " * 513, "gap: 513 bytes, at most 512 are allowed"),
    ("a gap backwards", decode_gap, edited(GAP, last=4), "gap: it ends at 4, before its first 5"),
    ("a gap for no reason", decode_gap, edited(GAP, reason="bored"), "gap: Invalid enum value 'bored' - at `$.reason`"),
    ("a gap without an end", decode_gap, GAP.replace(b'"last":9,', b""), "gap: Object missing required field `last`"),
    ("a gap with space", decode_gap, GAP[:-1] + b" \n", "gap: not in canonical form"),
    ("a receipt that is long", decode_receipt, b" " * 4097, "receipt: 4097 bytes, at most 4096 are allowed"),
    (
        "a receipt for nothing",
        decode_receipt,
        edited(RECEIPT, ranges=[]),
        "receipt: Expected `array` of length >= 1 - at `$.ranges`",
    ),
    (
        "a receipt with too many ranges",
        decode_receipt,
        edited(RECEIPT, ranges=[[3 * number + 1, 3 * number + 1] for number in range(65)]),
        "receipt: Expected `array` of length <= 64 - at `$.ranges`",
    ),
    (
        "a range backwards",
        decode_receipt,
        edited(RECEIPT, ranges=[[5, 4]]),
        "receipt: range 5 to 4 ends before it begins",
    ),
    (
        "ranges that touch",
        decode_receipt,
        edited(RECEIPT, ranges=[[1, 4], [5, 6]]),
        "receipt: range 5 to 6 touches the one before it, which ends at 4",
    ),
    ("a receipt not as written", decode_receipt, RECEIPT[:-1], "receipt: not in canonical form"),
)


@pytest.mark.parametrize(("what", "decode", "data", "message"), REFUSALS, ids=[row[0] for row in REFUSALS])
def test_what_is_refused(what: str, decode: Callable[[bytes], object], data: bytes, message: str) -> None:
    with pytest.raises(DecodeError) as raised:
        decode(data)
    assert raised.value.message == message


PROPERTIES = tuple((name, value) for name, value in VECTORS["user_properties"][0])


def changed(**changes: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, changes.get(name.replace("-", "_"), value)) for name, value in PROPERTIES)


BAD_PROPERTIES = (
    ("none", (), "user properties: Object missing required field `device`"),
    ("one twice", (*PROPERTIES, ("lane", "live")), "user properties: `lane` is there twice"),
    ("one too many", (*PROPERTIES, ("x", "y")), "user properties: Object contains unknown field `x`"),
    ("a lane of another stream", changed(lane="audit"), "user properties: stream `data` has no lane `audit`"),
    ("a sequence in words", changed(sequence="one"), "user properties: Expected `int`, got `str` - at `$.sequence`"),
    ("an age in words", changed(age_ms="old"), "user properties: Invalid enum value 'old' - at `$.age-ms`"),
)


@pytest.mark.parametrize(("what", "pairs", "message"), BAD_PROPERTIES, ids=[row[0] for row in BAD_PROPERTIES])
def test_properties_that_are_refused(what: str, pairs: tuple[tuple[str, str], ...], message: str) -> None:
    with pytest.raises(DecodeError) as raised:
        decode_properties(pairs)
    assert raised.value.message == message


def test_properties_say_what_they_said() -> None:
    told = decode_properties(PROPERTIES)
    assert (told.device, told.epoch, told.stream, told.sequence) == (DEVICE, EPOCH, "data", 17)
    assert (told.lane, told.kind, told.age_ms) == ("backlog", "verdict", None)
    assert decode_properties(changed(age_ms="1500")).age_ms == 1500


# ---- the dialect and its reader


def test_a_message_is_read_as_it_was_sent() -> None:
    sent = DIALECT.encode(spooled(17), LIVE)
    assert (sent.topic, sent.qos, sent.retain, sent.content_type) == (
        f"{NAMESPACE}/{DEVICE}/verdict",
        1,
        False,
        JSON_CONTENT,
    )
    [message] = read_message(sent.topic, sent.payload, sent.content_type, sent.properties)
    assert (message.lane, message.age_ms, message.batched) == ("live", 250, False)
    assert (message.envelope.sequence, message.envelope.body) == (17, b'{"schema":1}\n')
    assert message.envelope.accepted.monotonic_us == 812_345_678


def test_a_message_has_the_same_bytes_each_time() -> None:
    assert DIALECT.encode(spooled(17), LIVE).payload == DIALECT.encode(spooled(17), BACKLOG).payload


def test_a_batch_is_read_as_it_was_sent() -> None:
    sent = DIALECT.encode_batch(tuple(map(spooled, (5, 6, 9))), BACKLOG)
    assert sent is not None
    assert (sent.topic, sent.content_type) == (f"{NAMESPACE}/{DEVICE}/batch", BATCH_CONTENT)
    assert dict(sent.properties) | {"epoch": ""} == {
        "device": DEVICE,
        "epoch": "",
        "stream": "data",
        "lane": "backlog",
        "first": "5",
        "last": "9",
        "count": "3",
    }
    messages = read_message(sent.topic, sent.payload, sent.content_type, sent.properties)
    assert [(each.envelope.sequence, each.lane, each.batched) for each in messages] == [
        (number, "backlog", True) for number in (5, 6, 9)
    ]
    alone = [DIALECT.encode(spooled(number), BACKLOG).payload for number in (5, 6, 9)]
    assert list(unpack(sent.payload)) == alone


def test_what_is_not_sent_in_a_batch() -> None:
    assert DIALECT.encode_batch((spooled(1),), BACKLOG) is None
    big = canonical_json({"x": "a" * 40_000})
    assert DIALECT.encode_batch(tuple(spooled(number, big) for number in range(1, 8)), BACKLOG) is None
    none = JsonDialect(namespace=NAMESPACE, device=DEVICE, epoch=EPOCH, batches=False, receipts=False)
    assert none.encode_batch((spooled(1), spooled(2)), BACKLOG) is None


def test_the_packer_keeps_its_bounds() -> None:
    with pytest.raises(ValueError, match="1 to 256 messages, not 0"):
        batch.pack([])
    with pytest.raises(ValueError, match="1 to 256 messages, not 257"):
        batch.pack([b"x\n"] * 257)
    with pytest.raises(ValueError, match=f"at most {MAX_BATCH_BYTES} bytes"):
        batch.pack([b"x" * MAX_BATCH_BYTES, b"\n"])


def test_what_the_dialect_hears() -> None:
    receipt = HistorianReceipt(device=DEVICE, epoch=EPOCH, stream="data", ranges=((1, 4), (6, 6)))
    topic = f"{NAMESPACE}/{DEVICE}/receipt"
    assert DIALECT.subscriptions() == (f"{NAMESPACE}/{DEVICE}/certificate", topic)
    assert DIALECT.heard(topic, encode_receipt(receipt)) == (Receipt(EPOCH, "data", 1, 4), Receipt(EPOCH, "data", 6, 6))
    other = encode_receipt(msgspec.structs.replace(receipt, device="line-4"))
    for where, payload in ((topic, b"x"), (topic, other), ("elsewhere", encode_receipt(receipt)), (topic, b"")):
        assert DIALECT.heard(where, payload) == ()
    assert DIALECT.heard(f"{NAMESPACE}/{DEVICE}/certificate", b"anything") == (Renewed(b"anything"),)
    none = JsonDialect(namespace=NAMESPACE, device=DEVICE, epoch=EPOCH, batches=False, receipts=False)
    assert none.subscriptions() == (f"{NAMESPACE}/{DEVICE}/certificate",)
    assert none.heard(topic, encode_receipt(receipt)) == ()
    assert (none.will(), none.opened(), none.closing(), none.holds) == (None, (), (), False)


def test_zstandard_is_loaded_with_the_first_batch_only() -> None:
    source = Path(batch.__file__).read_text()
    assert "\nimport zstandard" not in source
    assert "    import zstandard" in source


SENT = DIALECT.encode(spooled(17), LIVE)
BATCH = DIALECT.encode_batch(tuple(map(spooled, (5, 6, 9))), BACKLOG) or SENT
LINES = [DIALECT.encode(spooled(number), BACKLOG).payload for number in (5, 6, 9)]


def packed(lines: list[bytes]) -> bytes:
    return bytes(zstandard.ZstdCompressor().compress(b"".join(lines)))


def batch_of(lines: list[bytes], **properties: str) -> Publish:
    pairs = tuple((name, properties.get(name, value)) for name, value in BATCH.properties)
    return replace(BATCH, payload=packed(lines), properties=pairs)


def frame(content: bytes, **how: Any) -> bytes:
    return bytes(zstandard.ZstdCompressor(**how).compress(content))


OVER = MAX_BATCH_DECODED + 1
ELSEWHERE = "batch: a message of another device, epoch or stream than the user properties say"
UNREADABLE: tuple[tuple[str, Publish, str], ...] = (
    (
        "text",
        replace(SENT, content_type="text/plain"),
        f"content type `text/plain`, neither application/json nor {BATCH_CONTENT}",
    ),
    (
        "another topic",
        replace(SENT, topic=f"a/{DEVICE}/audit"),
        f"topic `a/{DEVICE}/audit` does not end in {DEVICE}/verdict",
    ),
    (
        "another device",
        replace(SENT, topic=f"a/x{DEVICE}/verdict"),
        f"topic `a/x{DEVICE}/verdict` does not end in {DEVICE}/verdict",
    ),
    (
        "two names",
        replace(SENT, properties=DIALECT.encode(spooled(18), LIVE).properties),
        "the envelope and the user properties name different messages",
    ),
    (
        "no zstd",
        replace(BATCH, payload=b"PK\x03\x04" * 8),
        "batch: cannot get frame parameters: Unknown frame descriptor",
    ),
    (
        "half a frame",
        replace(BATCH, payload=BATCH.payload[:-9]),
        "batch: decompression error: did not decompress full frame",
    ),
    (
        "two frames",
        replace(BATCH, payload=BATCH.payload * 2),
        f"batch: compressed input contains {len(BATCH.payload)} bytes of unused data, which is disallowed",
    ),
    (
        "no size",
        replace(BATCH, payload=frame(b"x\n", write_content_size=False)),
        "batch: it does not say how long its content is",
    ),
    (
        "a bomb",
        replace(BATCH, payload=frame(b"\0" * OVER)),
        f"batch: a content of {OVER} bytes, 1 to {MAX_BATCH_DECODED} are allowed",
    ),
    (
        "nothing in it",
        replace(BATCH, payload=frame(b"")),
        f"batch: a content of 0 bytes, 1 to {MAX_BATCH_DECODED} are allowed",
    ),
    ("no end", batch_of([*LINES[:2], LINES[2][:-1]]), "batch: its last message has no end"),
    ("too many", replace(BATCH, payload=frame(b"{}\n" * 257)), "batch: 257 messages, at most 256 are allowed"),
    ("an empty line", batch_of([*LINES, b"\n"]), "envelope: Input data was truncated"),
    ("out of order", batch_of([LINES[1], LINES[0], LINES[2]]), "batch: its sequences do not rise"),
    ("the same twice", batch_of([LINES[0], LINES[0], LINES[2]]), "batch: its sequences do not rise"),
    ("one too few", batch_of(LINES[:2]), "batch: 2 messages from 5 to 6, but the user properties say 3 from 5 to 9"),
    ("of another epoch", batch_of(LINES, epoch="f" * 32), ELSEWHERE),
    ("in another lane", batch_of(LINES, lane="alarm"), "user properties: stream `data` has no lane `alarm`"),
    (
        "a property twice",
        replace(BATCH, properties=(*BATCH.properties, ("lane", "live"))),
        "user properties: one of them is there twice",
    ),
    ("no properties", replace(BATCH, properties=()), "user properties: Object missing required field `device`"),
    (
        "on another topic",
        replace(BATCH, topic=f"a/{DEVICE}/verdict"),
        f"topic `a/{DEVICE}/verdict` does not end in {DEVICE}/batch",
    ),
)


@pytest.mark.parametrize(("what", "sent", "message"), UNREADABLE, ids=[row[0] for row in UNREADABLE])
def test_what_a_consumer_refuses(what: str, sent: Publish, message: str) -> None:
    with pytest.raises(DecodeError) as raised:
        read_message(sent.topic, sent.payload, sent.content_type, sent.properties)
    assert raised.value.message == message


def test_a_frame_that_lies_about_its_size_is_refused() -> None:
    data = bytearray(frame(b"x" * 1000 + b"\n", write_checksum=False))
    assert data[4] == 0x60  # single segment, two bytes of content size: RFC 8878 section 3.1.1.1
    data[5:7] = (100).to_bytes(2, "little")
    with pytest.raises(DecodeError, match=r"^batch: "):
        unpack(bytes(data))


def test_others_may_use_the_broker() -> None:
    assert is_ours(SENT.content_type, SENT.properties)
    assert is_ours(BATCH_CONTENT, ())
    assert not is_ours("application/json", ())
    assert not is_ours("", SENT.properties)
    assert not is_ours("text/plain", SENT.properties)


def test_a_gap_may_be_of_an_epoch_that_is_over() -> None:
    gap = Gap(epoch="c0de" * 8, stream="data", first=1, last=None, reason="corrupt")
    assert decode_gap(encode_gap(gap)) == gap
