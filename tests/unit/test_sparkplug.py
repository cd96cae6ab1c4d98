"""Sparkplug B: the table of metrics, and how messages become data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from appliance.core.canonical import canonical_json
from appliance.formats.alarm import Alarm
from appliance.formats.gap import Gap
from appliance.formats.sparkplug import REBIRTH, DataType, Metric, Payload
from appliance.formats.sparkplug_metrics import BDSEQ_METRIC, BODY_METRICS, IDENTITY, IMPLIED, METRICS
from appliance.formats.update_report import UpdateReport
from appliance.formats.verdict import Verdict
from appliance.uplink.dialect import Publish
from appliance.uplink.sparkplug_payload import encode_payload
from builder.host.paths import source_root
from tests.support.sparkplug_driver import BODIES, EPOCH, GROUP, NAMESPACE, NODE, Clock, Driver
from tests.support.sparkplug_wire import read_payload

NAMES = {metric.alias: metric for metric in METRICS}
REBIRTH_COMMAND = encode_payload(Payload(1, None, (Metric(REBIRTH, datatype=DataType.BOOLEAN, value=True),)))


@pytest.fixture
def node(tmp_path: Path) -> Driver:
    """Born, its primary host online."""
    driver = Driver(tmp_path)
    driver.connect()
    driver.host_says(True)
    return driver


def said(publish: Publish | None) -> dict[str, object]:
    """field or name of each metric -> its value, read without our decoder."""
    assert publish is not None
    return {NAMES[metric.alias].name: metric.value for metric in read_payload(publish.payload).metrics if metric.alias}


# ---- the table of metrics


@pytest.mark.parametrize(
    ("kind", "struct"), [("verdict", Verdict), ("update", UpdateReport), ("alarm", Alarm), ("gap", Gap)]
)
def test_every_field_of_a_body_is_a_metric(kind: str, struct: type[msgspec.Struct]) -> None:
    assert set(BODY_METRICS[kind]) == set(struct.__struct_fields__) - IMPLIED


def test_aliases_and_names_are_unique() -> None:
    everything = (BDSEQ_METRIC, *METRICS)
    assert len({metric.alias for metric in everything}) == len(everything)
    assert len({metric.name.lower() for metric in everything} | {REBIRTH.lower()}) == len(everything) + 1


def test_aliases_never_change() -> None:
    """Hosts keep them: a change here is a change of the interface, and only additions are none."""
    assert [(metric.alias, metric.name) for metric in IDENTITY][:3] == [
        (10, "Message/Epoch"),
        (11, "Message/Stream"),
        (12, "Message/Sequence"),
    ]
    assert {kind: min(metric.alias for metric in fields.values()) for kind, fields in BODY_METRICS.items()} == {
        "alarm": 300,
        "gap": 400,
        "update": 200,
        "verdict": 100,
    }


# ---- data


@pytest.mark.parametrize("kind", sorted(BODIES))
def test_a_body_comes_back_byte_by_byte_from_its_metrics(node: Driver, kind: str) -> None:
    stream, body = BODIES[kind]
    publish = node.send(node.spooled(stream, kind, body))
    assert publish is not None
    assert (publish.topic, publish.qos, publish.retain) == (f"spBv1.0/{GROUP}/NDATA/{NODE}", 0, False)
    told = {metric.alias: metric for metric in read_payload(publish.payload).metrics}
    back: dict[str, object] = {"schema": 1} | ({} if kind == "gap" else {"device": NODE})
    for field, metric in BODY_METRICS[kind].items():
        value = told[metric.alias].value
        back[field] = bool(value) if metric.datatype is DataType.BOOLEAN else value
    assert canonical_json(back) == body


def test_every_message_says_who_it_is(node: Driver) -> None:
    message = node.verdict(boot=9, quality="held")
    told = said(node.send(message, "live", age_ms=1500))
    assert {name: told[name] for name in told if name.startswith("Message/")} == {
        "Message/Epoch": EPOCH,
        "Message/Stream": "data",
        "Message/Sequence": message.sequence,
        "Message/Kind": "verdict",
        "Message/Lane": "live",
        "Message/Boot": 9,
        "Message/Boot ID": message.boot_id,
        "Message/Accepted Since Boot": message.monotonic_us,
        "Message/Accepted": message.wall_us,
        "Message/Time Quality": "held",
        "Message/Age": 1500,
    }


def test_an_age_that_nobody_knows_is_null(node: Driver) -> None:
    publish = node.send(node.verdict(), age_ms=None)
    assert publish is not None
    [age] = [metric for metric in read_payload(publish.payload).metrics if metric.alias == 20]
    assert (age.null, age.kind) == (True, None)


@pytest.mark.parametrize(("lane", "historical"), [("alarm", False), ("live", False), ("backlog", True)])
def test_only_the_backlog_is_historical(node: Driver, lane: str, historical: bool) -> None:
    publish = node.send(node.verdict(), lane)  # type: ignore[arg-type]
    assert publish is not None
    assert {metric.historical for metric in read_payload(publish.payload).metrics} == {historical}


def test_what_was_accepted_before_the_birth_is_historical_whatever_its_lane(tmp_path: Path) -> None:
    node = Driver(tmp_path)
    node.connect()
    held, other_boot, alarm = (
        node.verdict(),
        node.verdict(boot_id="f" * 32, monotonic_us=2**50),
        node.spooled("alarm", "alarm", BODIES["alarm"][1]),
    )
    node.clock.forward(60)
    node.host_says(True)
    later = node.verdict()
    node.clock.forward(1)
    node.command(REBIRTH_COMMAND)
    sent = [node.send(held), node.send(other_boot), node.send(alarm, "alarm"), node.send(later)]
    historical = [read_payload(publish.payload).metrics[0].historical for publish in sent if publish is not None]
    assert historical == [True, True, False, False]


def test_seq_goes_round(node: Driver) -> None:
    publishes = [node.send(node.verdict()) for _ in range(520)]
    sequence = [read_payload(publish.payload).seq for publish in publishes if publish is not None]
    assert sequence == [number % 256 for number in range(1, 521)]


@pytest.mark.parametrize(
    ("then", "now", "age_ms", "mended"),
    [
        ("synchronised", "synchronised", 5000, False),
        ("unknown", "synchronised", 5000, True),
        ("held", "synchronised", 5000, True),
        ("unknown", "synchronised", None, False),
        ("unknown", "held", 5000, False),
    ],
)
def test_a_wrong_clock_is_mended_by_the_age(
    tmp_path: Path, then: str, now: str, age_ms: int | None, mended: bool
) -> None:
    node = Driver(tmp_path, host="", clock=Clock(now))  # type: ignore[arg-type]
    node.connect()
    publish = node.send(node.verdict(wall_us=7_000_000, quality=then), age_ms=age_ms)
    assert publish is not None
    stamps = {metric.timestamp for metric in read_payload(publish.payload).metrics}
    assert stamps == {node.clock.ms - 5000 if mended else 7000}


BODY = b'{"schema":1,"device":"line-3","label":"90"}'


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("audit", b'{"entries":[]}\n'),
        ("verdict", BODY[:-1] + b',"new":1}'),
        ("verdict", b'{"label":1}'),
        ("verdict", b'{"latency_us":-1}'),
        ("verdict", b'{"latency_us":true}'),
        ("verdict", b'{"latency_us":9223372036854775808}'),
        ("verdict", b'{"latency_us":1.5}'),
        ("alarm", b'{"active":1}'),
        ("verdict", b"[]"),
        ("verdict", b"\xff"),
    ],
)
def test_what_does_not_fit_the_table_travels_as_json_and_takes_no_seq(node: Driver, kind: str, body: bytes) -> None:
    publish = node.send(node.spooled("data", kind, body))
    assert publish is not None
    assert (publish.topic, publish.qos) == (f"{NAMESPACE}/{NODE}/{kind}", 1)
    assert read_payload(node.send(node.verdict()).payload).seq == 1  # type: ignore[union-attr]


def test_there_are_no_batches(node: Driver) -> None:
    assert node.dialect.encode_batch((node.verdict(), node.verdict()), None) is None  # type: ignore[arg-type, func-returns-value]


def test_the_other_dialect_does_not_load_protobuf() -> None:
    program = "import sys, appliance.uplink.service; print([name for name in sys.modules if name.startswith('google')])"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=source_root(), capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
