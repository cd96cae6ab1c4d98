"""What can leave: the table is complete, every field has a bound and a meaning, and a leak is found."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest

from appliance.formats.audit_part import AuditPart
from appliance.formats.device import FrozenStruct
from appliance.formats.gap import Gap, encode_gap
from appliance.formats.identities import ROOT_UID, USERS
from appliance.formats.sparkplug import BDSEQ
from appliance.formats.sparkplug_metrics import METRICS
from appliance.formats.uplink_envelope import Accepted, Envelope, encode_envelope
from appliance.formats.uplink_message import KINDS
from appliance.formats.verdict import Verdict, encode_verdict
from appliance.uplink.service import Settings
from builder.cli.main import main
from builder.host.paths import source_root
from builder.profile.load import load_profile
from builder.profile.types import Profile
from builder.uplink.leaves import leaves_of
from builder.uplink.payloads import MEANINGS, SENDERS, Payload, payloads
from builder.uplink.picture import draw
from builder.uplink.prove import Proof, prove
from builder.uplink.report import as_html, as_markdown, proof_data
from builder.uplink.schema import uplink_reference, uplink_schema, uplink_schema_text
from tests.conftest import Golden

REFERENCE = source_root() / "docs" / "reference"
GOLDEN = source_root() / "tests" / "golden"
PROFILES = ["industrial-pc", "npu-gateway", "smart-camera", "virtual-arm64", "virtual-x86_64"]


@functools.cache
def profile_of(name: str) -> Profile:
    return load_profile(name)


def proof_of(name: str, *more: Payload) -> Proof:
    profile = profile_of(name)
    return prove(profile, (*payloads(), *more), profile.uplink.namespace)


class RawFrame(FrozenStruct, frozen=True, kw_only=True):
    """The leak that must be found."""

    width: int
    pixels: bytes


class Window(FrozenStruct, frozen=True, kw_only=True):
    """A bound does not make pixels right."""

    pixels: Annotated[bytes, msgspec.Meta(max_length=1024)]


class Letter(FrozenStruct, frozen=True, kw_only=True):
    """Nor does text."""

    text: Annotated[str, msgspec.Meta(max_length=400)]


class Anything(FrozenStruct, frozen=True, kw_only=True):
    """No form at all."""

    extra: dict[str, Any]


def leak(of: type, limit: int = 2048) -> Payload:
    return Payload("leak", "data", limit, ("inference",), "leaks", of)


@pytest.mark.parametrize("name", PROFILES)
def test_no_raw_frame_leaves_a_profile(name: str) -> None:
    proof = proof_of(name)
    assert proof.findings == ()
    assert proof.holds
    assert [conduit.service for conduit in proof.conduits] == ["uplink"]


LEAKS = (
    (
        "bytes without a bound",
        leak(RawFrame),
        [
            ("width", "whole number from any to any: nothing says how much it may hold"),
            ("pixels", "bytes, any number of them: nothing says how much it may hold"),
            ("pixels", "bytes, any number of them: inference sees frames, and could hand in pixels as it is"),
        ],
    ),
    (
        "bytes with a bound",
        leak(Window),
        [("pixels", "bytes, at most 1024 of them: inference sees frames, and could hand in pixels as it is")],
    ),
    (
        "much text",
        leak(Letter),
        [("", "1050 bytes of free text, a raw window has 1024: inference could write one")],
    ),
    (
        "a body as large as a frame",
        leak(Gap, limit=921_600),
        [("", "921600 bytes, a frame of the source has 921600: one message could hold it")],
    ),
    (
        "an object of any shape",
        leak(Anything),
        [
            ("extra", "anything (DictType): nothing says how much it may hold"),
            ("extra", "anything (DictType): inference sees frames, and could hand in pixels as it is"),
        ],
    ),
)


@pytest.mark.parametrize(("what", "payload", "expected"), LEAKS, ids=[row[0] for row in LEAKS])
def test_a_leak_is_found(what: str, payload: Payload, expected: list[tuple[str, str]]) -> None:
    proof = proof_of("virtual-x86_64", payload)
    assert [(each.kind, each.field, each.text) for each in proof.findings] == [("leak", *row) for row in expected]
    assert not proof.holds
    assert "a raw frame or a raw window could leave" in as_markdown(proof_data(proof))


def test_bytes_of_a_service_that_sees_no_frame_only_need_a_bound() -> None:
    audit = next(each for each in payloads() if each.of is AuditPart)
    assert [leaf.path for leaf in audit.leaves if leaf.opaque] == ["entries[]", "consistency[]"]
    assert proof_of("virtual-x86_64", replace(audit, senders=("inference",))).findings[0].field == "entries[]"


def test_the_table_has_what_the_socket_takes_and_who_may_send_it() -> None:
    numbers = {f"edgeseal-{name}": uid for name, uid in (("health", ROOT_UID),)} | USERS
    allowed = Settings().senders
    assert set(allowed) == set(KINDS) == {each.kind for each in payloads() if each.senders != ("uplink",)}
    for kind, uids in allowed.items():
        assert {numbers[f"edgeseal-{service}"] for service in SENDERS[kind]} == uids


def test_every_field_has_a_meaning_and_nothing_else_has() -> None:
    fields = {(each.of, leaf.path) for each in payloads() for leaf in each.leaves}
    fields |= {(Accepted, leaf.path) for leaf in leaves_of(Accepted)}
    assert fields == set(MEANINGS)
    assert all(MEANINGS.values())


LONGEST = Verdict(
    device="d" * 63,
    boot_id="b" * 32,
    start_us=2**53 - 1,
    sequence=2**53 - 1,
    frame_sequence="9" * 20,
    frame_sha256="f" * 64,
    label="l" * 63,
    score_ppm=1_000_000,
    model="m" * 63,
    model_sha256="e" * 64,
    execution_provider="openvino",
    latency_us=2**53 - 1,
    monotonic_us=2**53 - 1,
)


def test_the_bounds_are_those_of_the_longest_values() -> None:
    longest = json.loads(encode_verdict(LONGEST))
    for leaf in leaves_of(Verdict):
        used = len(json.dumps(longest[leaf.path]))
        assert used == leaf.bound or (leaf.path == "schema" and used <= 3), leaf


def test_topics_are_those_of_the_dialect() -> None:
    json_topics = {each.payload.kind: each.topics for each in proof_of("virtual-x86_64").exits}
    base = profile_of("virtual-x86_64").uplink.namespace.topic
    assert json_topics["alarm"] == (f"{base}/DEVICE/alarm",)
    assert json_topics["verdict"] == (f"{base}/DEVICE/verdict", f"{base}/DEVICE/batch")
    sparkplug = {each.payload.kind: each.topics for each in proof_of("industrial-pc").exits}
    plant = "example/plant-4/hall-2/line-3/DEVICE"
    assert sparkplug["verdict"] == (
        "spBv1.0/plant-4/NDATA/DEVICE",
        "spBv1.0/plant-4/NBIRTH/DEVICE",
        f"{plant}/verdict",
    )
    assert sparkplug["audit"] == (f"{plant}/audit",)


def test_sparkplug_has_no_metric_beyond_the_listed_fields() -> None:
    fields = {(each.kind, leaf.path) for each in payloads() for leaf in each.leaves}
    name = {("", field) for field in ("epoch", "stream", "sequence", "kind", "lane", "age_ms")}
    name |= {("", leaf.path) for leaf in leaves_of(Accepted)}
    assert {(metric.kind, metric.field) for metric in METRICS} <= fields | name
    session = {field for _topic, field, _form in proof_of("industrial-pc").session}
    assert session == {BDSEQ, "Node Control/Rebirth"}
    assert proof_of("virtual-x86_64").session == ()


@pytest.mark.xdist_group("json-schema")
def test_the_schema_takes_what_is_published_and_nothing_else() -> None:
    from jsonschema import Draft202012Validator  # takes over a second; other workers do without it

    schema = Draft202012Validator(uplink_schema())
    gap = Gap(epoch="0" * 32, stream="data", first=3, last=None, reason="corrupt")
    accepted = Accepted(boot=1, boot_id="1" * 32, monotonic_us=5, quality="unknown", wall_us=0)
    for kind, stream, body in (("verdict", "data", encode_verdict(LONGEST)), ("gap", "alarm", encode_gap(gap))):
        envelope = Envelope(
            accepted=accepted, body=body, device="line-3", epoch="0" * 32, kind=kind, sequence=1, stream=stream
        )
        message = json.loads(encode_envelope(envelope))
        assert schema.is_valid(message)
        for wrong in ({"kind": "frame"}, {"stream": "audit"}, {"pixels": "AAAA"}, {"body": {"pixels": "AAAA"}}):
            assert not schema.is_valid(message | wrong)


def test_the_schema_is_current(golden: Golden) -> None:
    golden(REFERENCE / "uplink.schema.json", uplink_schema_text())


def test_the_reference_is_current(golden: Golden) -> None:
    golden(REFERENCE / "uplink-payloads.md", uplink_reference())


@pytest.mark.parametrize("name", ["virtual-x86_64", "industrial-pc"])
def test_the_picture_is_current(name: str, golden: Golden) -> None:
    golden(GOLDEN / f"{name}.uplink.svg", draw(proof_of(name)))


def test_the_picture_says_when_it_does_not_hold() -> None:
    assert "the promise does not hold" in draw(proof_of("virtual-x86_64", leak(RawFrame)))
    assert "the promise does not hold" not in draw(proof_of("virtual-x86_64"))


def test_the_command_writes_all_forms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = tmp_path / "namespace.json"
    site.write_text('{"enterprise": "acme", "site": "works-9"}')
    outputs = [tmp_path / name for name in ("p.svg", "p.md", "p.html")]
    words = ["--svg", str(outputs[0]), "--markdown", str(outputs[1]), "--html", str(outputs[2])]
    assert main(["uplink", "prove", "virtual-x86_64", "--namespace", str(site), "--json", *words]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["holds"], data["raw_frames"], data["frame_bytes"]) == (True, False, 921_600)
    assert data["kinds"][0]["topics"] == ["acme/works-9/DEVICE/alarm"]
    assert all("frame_sha256" in path.read_text() for path in outputs)
    assert outputs[2].read_text() == as_html(prove_at("acme", "works-9"))
    assert main(["uplink", "prove", "virtual-x86_64"]) == 0
    assert "no raw frame (921,600 bytes) and no raw window can leave" in capsys.readouterr().out


def prove_at(enterprise: str, site: str) -> Proof:
    profile = profile_of("virtual-x86_64")
    return prove(profile, payloads(), type(profile.uplink.namespace)(enterprise=enterprise, site=site))


def test_a_namespace_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["uplink", "prove", "virtual-x86_64", "--namespace", str(tmp_path / "none")]) == 2
    said = capsys.readouterr().err
    assert (
        said == f"error: {tmp_path / 'none'}: cannot read the namespace: no such file or directory\nhint: give a file\n"
    )


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["uplink", "schema"]) == 0
    assert capsys.readouterr().out == uplink_schema_text()
