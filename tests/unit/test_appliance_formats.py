"""Formats of the device: the vectors, and every refusal with its exact message."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.core.errors import DecodeError, EdgesealError, VerificationError
from appliance.formats.agent import Answer, Hello, agent_splitter, decode_from_device, decode_request
from appliance.formats.audit_event import CATALOGUE, AuditEvent, decode_audit_answer, decode_event, encode_event
from appliance.formats.audit_log_v1 import decode_entry, line_digest, verify_lines
from appliance.formats.device import decode_device_config, encode_device_config
from appliance.formats.frame import Frame, FrameDecoder, encode_frame
from appliance.formats.model_card import ModelCard, decode_model_card, encode_model_card
from appliance.formats.recovery import decode_escrow, luks_uuid, verify_escrow
from appliance.formats.uplink_message import decode_uplink_answer, decode_uplink_request, encode_uplink_message
from appliance.formats.verdict import Verdict, decode_verdict, encode_verdict

VECTORS = Path(__file__).parent.parent / "vectors"
IEC_CATEGORIES = {
    "access-control",
    "request-error",
    "control-system",
    "backup-restore",
    "configuration-change",
    "audit-log",
}


def vectors(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_text())


FRAME = bytes.fromhex(vectors("frame-channel")["frames"][1]["message_hex"])
VERDICT = vectors("verdict")["verdicts"][0]["canonical"].encode()
CARD = vectors("model-card")["cards"][0]["canonical"].encode()
EVENT = vectors("audit-event")["events"][0]["packet"].encode()
LINES = [line.encode() for line in vectors("audit-event")["log"]["lines"]]
REQUEST = vectors("uplink-socket")["requests"][0].encode()
ESCROW = vectors("recovery-escrow")
LUKS = bytes.fromhex(ESCROW["luks_header_hex"])


def frame_message(message: bytes) -> Frame | None:
    decoder = FrameDecoder(max_pixels=640 * 480)
    decoder.feed(message)
    return decoder.take()


def agent_message(stream: bytes) -> object:
    splitter = agent_splitter()
    splitter.feed(stream)
    body = splitter.take()
    assert body is not None
    return decode_request(body)


def edited(data: bytes, **changes: object) -> bytes:
    """Canonical JSON with keys changed, `None` taken away."""
    value = json.loads(data) | changes
    kept = {key: item for key, item in value.items() if item is not None}
    return json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def test_the_frame_vectors() -> None:
    for vector in vectors("frame-channel")["frames"]:
        frame = frame_message(bytes.fromhex(vector["message_hex"]))
        assert frame is not None
        assert (str(frame.sequence), frame.width, frame.height) == (
            vector["sequence"],
            vector["width"],
            vector["height"],
        )
        assert hashlib.sha256(frame.pixels).hexdigest() == vector["pixels_sha256"]
        assert encode_frame(frame).hex() == vector["message_hex"]


def test_the_verdict_vectors() -> None:
    for vector in vectors("verdict")["verdicts"]:
        verdict = decode_verdict(vector["canonical"].encode())
        assert msgspec.to_builtins(verdict) == vector["value"]
        assert encode_verdict(verdict).decode() == vector["canonical"]


def test_the_other_vectors_decode_and_encode_to_the_same_bytes() -> None:
    card = decode_model_card(CARD)
    assert encode_model_card(card) == CARD
    for vector in vectors("device-config")["configurations"]:
        assert encode_device_config(decode_device_config(vector["canonical"].encode())).decode() == vector["canonical"]
    for text in vectors("uplink-socket")["requests"]:
        assert encode_uplink_message(decode_uplink_request(text.encode())).decode() == text
    for text in vectors("uplink-socket")["answers"]:
        assert encode_uplink_message(decode_uplink_answer(text.encode())).decode() == text
    for vector in vectors("audit-event")["events"]:
        event = decode_event(vector["packet"].encode())
        assert (event.sentence(), event.category) == (vector["sentence"], vector["category"])
        assert encode_event(event).decode() == vector["packet"]
    for text in vectors("audit-event")["answers"]:
        decode_audit_answer(text.encode())


def test_the_agent_vectors() -> None:
    requests = [agent_message(bytes.fromhex(text)) for text in vectors("agent-channel")["from_host_hex"]]
    assert [type(request).__name__ for request in requests] == ["Run", "Python", "Read", "Write", "Connect"]
    splitter = agent_splitter()
    splitter.feed(b"".join(bytes.fromhex(text) for text in vectors("agent-channel")["from_device_hex"]))
    answers = [decode_from_device(body) for body in iter(splitter.take, None)]
    assert [type(answer) for answer in answers] == [Hello, Answer, Answer, Answer]
    assert splitter.pending() == 0


def test_the_log_vectors_verify() -> None:
    assert [entry.sequence for entry in verify_lines(LINES)] == [1, 2]
    assert line_digest(LINES[-1]) == vectors("audit-event")["log"]["digest_of_last"]


def test_the_escrow_vectors_verify() -> None:
    escrow = verify_escrow(
        ESCROW["description"].encode(), bytes.fromhex(ESCROW["ciphertext_hex"]), volume=luks_uuid(LUKS) or ""
    )
    assert escrow.volume == "2d6c1bd2-5a0c-4b9f-9d2e-6a6d0a5d7f10"
    assert luks_uuid(b"\x00" * 4096) is None


def test_the_catalogue_covers_every_category_and_its_sentences_use_its_fields() -> None:
    assert {kind.category for kind in CATALOGUE.values()} == IEC_CATEGORIES
    samples: dict[str, str | int | bool] = {"text": "x", "count": 1, "flag": True}
    for name, kind in CATALOGUE.items():
        event = AuditEvent(
            kind=name, result="success", fields={field: samples[type_] for field, type_ in kind.fields.items()}
        )
        assert decode_event(encode_event(event)) == event
        assert "{" not in event.sentence()
        assert event.sentence().endswith(".")


HEADER = FRAME[4:32]
ONE_PIXEL_SHORT = (len(FRAME) - 7).to_bytes(4, "big")

REFUSED: list[tuple[str, Callable[[bytes], object], bytes, str]] = [
    # frames
    ("magic", frame_message, FRAME[:4] + b"ESFX" + FRAME[8:], "frame: starts with 45534658, expected 45534652"),
    ("version", frame_message, FRAME[:8] + b"\0\2" + FRAME[10:], "frame: version 2, this reader knows 1"),
    ("reserved", frame_message, FRAME[:10] + b"\0\1" + FRAME[12:], "frame: reserved bytes are 1, expected 0"),
    (
        "pixel format",
        frame_message,
        FRAME[:12] + b"BGR3" + FRAME[16:],
        "frame: pixel format 42475233, expected 52474233 (RGB3)",
    ),
    ("narrow", frame_message, FRAME[:16] + b"\0\0\0\x0f" + FRAME[20:], "frame: width 15, 16 to 8192 are allowed"),
    ("tall", frame_message, FRAME[:20] + b"\0\0\x20\1" + FRAME[24:], "frame: height 8193, 16 to 8192 are allowed"),
    ("length", frame_message, ONE_PIXEL_SHORT + FRAME[4:], "frame: a length of 793 bytes, 16x16 needs 796"),
    (
        "beyond the source",
        frame_message,
        (28 + 8192 * 8192 * 3).to_bytes(4, "big") + HEADER[:12] + b"\0\0\x20\0\0\0\x20\0" + HEADER[20:],
        "frame: 8192x8192 is more than 307200 pixels",
    ),
    # verdicts
    ("not JSON", decode_verdict, b"\x00", "verdict: JSON is malformed: invalid character (byte 0)"),
    ("empty", decode_verdict, b"", "verdict: Input data was truncated"),
    ("too long", decode_verdict, b" " * 2049, "verdict: 2049 bytes, at most 2048 are allowed"),
    ("unknown key", decode_verdict, edited(VERDICT, frame="x"), "verdict: Object contains unknown field `frame`"),
    (
        "missing key",
        decode_verdict,
        edited(VERDICT, label=None),
        "verdict: Object missing required field `label`",
    ),
    ("schema", decode_verdict, edited(VERDICT, schema=2), "verdict: Invalid enum value 2 - at `$.schema`"),
    (
        "device",
        decode_verdict,
        edited(VERDICT, device="a/b"),
        "verdict: Expected `str` matching regex '^[A-Za-z0-9][A-Za-z0-9_-]{0,62}(?!\\\\n)$' - at `$.device`",
    ),
    (
        "score",
        decode_verdict,
        edited(VERDICT, score_ppm=1_000_001),
        "verdict: Expected `int` <= 1000000 - at `$.score_ppm`",
    ),
    (
        "float",
        decode_verdict,
        edited(VERDICT, score_ppm=0.5),
        "verdict: Expected `int`, got `float` - at `$.score_ppm`",
    ),
    ("sequence", decode_verdict, edited(VERDICT, sequence=0), "verdict: Expected `int` >= 1 - at `$.sequence`"),
    ("no newline", decode_verdict, VERDICT[:-1], "verdict: not in canonical form"),
    ("white space", decode_verdict, VERDICT.replace(b":", b": ", 1), "verdict: not in canonical form"),
    (
        "frame number",
        decode_verdict,
        edited(VERDICT, frame_sequence="007"),
        "verdict: Expected `str` matching regex '^(0|[1-9][0-9]{0,19})(?!\\\\n)$' - at `$.frame_sequence`",
    ),
    # model cards
    ("same labels", decode_model_card, edited(CARD, labels=["a", "a"]), "model card: two classes have the same label"),
    (
        "one label",
        decode_model_card,
        edited(CARD, labels=["a"]),
        "model card: Expected `array` of length >= 2 - at `$.labels`",
    ),
    ("crop", decode_model_card, edited(CARD, crop=300), "model card: crop 300 is larger than resize_short 256"),
    (
        "std",
        decode_model_card,
        edited(CARD, std_ppm=[0, 1, 1]),
        "model card: Expected `int` >= 1 - at `$.std_ppm[0]`",
    ),
    ("large card", decode_model_card, b" " * 65_537, "model card: 65537 bytes, at most 65536 are allowed"),
    # audit events
    ("kind", decode_event, edited(EVENT, kind="nothing"), "audit event: no kind `nothing` in the catalogue"),
    (
        "field",
        decode_event,
        edited(EVENT, fields={"colour": "red"}),
        "audit event: model-loaded has no field `colour`",
    ),
    (
        "field type",
        decode_event,
        edited(EVENT, fields={"model": 1}),
        "audit event: field `model` of model-loaded is a text, got a count",
    ),
    (
        "missing field",
        decode_event,
        edited(EVENT, fields={"model": "m", "sha256": "s"}),
        "audit event: model-loaded lacks the field `execution_provider`",
    ),
    ("result", decode_event, edited(EVENT, result="maybe"), "audit event: Invalid enum value 'maybe' - at `$.result`"),
    (
        "sender",
        decode_event,
        edited(EVENT, sender="root"),
        "audit event: Object contains unknown field `sender`",
    ),
    ("large event", decode_event, b" " * 4097, "audit event: 4097 bytes, at most 4096 are allowed"),
    # log entries
    (
        "category",
        decode_entry,
        edited(LINES[1], category="audit-log"),
        "log entry: category audit-log is not the one of model-loaded",
    ),
    ("torn line", decode_entry, LINES[0][:-1], "log entry: not in canonical form"),
    ("long line", decode_entry, b" " * 8193, "log entry: 8193 bytes, at most 8192 are allowed"),
    # uplink
    (
        "kind of request",
        decode_uplink_request,
        b'{"kind":"raw-frame","id":1}',
        "uplink message: Invalid value 'raw-frame' - at `$.kind`",
    ),
    (
        "no kind",
        decode_uplink_request,
        b'{"id":1}',
        "uplink message: Object missing required field `kind`",
    ),
    (
        "topic",
        decode_uplink_request,
        REQUEST[:-1] + b',"topic":"x"}',
        "uplink message: Object contains unknown field `topic`",
    ),
    ("large request", decode_uplink_request, b" " * 49_409, "uplink message: 49409 bytes, at most 49408 are allowed"),
    # agent
    ("length 0", agent_message, bytes(4), "agent message: a length of 0 bytes, 1 to 67108864 are allowed"),
    (
        "length 64 MiB + 1",
        agent_message,
        b"\x04\0\0\1",
        "agent message: a length of 67108865 bytes, 1 to 67108864 are allowed",
    ),
    (
        "shell",
        agent_message,
        b"\0\0\0\x19" + b'{"kind":"shell","id":1}  ',
        "agent message: Invalid value 'shell' - at `$.kind`",
    ),
    (
        "no arguments",
        agent_message,
        b"\0\0\0\x1f" + b'{"kind":"run","id":1,"argv":[]}',
        "agent message: Expected `array` of length >= 1 - at `$.argv`",
    ),
    (
        "a unit that is none",
        agent_message,
        b'\0\0\0\x4a{"kind":"connect","id":1,"unit":"../x.service","uid":1,"address":"a","port":1}',
        "agent message: Expected `str` matching regex '^[a-z][a-z0-9-]{0,62}\\\\.service(?!\\\\n)$' - at `$.unit`",
    ),
    # recovery
    ("escrow", decode_escrow, b"{}\n", "recovery escrow: Object missing required field `volume`"),
    ("LUKS1", luks_uuid, b"LUKS\xba\xbe\0\1" + bytes(4088), "LUKS header: version 1, expected 2"),
    ("no UUID", luks_uuid, LUKS[:168] + b"x" * 40, f"LUKS header: `{'x' * 40}` is not a UUID"),
    # device configuration
    (
        "device configuration",
        decode_device_config,
        b'{"schema":1}',
        "device configuration: Object missing required field `product`",
    ),
]


@pytest.mark.parametrize(("decode", "data", "message"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_refusals(decode: Callable[[bytes], object], data: bytes, message: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(data)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (LINES[1:], "audit log: entry 2 follows entry 0"),
        ([LINES[0], LINES[0]], "audit log: entry 1 follows entry 1"),
        (
            [LINES[0].replace(b"label-check", b"label-chess"), LINES[1]],
            "audit log: entry 2 does not continue the entry before it",
        ),
    ],
    ids=["first entry cut away", "entry twice", "entry changed"],
)
def test_a_changed_log_does_not_verify(lines: list[bytes], message: str) -> None:
    with pytest.raises(VerificationError) as caught:
        verify_lines(lines)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("description", "ciphertext", "volume", "message"),
    [
        (
            ESCROW["description"],
            "00",
            "2d6c1bd2-5a0c-4b9f-9d2e-6a6d0a5d7f10",
            "recovery escrow: the ciphertext is not the one described",
        ),
        (
            ESCROW["description"],
            ESCROW["ciphertext_hex"],
            "00000000-5a0c-4b9f-9d2e-6a6d0a5d7f10",
            "recovery escrow: for volume 2d6c1bd2-5a0c-4b9f-9d2e-6a6d0a5d7f10, "
            "not for 00000000-5a0c-4b9f-9d2e-6a6d0a5d7f10",
        ),
    ],
    ids=["another ciphertext", "another volume"],
)
def test_an_escrow_that_does_not_fit(description: str, ciphertext: str, volume: str, message: str) -> None:
    with pytest.raises(EdgesealError) as caught:
        verify_escrow(description.encode(), bytes.fromhex(ciphertext), volume=volume)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (Frame(0, 16, 16, b""), "frame: 0 bytes of pixels, 16x16 needs 768"),
        (Frame(-1, 16, 16, bytes(768)), "frame: sequence -1 is not an unsigned 64-bit number"),
        (Frame(2**64, 16, 16, bytes(768)), f"frame: sequence {2**64} is not an unsigned 64-bit number"),
        (Frame(0, 16, 9000, b""), "frame: height 9000, 16 to 8192 are allowed"),
    ],
)
def test_a_frame_that_cannot_be_sent(frame: Frame, message: str) -> None:
    with pytest.raises(DecodeError) as caught:
        encode_frame(frame)
    assert str(caught.value) == message


def test_a_stream_that_went_wrong_stays_wrong() -> None:
    decoder = FrameDecoder(max_pixels=256)
    decoder.feed(b"x" * 32)
    for _ in range(2):
        with pytest.raises(DecodeError, match="starts with 78787878"):
            decoder.take()
        decoder.feed(FRAME)


def test_a_verdict_fits_into_a_request() -> None:
    """The longest verdict that the format allows is still one packet."""
    longest = msgspec.structs.replace(
        decode_verdict(VERDICT),
        device="d" * 63,
        label="l" * 63,
        model="m" * 63,
        **dict.fromkeys(("start_us", "sequence", "latency_us", "monotonic_us"), 2**53 - 1),
    )
    assert isinstance(longest, Verdict)
    assert decode_verdict(encode_verdict(longest)) == longest
    assert isinstance(decode_model_card(CARD), ModelCard)
