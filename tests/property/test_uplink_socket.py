"""The uplink's socket and its spool against bytes that nobody would send or write."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from appliance.core.canonical import canonical_json
from appliance.core.clock import Moment
from appliance.core.errors import DecodeError
from appliance.formats.alarm import Alarm, decode_alarm
from appliance.formats.device import Namespace, UplinkConfig
from appliance.formats.uplink_message import (
    MAX_PACKET,
    Accepted,
    Refused,
    Status,
    decode_uplink_answer,
    decode_uplink_request,
    encode_body,
    encode_uplink_message,
)
from appliance.uplink.desk import Desk
from appliance.uplink.keeping import Keeper
from appliance.uplink.outbox import STREAMS, Outbox
from appliance.uplink.ranges import RangeSet
from appliance.uplink.spoolfile import SpoolDamagedError
from builder.host.paths import source_root
from tests.support.effort import examples

CORPUS = [
    text.encode() for text in json.loads((source_root() / "tests/vectors/uplink-socket.json").read_text())["requests"]
]
NOW = Moment("0b6f" * 8, 1, 1)
EVERYBODY = frozenset({1})


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """A request of the vectors with some bytes changed, cut, doubled or mixed with another one."""
    data = draw(st.sampled_from(CORPUS))
    for _ in range(draw(st.integers(1, 4))):
        at, to = sorted(draw(st.tuples(st.integers(0, len(data)), st.integers(0, len(data)))))
        other = draw(st.sampled_from(CORPUS))
        data = draw(
            st.sampled_from(
                [
                    data[:at] + draw(st.binary(max_size=8)) + data[at:],
                    data[:at] + data[to:],
                    data[:to] + data[at:],
                    data[:at] + other[at:to] + data[to:],
                    data[:at] + b"[" * (to - at) + data[to:],
                ]
            )
        )
    return data


def desk(directory: Path) -> tuple[Desk, Outbox]:
    outbox = Outbox(directory / "outbox", NOW)
    config = UplinkConfig(namespace=Namespace(enterprise="e", site="s"))
    status = Status(id=0, connected=False, spooled=0, spooled_bytes=0, accepted=0, acknowledged=0, refused=0)
    taken = Desk(
        outbox,
        Keeper(outbox, config),
        device="line-3-cell-7",
        senders=dict.fromkeys(("verdict", "update", "alarm", "audit"), EVERYBODY),
        readers=EVERYBODY,
        flying=lambda _: RangeSet(),
        status=lambda number: msgspec.structs.replace(status, id=number),
    )
    return taken, outbox


@examples(20)
@given(st.lists(st.one_of(mutations(), st.binary(max_size=400), st.sampled_from(CORPUS)), max_size=60), st.booleans())
def test_whatever_comes_has_an_answer_and_only_what_is_right_is_kept(packets: list[bytes], allowed: bool) -> None:
    with tempfile.TemporaryDirectory() as directory:
        taken, outbox = desk(Path(directory))
        accepted = []
        for data in packets:
            answer = taken.take(1 if allowed else 2, data, NOW)
            assert decode_uplink_answer(encode_uplink_message(answer)) == answer
            if isinstance(answer, Accepted):
                accepted.append((answer.stream, answer.sequence))
            elif isinstance(answer, Refused):
                assert answer.detail
        assert allowed or not accepted
        outbox.commit(NOW)
        kept = [one for stream in STREAMS for one in outbox.read(stream, 1, 10**6, 10**6)]
        assert [(one.stream, one.sequence) for one in kept] == sorted(accepted, key=lambda one: STREAMS.index(one[0]))
        for one in kept:
            value = msgspec.json.decode(one.body)
            assert canonical_json(value) == one.body, "what leaves is canonical"
            assert value["device"] == "line-3-cell-7"
        outbox.close()


@given(st.one_of(mutations(), st.binary()))
def test_the_decoder_refuses_with_a_reason(data: bytes) -> None:
    for decode in (decode_uplink_request, decode_uplink_answer, decode_alarm):
        try:
            decode(data)
        except DecodeError as error:
            assert error.message


@given(st.integers(1, 1000))
def test_what_is_too_large_is_not_looked_at(more: int) -> None:
    try:
        decode_uplink_request(CORPUS[0] + b" " * (MAX_PACKET - len(CORPUS[0]) + more))
        raise AssertionError
    except DecodeError as error:
        assert str(error).endswith(f"at most {MAX_PACKET} are allowed")


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=256), st.integers(0, 2**53 - 1))
def test_the_fast_canonical_form_is_the_canonical_form(text: str, number: int) -> None:
    alarm = Alarm(device="d", boot_id="0" * 32, name="n", active=True, text=text, monotonic_us=number)
    assert encode_body(alarm) == canonical_json(msgspec.to_builtins(alarm))
    assert decode_alarm(encode_body(alarm)) == alarm


@examples(40)
@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=300)), max_size=4))
def test_a_damaged_spool_is_replaced_or_read_and_never_more(faults: list[tuple[float, bytes]]) -> None:
    """What damage does not show is what it leaves intact: bodies have no checksum of their own, the disk has."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "outbox"
        outbox = Outbox(path, NOW)
        for number in range(60):
            outbox.add("data", "verdict", b'{"a":%d}\n' % number + bytes(200), NOW)
        outbox.commit(NOW)
        outbox.close()
        data = bytearray(path.read_bytes())
        for place, garbage in faults:
            at = int(place * len(data))
            data[at : at + len(garbage)] = garbage[: len(data) - at]
        path.write_bytes(data)
        outbox = Outbox(path, NOW)
        assert outbox.replaced is None or (Path(name) / "outbox.rejected-1").read_bytes() == data
        for _ in range(2):
            try:
                for one in outbox.read("data", 1, 1000, 1000):
                    outbox.remove("data", one.sequence, one.sequence)
                outbox.add("alarm", "alarm", b"{}\n", NOW)
                outbox.commit(NOW)
            except SpoolDamagedError as error:
                outbox.recover(error, NOW)
            else:
                break
        else:
            raise AssertionError("a new spool is damaged, too")
        outbox.close()
