"""The watcher without a broker: what it makes of messages, its receipts, its state file, its table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.core.errors import DecodeError, InputError
from appliance.formats.gap import Gap, encode_gap
from appliance.formats.receipt import decode_receipt
from appliance.uplink.dialect import Publish, Sending
from appliance.uplink.json_dialect import JsonDialect
from appliance.uplink.spooled import Lane, Spooled
from builder.cli.main import main
from builder.uplink import state
from builder.uplink.table import age_words, as_text, cells, missing_words
from builder.uplink.tally import Tally
from builder.uplink.watch import Heard, Rate, Recent, Watch

EPOCH, OLD, DEVICE = "0a" * 16, "c0de" * 8, "line-3-cell-7"
DIALECT = JsonDialect(namespace="example/plant-4", device=DEVICE, epoch=EPOCH, batches=True, receipts=True)


def heard(sent: Publish, packet: int = 1, *, again: bool = False) -> Heard:
    return Heard(sent.topic, sent.payload, sent.content_type, sent.properties, packet, again)


def message(sequence: int, lane: Lane = "live", age_ms: int | None = 250) -> Publish:
    spooled = Spooled("data", sequence, "verdict", 1, "1b" * 16, sequence, 0, "unknown", b'{"schema":1}\n')
    return DIALECT.encode(spooled, Sending(lane, age_ms))


def gap(first: int, last: int | None, *, epoch: str = EPOCH, sequence: int = 1) -> Publish:
    body = encode_gap(Gap(epoch=epoch, stream="data", first=first, last=last, reason="dropped"))
    spooled = Spooled("alarm", sequence, "gap", 1, "1b" * 16, 5, 0, "unknown", body)
    return DIALECT.encode(spooled, Sending("alarm", 0))


@pytest.fixture
def watch() -> Watch:
    return Watch(Tally(), Recent(10))


def test_a_row_says_it_all(watch: Watch) -> None:
    for number in (1, 2, 3, 9, 9, 5):
        watch.take(heard(message(number, age_ms=number)), 20.0)
    watch.take(heard(gap(7, 8)), 20.0)
    [alarm, data] = watch.rows(21.0)
    assert (alarm["stream"], alarm["received"]) == ("alarm", 1)
    assert data == {
        "device": DEVICE,
        "epoch": EPOCH,
        "stream": "data",
        "highest": 9,
        "received": 6,
        "duplicates": 1,
        "late": 1,
        "disordered": 1,
        "missing": 2,
        "missing_ranges": [[4, 4], [6, 6]],
        "excused": 2,
        "rate": 0.6,
        "age_ms": 5,
    }
    assert not watch.whole


def test_a_gap_without_an_end_closes_its_epoch(watch: Watch) -> None:
    watch.take(heard(message(1)), 0.0)
    watch.take(heard(gap(1, None, epoch=OLD)), 0.0)
    assert watch.whole
    assert [(row["epoch"], row["missing"]) for row in watch.rows(0.0) if row["stream"] == "data"] == [
        (EPOCH, 0),
        (OLD, 0),
    ]


def test_a_gap_record_that_is_none_is_unreadable(watch: Watch) -> None:
    body = encode_gap(Gap(epoch=EPOCH, stream="data", first=5, last=9, reason="expired")).replace(
        b'"last":9', b'"last":4'
    )
    spooled = Spooled("alarm", 1, "gap", 1, "1b" * 16, 5, 0, "unknown", body)
    watch.take(heard(DIALECT.encode(spooled, Sending("alarm", 0))), 0.0)
    assert watch.unreadable == 1
    assert watch.last_fault == f"example/plant-4/{DEVICE}/gap: gap: it ends at 4, before its first 5"
    assert watch.rows(0.0) == []


def test_a_row_is_text_for_people() -> None:
    row = {
        "device": "line-3",
        "epoch": EPOCH,
        "stream": "data",
        "highest": 90,
        "received": 80,
        "duplicates": 3,
        "late": 2,
        "disordered": 0,
        "missing": 12,
        "missing_ranges": [[4, 4], [6, 8], [10, 12], [20, 24]],
        "excused": 7,
        "rate": 0.64,
        "age_ms": None,
    }
    assert as_text([row]).splitlines() == [
        "device  epoch     stream  highest  received  missing               gaps  twice  late  disorder  per s  age",
        "line-3  0a0a0a0a  data    90       80        12: 4, 6-8, 10-12, …  7     3      2     0         0.6    ?",
    ]
    assert cells(row)[5] == missing_words(row)


@pytest.mark.parametrize(
    ("age_ms", "words"),
    [(None, "?"), (0, "0.0 s"), (59_900, "59.9 s"), (60_000, "1.0 min"), (7_200_000, "2.0 h"), (172_800_000, "2.0 d")],
)
def test_an_age_in_words(age_ms: int | None, words: str) -> None:
    assert age_words(age_ms) == words


def test_a_rate_forgets() -> None:
    rate = Rate()
    for second in range(20):
        for _ in range(3):
            rate.count(second + 0.5)
    assert (rate.per_second(20.0), rate.per_second(25.0), rate.per_second(40.0)) == (3.0, 1.5, 0.0)


# ---- what the broker repeats


def test_what_the_broker_repeats_is_not_counted(watch: Watch) -> None:
    watch.take(heard(message(1), 7), 0.0)
    watch.take(heard(message(1), 7, again=True), 0.0)
    assert watch.tally.total("received") == 1


@pytest.mark.parametrize(
    ("number", "packet", "again"),
    [(1, 7, False), (1, 8, True), (2, 7, True)],
    ids=["sent anew", "in another packet", "another message"],
)
def test_everything_else_is_counted(watch: Watch, number: int, packet: int, again: bool) -> None:
    watch.take(heard(message(1), 7), 0.0)
    watch.take(heard(message(number), packet, again=again), 0.0)
    assert watch.tally.total("received") == 2


def test_only_so_many_are_remembered() -> None:
    recent = Recent(3)
    for packet in range(1, 6):
        recent.add(heard(message(packet), packet))
    assert [packet for packet, _digest in recent.entries()] == [3, 4, 5]


# ---- receipts


def test_a_receipt_names_whole_ranges_once(watch: Watch) -> None:
    for number in (1, 2, 3, 5):
        watch.take(heard(message(number)), 0.0)
    [(topic, payload)] = watch.receipts()
    assert topic == f"example/plant-4/{DEVICE}/receipt"
    assert decode_receipt(payload).ranges == ((1, 3), (5, 5))
    assert list(watch.receipts()) == []
    watch.take(heard(message(4)), 0.0)
    assert [decode_receipt(payload).ranges for _topic, payload in watch.receipts()] == [((1, 5),)]


def test_a_device_that_repeats_itself_is_told_again(watch: Watch) -> None:
    watch.take(heard(message(1), 1), 0.0)
    list(watch.receipts())
    watch.take(heard(message(1), 2), 0.0)
    watch.take(heard(message(1), 2, again=True), 0.0)
    assert len(list(watch.receipts())) == 1


def test_many_holes_make_several_receipts(watch: Watch) -> None:
    for number in range(1, 400, 2):
        watch.take(heard(message(number)), 0.0)
    receipts = [decode_receipt(payload) for _topic, payload in watch.receipts()]
    assert [len(each.ranges) for each in receipts] == [64, 64, 64, 8]


# ---- the state file


def test_a_watcher_goes_on_from_its_file(watch: Watch, tmp_path: Path) -> None:
    path = tmp_path / "watch.json"
    for packet, number in enumerate((1, 2, 9, 9), start=1):
        watch.take(heard(message(number), packet), 0.0)
    watch.take(heard(gap(3, 4)), 0.0)
    state.save(path, watch)
    resumed = state.load(path, joined=False, limit=10)
    assert state.encode_state(resumed) == state.encode_state(watch)
    resumed.take(heard(message(9), 4, again=True), 0.0)
    assert resumed.tally.total("duplicates") == 1
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_message_without_a_packet_identifier_is_counted_and_kept(watch: Watch) -> None:
    for _ in range(2):
        watch.take(heard(message(1), 0), 0.0)
    resumed = state.decode_state(state.encode_state(watch), joined=False, limit=10)
    assert (resumed.tally.total("received"), resumed.tally.total("duplicates")) == (2, 1)


STATE = json.dumps({"schema": 1, "unreadable": 0, "streams": [], "recent": []})
BAD_STATES = (
    ("nothing", "", "the state of a watcher: Input data was truncated"),
    ("another schema", STATE.replace("1", "2"), "the state of a watcher: Invalid enum value 2 - at `$.schema`"),
    ("another key", STATE[:-1] + ', "x": 1}', "the state of a watcher: Object contains unknown field `x`"),
    (
        "a packet that cannot be",
        STATE.replace('"recent": []', '"recent": [[0, "0123456789abcdef"]]'),
        "the state of a watcher: Expected `int` >= 1 - at `$.recent[0][0]`",
    ),
)


@pytest.mark.parametrize(("what", "text", "message_"), BAD_STATES, ids=[row[0] for row in BAD_STATES])
def test_a_state_file_that_is_none(what: str, text: str, message_: str, tmp_path: Path) -> None:
    path = tmp_path / "watch.json"
    path.write_text(text)
    with pytest.raises(DecodeError) as raised:
        state.load(path, joined=False, limit=10)
    assert str(raised.value) == f"{path}: {message_}"
    assert raised.value.hint == "give another file, or remove it to count anew"


def test_a_range_backwards_in_a_state_file(watch: Watch) -> None:
    watch.take(heard(message(5)), 0.0)
    data = state.encode_state(watch).replace(b"[[5,5]]", b"[[5,4]]")
    with pytest.raises(DecodeError, match="a range from 5 to 4"):
        state.decode_state(data, joined=False, limit=10)


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such directory"):
        state.load(tmp_path / "none" / "watch.json", joined=False, limit=10)


# ---- the command's input


def test_files_that_are_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["uplink", "watch", "broker.test", "--ca", "ca.pem", "--certificate", "c.pem", "--key", "k.pem"]
    assert main(words) == 2
    assert capsys.readouterr().err == "error: ca.pem: there is no such file\nhint: PEM, from the site's CA\n"


def test_files_that_are_no_pem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.pem"
    path.write_text("hello")
    words = ["uplink", "watch", "broker.test", "--ca", str(path), "--certificate", str(path), "--key", str(path)]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {path}: not the PEM that it should be: ")
    assert said.endswith("hint: certificate and key must fit\n")


def test_an_interval_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["uplink", "watch", "broker.test", "--ca", "c", "--certificate", "c", "--key", "k", "--interval", "0"]
    assert main(words) == 2
    assert capsys.readouterr().err == "error: --interval: an interval is longer than nothing\n"
