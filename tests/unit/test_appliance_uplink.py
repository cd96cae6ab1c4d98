"""The uplink's rules: the desk, the spool, budgets and ages."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from appliance.core.canonical import canonical_json
from appliance.core.clock import Moment
from appliance.core.errors import DecodeError
from appliance.formats.alarm import Alarm, decode_alarm, encode_alarm
from appliance.formats.device import DataLaneConfig, LaneConfig, Namespace, UplinkConfig
from appliance.formats.update_report import UpdateReport, decode_update_report, encode_update_report
from appliance.formats.uplink_message import (
    KINDS,
    Accepted,
    AskStatus,
    PublishAlarm,
    PublishUpdateReport,
    PublishVerdict,
    Refused,
    Status,
    body_of,
    decode_uplink_request,
    encode_body,
    encode_uplink_message,
)
from appliance.formats.verdict import Verdict, encode_verdict
from appliance.uplink.desk import Desk
from appliance.uplink.keeping import Keeper
from appliance.uplink.outbox import Outbox
from appliance.uplink.ranges import RangeSet
from appliance.uplink.spooled import Stream
from appliance.uplink.spoolwrite import ROW_OVERHEAD
from builder.host.paths import source_root

INFERENCE_UID = 703
OTHER_UID = 701
UPDATE_UID = 704
NOW = Moment(boot_id="0b6f" * 8, monotonic_us=1_000_000, wall_us=1_700_000_000_000_000)
VERDICT = Verdict(
    device="cell-7",
    boot_id="0" * 32,
    start_us=1,
    sequence=1,
    frame_sequence="1",
    frame_sha256="a" * 64,
    label="90",
    score_ppm=900_000,
    model="orientation",
    model_sha256="b" * 64,
    execution_provider="cpu",
    latency_us=1,
    monotonic_us=2,
)
REPORT = UpdateReport(
    device="cell-7",
    boot_id="0b6f" * 8,
    monotonic_us=2,
    transaction="0123456789abcdef",
    version=8,
    running=7,
    outcome="fell-back",
    reason="after 300 s no verdict has reached the uplink",
)
ALARM = Alarm(
    device="cell-7", boot_id="0b6f" * 8, name="frame-source-lost", active=True, text="no camera", monotonic_us=2
)
COST = len(encode_verdict(VERDICT)) + ROW_OVERHEAD
LEAST = 64 << 10


def later(seconds: float, **changes: object) -> Moment:
    moved = Moment(NOW.boot_id, NOW.monotonic_us + int(seconds * 1e6), NOW.wall_us + int(seconds * 1e6))
    return Moment(**{**{name: getattr(moved, name) for name in Moment.__dataclass_fields__}, **changes})  # type: ignore[arg-type]


def config(**lanes: object) -> UplinkConfig:
    return UplinkConfig(namespace=Namespace(enterprise="example", site="plant"), **lanes)  # type: ignore[arg-type]


class Taken:
    """A desk with its spool."""

    def __init__(self, directory: Path, **lanes: object) -> None:
        self.outbox = Outbox(directory / "outbox", NOW)
        self.keeper = Keeper(self.outbox, config(**lanes))
        self.flying: dict[Stream, RangeSet] = {}
        self.desk = Desk(
            self.outbox,
            self.keeper,
            device="cell-7",
            senders={
                "verdict": frozenset({INFERENCE_UID}),
                "update": frozenset({UPDATE_UID}),
                "alarm": frozenset({INFERENCE_UID, UPDATE_UID, 0}),
                "audit": frozenset({OTHER_UID}),
            },
            readers=frozenset({0}),
            flying=lambda stream: self.flying.get(stream, RangeSet()),
            status=lambda number: Status(
                id=number, connected=False, spooled=0, spooled_bytes=0, accepted=0, acknowledged=0, refused=0
            ),
        )

    def take(self, uid: int, data: bytes) -> object:
        return self.desk.take(uid, data, NOW)

    def commit(self) -> None:
        self.outbox.commit(NOW)
        self.keeper.committed()
        self.desk.committed()

    def sequences(self, stream: Stream = "data") -> list[int]:
        return [one.sequence for one in self.outbox.read(stream, 1, 10**9, 10**6)]


def publish(**changes: object) -> bytes:
    return encode_uplink_message(PublishVerdict(id=9, verdict=msgspec.structs.replace(VERDICT, **changes)))


def report(**changes: object) -> bytes:
    return encode_uplink_message(PublishUpdateReport(id=9, report=msgspec.structs.replace(REPORT, **changes)))


def alarm(**changes: object) -> bytes:
    return encode_uplink_message(PublishAlarm(id=9, alarm=msgspec.structs.replace(ALARM, **changes)))


@pytest.mark.parametrize(
    ("uid", "data", "stream", "kind", "body"),
    [
        (INFERENCE_UID, publish(), "data", "verdict", encode_verdict(VERDICT)),
        (UPDATE_UID, report(), "data", "update", encode_update_report(REPORT)),
        (0, alarm(), "alarm", "alarm", encode_alarm(ALARM)),
    ],
    ids=["verdict", "update", "alarm"],
)
def test_a_message_is_spooled_in_canonical_form(
    tmp_path: Path, uid: int, data: bytes, stream: Stream, kind: str, body: bytes
) -> None:
    taken = Taken(tmp_path)
    assert taken.take(uid, data) == Accepted(id=9, stream=stream, sequence=1)
    taken.commit()
    [spooled] = taken.outbox.read(stream, 1, 9, 9)
    assert (spooled.kind, spooled.body, spooled.boot, spooled.boot_id) == (kind, body, 1, NOW.boot_id)
    assert (spooled.monotonic_us, spooled.wall_us, spooled.quality) == (NOW.monotonic_us, NOW.wall_us, "unknown")


@pytest.mark.parametrize(
    ("uid", "data", "refused"),
    [
        (OTHER_UID, publish(), Refused(id=9, reason="not-allowed", detail="uid 701 may not send verdicts")),
        (0, publish(), Refused(id=9, reason="not-allowed", detail="uid 0 may not send verdicts")),
        (
            INFERENCE_UID,
            publish(device="cell-8"),
            Refused(id=9, reason="not-allowed", detail="the verdict names another device"),
        ),
        (
            INFERENCE_UID,
            report(),
            Refused(id=9, reason="not-allowed", detail="uid 703 may not send reports of updates"),
        ),
        (UPDATE_UID, publish(), Refused(id=9, reason="not-allowed", detail="uid 704 may not send verdicts")),
        (OTHER_UID, alarm(), Refused(id=9, reason="not-allowed", detail="uid 701 may not send alarms")),
        (
            INFERENCE_UID,
            encode_uplink_message(AskStatus(id=4)),
            Refused(id=4, reason="not-allowed", detail="uid 703 may not ask for the status"),
        ),
        (
            INFERENCE_UID,
            b"[]",
            Refused(id=0, reason="malformed", detail="uplink message: Expected `object`, got `array`"),
        ),
        (
            INFERENCE_UID,
            b'{"kind":"frame","id":1,"pixels":"AAAA"}',
            Refused(id=0, reason="malformed", detail="uplink message: Invalid value 'frame' - at `$.kind`"),
        ),
        (
            INFERENCE_UID,
            publish()[:-2] + b',"pixels":"AAAA"}}',
            Refused(
                id=0,
                reason="malformed",
                detail="uplink message: Object contains unknown field `pixels` - at `$.verdict`",
            ),
        ),
        (
            INFERENCE_UID,
            b"[" * 5000,
            Refused(id=0, reason="malformed", detail="uplink message: Expected `object`, got `array`"),
        ),
        (
            INFERENCE_UID,
            b" " * 49_409,
            Refused(id=0, reason="too-large", detail="a message has at most 49408 bytes"),
        ),
        (
            INFERENCE_UID,
            alarm(device="cell-8"),
            Refused(id=9, reason="not-allowed", detail="the alarm names another device"),
        ),
    ],
    ids=[
        "another service",
        "root",
        "another device",
        "report",
        "verdict",
        "alarm",
        "status",
        "malformed",
        "a frame",
        "a frame inside",
        "nested",
        "too large",
        "another device of the alarm",
    ],
)
def test_refusals(tmp_path: Path, uid: int, data: bytes, refused: Refused) -> None:
    taken = Taken(tmp_path)
    assert taken.take(uid, data) == refused
    assert taken.desk.refusals == {refused.reason: 1}
    assert not taken.outbox.has_added


def test_a_full_stream_refuses_and_the_others_do_not(tmp_path: Path) -> None:
    taken = Taken(tmp_path, data=DataLaneConfig(bytes=LEAST))
    answers = [taken.take(INFERENCE_UID, publish()) for _ in range(LEAST // COST + 1)]
    assert all(isinstance(answer, Accepted) for answer in answers[:-1])
    held = LEAST // COST * COST
    assert answers[-1] == Refused(id=9, reason="full", detail=f"the stream data holds {held} bytes")
    assert isinstance(taken.take(0, alarm()), Accepted)
    taken.commit()
    assert taken.desk.accepted == {"verdict": LEAST // COST, "update": 0, "alarm": 1, "audit": 0}


def test_under_drop_oldest_the_oldest_go_but_nothing_that_is_on_the_wire(tmp_path: Path) -> None:
    taken = Taken(tmp_path, data=DataLaneConfig(bytes=LEAST, full="drop-oldest"))
    for _ in range(LEAST // COST):
        taken.take(INFERENCE_UID, publish())
    taken.commit()
    taken.flying["data"] = RangeSet([(1, 2)])
    for _ in range(3):
        assert isinstance(taken.take(INFERENCE_UID, publish()), Accepted)
    taken.commit()
    sequences = taken.sequences()
    assert sequences[:2] == [1, 2]
    [gap] = taken.outbox.gaps
    assert (gap.stream, gap.first, gap.reason) == ("data", 3, "dropped")
    assert gap.last == sequences[2] - 1
    assert taken.outbox.given_up == {"dropped": gap.last - 2}
    assert taken.outbox.news() == [("data", "dropped", 3, gap.last, gap.last - 2)]
    assert taken.outbox.used <= LEAST


def test_gap_records_that_wait_grow_together_and_are_never_dropped(tmp_path: Path) -> None:
    taken = Taken(tmp_path, alarm=LaneConfig(bytes=LEAST, full="drop-oldest"))
    taken.outbox.add("alarm", "gap", b"{}\n", NOW)
    taken.commit()
    for number in range(1000):
        taken.take(0, alarm())
        if number % 50 == 0:
            taken.commit()
    taken.commit()
    [gap] = taken.outbox.gaps
    assert (gap.stream, gap.first, gap.reason) == ("alarm", 2, "dropped")
    assert taken.sequences("alarm")[0] == 1
    taken.outbox.close()
    assert list(Outbox(tmp_path / "outbox", NOW).gaps) == [gap]


OTHER_BOOT = "1" * 32
EXPIRING = {"data": DataLaneConfig(bytes=LEAST, expiry_s=3600)}


@pytest.mark.parametrize(
    ("lanes", "accepted", "now", "expired"),
    [
        (EXPIRING, NOW, later(3599), 0),
        (EXPIRING, NOW, later(3600), 1),
        # Off for a day, and nobody knows it: only the minute with power counts.
        (EXPIRING, NOW, Moment(OTHER_BOOT, 60_000_000, 0), 0),
        ({**EXPIRING, "powered_off": "expired"}, NOW, Moment(OTHER_BOOT, 60_000_000, 0), 1),
        ({**EXPIRING, "powered_off": "expired"}, NOW, later(60), 0),
        # Both boots had a clock: the day counts.
        (EXPIRING, later(0, quality="held"), Moment(OTHER_BOOT, 1, NOW.wall_us + 86_400_000_000, "synchronised"), 1),
        (EXPIRING, later(0, quality="held"), Moment(OTHER_BOOT, 1, NOW.wall_us + 60_000_000, "synchronised"), 0),
        # A clock that was set back does not make it younger than the hours with power.
        (EXPIRING, later(0, quality="held"), Moment(OTHER_BOOT, 3_600_000_000, 5, "synchronised"), 1),
    ],
    ids=["young", "old", "unaged", "strict", "same boot", "clocks", "clocks, young", "set back"],
)
def test_what_is_too_old_is_not_sent(
    tmp_path: Path, lanes: dict[str, object], accepted: Moment, now: Moment, expired: int
) -> None:
    outbox = Outbox(tmp_path / "outbox", accepted)
    outbox.add("data", "k", b"a", accepted)
    outbox.commit(accepted)
    outbox.close()
    again = Outbox(tmp_path / "outbox", now)
    keeper = Keeper(again, config(**lanes))
    nothing: dict[Stream, RangeSet] = {"alarm": RangeSet(), "data": RangeSet(), "audit": RangeSet()}
    assert keeper.expire(now, nothing) == expired
    assert [gap.reason for gap in again.gaps] == ["expired"] * expired


def test_a_clock_that_is_set_after_a_message_dates_it_all_the_same(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox", NOW)
    outbox.add("data", "k", b"a", NOW)
    outbox.commit(NOW)
    outbox.add("data", "k", b"b", later(10, quality="synchronised"))
    outbox.commit(later(10, quality="synchronised"))
    outbox.close()
    now = Moment(OTHER_BOOT, 5_000_000, NOW.wall_us + 100_000_000, "synchronised")
    again = Outbox(tmp_path / "outbox", now)
    age = again.boots.age(1, NOW.monotonic_us, now)
    assert (age.us, age.exact) == (100_000_000, True)


def test_the_fast_canonical_form_is_the_canonical_form() -> None:
    for text in ("\\", '"', "\n\t\r\b\f", "\x00\x01\x1f\x7f", "äß€", "\U0001f600", "/", "\u2028"):
        for body in (msgspec.structs.replace(ALARM, text=text), msgspec.structs.replace(REPORT, reason=text)):
            assert encode_body(body) == canonical_json(msgspec.to_builtins(body))
    assert encode_body(VERDICT) == encode_verdict(VERDICT)


def test_the_report_vectors() -> None:
    for vector in json.loads((source_root() / "tests/vectors/update-report.json").read_text())["reports"]:
        decoded = decode_update_report(vector["canonical"].encode())
        assert msgspec.to_builtins(decoded) == vector["value"]
        assert encode_update_report(decoded).decode() == vector["canonical"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "update report: Input data was truncated"),
        (encode_update_report(REPORT)[:-1], "update report: not in canonical form"),
        (b" " * 2049, "update report: 2049 bytes, at most 2048 are allowed"),
        (
            encode_update_report(REPORT).replace(b"fell-back", b"flew"),
            "update report: Invalid enum value 'flew' - at `$.outcome`",
        ),
    ],
    ids=["cut", "no newline", "too large", "outcome"],
)
def test_what_is_no_report(data: bytes, message: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_update_report(data)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "alarm: Input data was truncated"),
        (encode_alarm(ALARM)[:-1], "alarm: not in canonical form"),
        (b" " * 2049, "alarm: 2049 bytes, at most 2048 are allowed"),
        (encode_alarm(ALARM).replace(b"no camera", b""), "alarm: Expected `str` of length >= 1 - at `$.text`"),
        (encode_alarm(ALARM).replace(b"true", b"1"), "alarm: Expected `bool`, got `int` - at `$.active`"),
    ],
    ids=["cut", "no newline", "too large", "no text", "active"],
)
def test_what_is_no_alarm(data: bytes, message: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_alarm(data)
    assert str(caught.value) == message


def test_the_socket_vectors() -> None:
    vectors = json.loads((source_root() / "tests/vectors/uplink-socket.json").read_text())
    requests = [decode_uplink_request(text.encode()) for text in vectors["requests"]]
    bodies = [body_of(request) for request in requests if not isinstance(request, AskStatus)]
    assert [(kind, encode_body(body).decode()) for kind, body in bodies] == [
        (vector["kind"], vector["canonical"]) for vector in vectors["bodies"]
    ]
    assert {kind for kind, _ in bodies} == set(KINDS), "one of each"
