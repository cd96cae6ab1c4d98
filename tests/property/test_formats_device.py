"""Decoders of the device: any value survives, any bytes are refused by our own error, any cut is put together again."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.core.clock import Moment
from appliance.core.errors import DecodeError, VerificationError
from appliance.formats.agent import (
    Python,
    Read,
    Run,
    agent_splitter,
    decode_from_device,
    decode_request,
    encode_agent_message,
)
from appliance.formats.audit_event import (
    CATALOGUE,
    MAX_EVENT_BYTES,
    AuditEvent,
    decode_audit_answer,
    decode_event,
    encode_event,
)
from appliance.formats.audit_log import Sender
from appliance.formats.audit_log_v1 import (
    FIRST_PREVIOUS,
    MAX_LINE_BYTES,
    decode_entry,
    encode_entry,
    line_digest,
    make_entry,
    verify_lines,
)
from appliance.formats.frame import MAX_SEQUENCE, Frame, FrameDecoder, encode_frame
from appliance.formats.model_card import decode_model_card
from appliance.formats.recovery import decode_escrow, luks_uuid
from appliance.formats.uplink_message import (
    PublishVerdict,
    decode_uplink_answer,
    decode_uplink_request,
    encode_uplink_message,
)
from appliance.formats.verdict import Verdict, decode_verdict, encode_verdict

DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)
BOOT_IDS = st.text("0123456789abcdef", min_size=32, max_size=32)
COUNTS = st.integers(0, 2**53 - 1)
NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,62}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)

FRAMES = st.builds(
    lambda sequence, width, height, byte: Frame(sequence, width, height, bytes([byte]) * (width * height * 3)),
    st.integers(0, MAX_SEQUENCE),
    st.integers(16, 24),
    st.integers(16, 24),
    st.integers(0, 255),
)
VERDICTS = st.builds(
    Verdict,
    device=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", fullmatch=True),
    boot_id=BOOT_IDS,
    start_us=COUNTS,
    sequence=st.integers(1, 2**53 - 1),
    frame_sequence=st.integers(0, MAX_SEQUENCE).map(str),
    frame_sha256=DIGESTS,
    label=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9 ._/+-]{0,62}", fullmatch=True),
    score_ppm=st.integers(0, 1_000_000),
    model=NAMES,
    model_sha256=DIGESTS,
    execution_provider=st.sampled_from(["cpu", "openvino", "qnn", "xnnpack"]),
    latency_us=COUNTS,
    monotonic_us=COUNTS,
)


@st.composite
def events(draw: st.DrawFn) -> AuditEvent:
    """An event of the catalogue with values of the right types."""
    kind = draw(st.sampled_from(sorted(CATALOGUE)))
    values: dict[str, st.SearchStrategy[Any]] = {"text": TEXTS, "count": COUNTS, "flag": st.booleans()}
    fields = {name: draw(values[type_]) for name, type_ in CATALOGUE[kind].fields.items()}
    return AuditEvent(kind=kind, result=draw(st.sampled_from(["success", "failure"])), fields=fields)


@st.composite
def logs(draw: st.DrawFn) -> list[bytes]:
    """The lines of a log."""
    lines: list[bytes] = []
    previous = FIRST_PREVIOUS
    for event in draw(st.lists(events(), min_size=2, max_size=6)):
        moment = Moment(draw(BOOT_IDS), draw(COUNTS), draw(COUNTS))
        sender = Sender(uid=draw(st.integers(0, 2**32 - 1)), pid=draw(st.integers(0, 2**22)), unit=draw(NAMES))
        entry = make_entry(event, sender, moment, sequence=len(lines) + 1, previous=previous)
        lines.append(encode_entry(entry))
        previous = line_digest(lines[-1])
    return lines


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data` cut at the given places."""
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


@given(st.lists(FRAMES, max_size=4), st.lists(st.integers(0, 10**6), max_size=8))
def test_frames_survive_any_cut(frames: list[Frame], cuts: list[int]) -> None:
    decoder = FrameDecoder(max_pixels=24 * 24)
    got = []
    for piece in pieces(b"".join(map(encode_frame, frames)), cuts):
        decoder.feed(piece)
        got += list(iter(decoder.take, None))
    assert got == frames


@given(st.binary(max_size=200))
def test_random_bytes_are_no_frame(data: bytes) -> None:
    decoder = FrameDecoder(max_pixels=24 * 24)
    decoder.feed(data)
    if len(data) < 32:
        assert decoder.take() is None
    else:
        with pytest.raises(DecodeError):
            decoder.take()


@given(VERDICTS)
def test_verdicts_survive_both_ways_out(verdict: Verdict) -> None:
    assert decode_verdict(encode_verdict(verdict)) == verdict
    request = PublishVerdict(id=1, verdict=verdict)
    assert decode_uplink_request(encode_uplink_message(request)) == request


@given(VERDICTS, st.integers(0, 2**16), st.integers(1, 255))
def test_a_changed_verdict_is_refused_or_another_one(verdict: Verdict, place: int, change: int) -> None:
    data = bytearray(encode_verdict(verdict))
    data[place % len(data)] ^= change
    try:
        changed = decode_verdict(bytes(data))
    except DecodeError:
        return
    assert changed != verdict
    assert encode_verdict(changed) == bytes(data)


@given(events())
def test_events_survive_and_fit_into_a_line(event: AuditEvent) -> None:
    try:
        packet = encode_event(event)
    except DecodeError as error:
        assert "bytes, at most 4096 are allowed" in error.message
        return
    assert decode_event(packet) == event
    sender = Sender(uid=2**32 - 1, pid=2**22, unit="u" * 256)
    top = 2**53 - 1
    entry = make_entry(event, sender, Moment("0" * 32, top, top), sequence=top, previous="f" * 64)
    assert len(encode_entry(entry)) <= MAX_LINE_BYTES
    assert decode_entry(encode_entry(entry)) == entry


@given(st.text(max_size=1024).map(lambda text: json.dumps(text)))
def test_any_text_that_fits_into_an_event_fits_into_a_line(text: str) -> None:
    packet = f'{{"kind":"service-started","result":"success","fields":{{"service":{text}}}}}'.encode()
    if len(packet) > MAX_EVENT_BYTES:
        return
    try:
        event = decode_event(packet)
    except DecodeError:
        return
    sender = Sender(uid=0, pid=0, unit="")
    entry = make_entry(event, sender, Moment("0" * 32, 0, 0), sequence=1, previous=FIRST_PREVIOUS)
    assert len(encode_entry(entry)) <= MAX_LINE_BYTES


@given(logs(), st.data())
def test_a_log_shows_every_change_but_one_at_its_end(lines: list[bytes], data: st.DataObject) -> None:
    assert len(verify_lines(lines)) == len(lines)
    victim = data.draw(st.integers(0, len(lines) - 2))
    place = data.draw(st.integers(0, len(lines[victim]) - 1))
    change = data.draw(st.integers(1, 255))
    line = bytearray(lines[victim])
    line[place] ^= change
    changed = [*lines[:victim], bytes(line), *lines[victim + 1 :]]
    with pytest.raises((DecodeError, VerificationError)):
        verify_lines(changed)
    with pytest.raises((DecodeError, VerificationError)):
        verify_lines([*lines[:victim], *lines[victim + 1 :]])


@given(st.lists(st.text(max_size=20), min_size=1, max_size=4), st.lists(st.integers(0, 10**4), max_size=6))
def test_agent_messages_survive_any_cut(words: list[str], cuts: list[int]) -> None:
    words = [word.encode(errors="replace").decode() for word in words]
    messages = [Run(id=1, argv=tuple(words)), Python(id=2, source=words[0]), Read(id=3, path=words[-1])]
    splitter = agent_splitter()
    got = []
    for piece in pieces(b"".join(map(encode_agent_message, messages)), cuts):
        splitter.feed(piece)
        got += [decode_request(body) for body in iter(splitter.take, None)]
    assert got == messages


@pytest.mark.parametrize(
    "decode",
    [
        decode_verdict,
        decode_event,
        decode_audit_answer,
        decode_entry,
        decode_model_card,
        decode_escrow,
        decode_uplink_request,
        decode_uplink_answer,
        decode_request,
        decode_from_device,
        luks_uuid,
    ],
)
@given(
    data=st.binary(max_size=300)
    | st.recursive(TEXTS | COUNTS, lambda kind: st.lists(kind) | st.dictionaries(TEXTS, kind), max_leaves=8).map(
        lambda value: json.dumps(value).encode()
    )
)
def test_nothing_but_our_error(decode: Any, data: bytes) -> None:
    try:
        decode(data)
    except DecodeError as error:
        assert error.message
