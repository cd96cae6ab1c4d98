"""Our Sparkplug payloads before code that we did not write, and its payloads before us."""

from __future__ import annotations

from pathlib import Path

from appliance.formats.sparkplug_metrics import BDSEQ_METRIC, METRICS
from appliance.uplink.dialect import Say
from tests.support import sparkplug_judge
from tests.support.sparkplug_driver import BODIES, GROUP, HOST, NODE, Driver
from tests.support.sparkplug_recording import Connect


def test_pysparkplug_reads_births_data_and_deaths(tmp_path: Path) -> None:
    node = Driver(tmp_path)
    node.connect()
    node.host_says(True)
    for kind, (stream, body) in BODIES.items():
        node.send(node.spooled(stream, kind, body), "backlog" if stream == "data" else "alarm", age_ms=None)
    node.send(node.verdict(), "live", age_ms=7)
    node.leave()
    will = next(record.will for record in node.records if isinstance(record, Connect))
    assert will is not None

    told = sparkplug_judge.decode(
        [(publish.topic, publish.payload) for publish in node.published] + [(will.topic, will.payload)]
    )

    assert [one["type"] for one in told] == ["NBIRTH", *["NDATA"] * 5, "NDEATH", "NDEATH"]
    assert [one["seq"] for one in told] == [0, 1, 2, 3, 4, 5, None, None]
    assert {(one["node"], one["device"]) for one in told} == {(f"{GROUP}/{NODE}", None)}
    birth, *data, _, death = told
    assert birth["timestamp"] == node.clock.ms
    assert {name: (one["alias"], one["datatype"]) for name, one in birth["metrics"].items()} == {
        metric.name: (metric.alias, metric.datatype.name) for metric in (BDSEQ_METRIC, *METRICS)
    } | {"Node Control/Rebirth": (None, "BOOLEAN")}
    assert birth["metrics"]["bdSeq"]["value"] == death["metrics"]["bdSeq"]["value"] == 0
    assert birth["metrics"]["Node Control/Rebirth"]["value"] is False
    by_kind = {one["metrics"]["Message/Kind"]["value"]: one["metrics"] for one in data[:4]}
    assert by_kind["verdict"]["Verdict/Frame Sequence"]["value"] == str(2**64 - 1)
    assert by_kind["alarm"]["Alarm/Active"]["value"] is True
    assert by_kind["gap"]["Gap/Last"]["null"] is True
    assert by_kind["update"]["Update/Version"]["value"] == 8
    assert {one["historical"] for one in by_kind["verdict"].values()} == {True}
    assert {one["historical"] for one in data[4]["metrics"].values()} == {False}
    assert data[4]["metrics"]["Message/Age"]["value"] == 7


def test_we_obey_a_rebirth_and_a_state_that_pysparkplug_wrote(tmp_path: Path) -> None:
    node = Driver(tmp_path)
    node.connect()
    [birth] = node.hear(f"spBv1.0/STATE/{HOST}", sparkplug_judge.state(True, node.clock.ms))
    [rebirth] = node.command(sparkplug_judge.command("Node Control/Rebirth", True, node.clock.ms))
    assert isinstance(birth, Say)
    assert isinstance(rebirth, Say)
    assert rebirth.publish == birth.publish
    assert node.command(sparkplug_judge.command("Node Control/Rebirth", False, node.clock.ms)) == ()
    assert node.command(sparkplug_judge.command("Node Control/Reboot", True, node.clock.ms)) == ()
