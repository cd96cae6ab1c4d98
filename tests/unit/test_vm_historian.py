"""What the historian of a run makes of MQTT messages."""

from __future__ import annotations

from types import SimpleNamespace

from appliance.formats.verdict import Verdict, encode_verdict
from appliance.uplink.dialect import Publish, Sending
from appliance.uplink.json_dialect import JsonDialect
from appliance.uplink.spooled import Spooled
from builder.vm.historian import Received, received

DIALECT = JsonDialect(namespace="example/demo", device="line-3", epoch="0" * 32, batches=True, receipts=False)
VERDICT = Verdict(
    device="line-3",
    boot_id="0" * 32,
    start_us=1,
    sequence=1,
    frame_sequence="1",
    frame_sha256="a" * 64,
    label="90",
    score_ppm=900_000,
    model="page-orientation",
    model_sha256="b" * 64,
    execution_provider="cpu",
    latency_us=1000,
    monotonic_us=2000,
)


def spooled(sequence: int, body: bytes, kind: str = "verdict") -> Spooled:
    return Spooled("data", sequence, kind, 1, "1" * 32, 5, 6, "unknown", body)


def taken(sent: Publish) -> tuple[Received, ...]:
    return received(
        sent.topic, sent.payload, SimpleNamespace(ContentType=sent.content_type, UserProperty=list(sent.properties))
    )


def test_a_verdict_alone_and_in_a_batch() -> None:
    body = encode_verdict(VERDICT)
    [alone] = taken(DIALECT.encode(spooled(1, body), Sending("live", 1)))
    assert (alone.verdict, alone.kind) == (VERDICT, "verdict")
    batch = DIALECT.encode_batch((spooled(2, body), spooled(3, body)), Sending("backlog", None))
    assert batch is not None
    both = taken(batch)
    assert [each.verdict for each in both] == [VERDICT, VERDICT]
    assert [each.message.envelope.sequence for each in both if each.message] == [2, 3]


def test_another_kind_is_a_message_and_no_verdict() -> None:
    for kind, body in (("update", b'{"schema":1}\n'), ("verdict", b'{"schema":1}\n')):
        [one] = taken(DIALECT.encode(spooled(1, body, kind), Sending("live", 1)))
        assert (one.kind, one.verdict) == (kind, None)


def test_what_is_no_devices_is_kept_as_it_is() -> None:
    good = DIALECT.encode(spooled(1, b"{}\n"), Sending("live", 1))
    damaged = Publish(good.topic, good.payload + b" ", properties=good.properties)
    for sent in (Publish("a/b", b"hello", properties=()), damaged):
        [one] = taken(sent)
        assert (one.topic, one.payload, one.message, one.verdict, one.kind) == (
            sent.topic,
            sent.payload,
            None,
            None,
            None,
        )
    [bare] = received("a/b", b"hello", SimpleNamespace())
    assert bare.message is None
