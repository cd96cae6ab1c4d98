"""From the spool to the transport and back: batches, packet limits, refusals, receipts; and what the site says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from appliance.core.clock import Moment
from appliance.core.errors import DecodeError, EdgesealError
from appliance.formats.device import Namespace, UplinkConfig
from appliance.formats.gap import Gap
from appliance.machine.credentials import Credentials
from appliance.uplink.brokers import Broker
from appliance.uplink.courier import Courier
from appliance.uplink.dialect import Publish, Receipt
from appliance.uplink.json_dialect import JsonDialect
from appliance.uplink.lanes import Lanes
from appliance.uplink.outbox import Outbox
from appliance.uplink.site import read_site

S = 1_000_000
BODY = b'{"a":"' + b"x" * 400 + b'"}\n'


def at(seconds: float) -> Moment:
    return Moment("0" * 32, int(seconds * S), 1)


class Desk:
    """A spool with messages, a courier, and what was published."""

    def __init__(self, directory: Path, count: int, *, receipts: bool = False, **dialect: Any) -> None:
        self.outbox = Outbox(directory / "outbox", at(1))
        for _ in range(count):
            self.outbox.add("data", "verdict", BODY, at(1))
        self.outbox.commit(at(1))
        self.lanes = Lanes({"live": 50, "backlog": 50, "audit": 20})
        self.published: list[tuple[int, Publish]] = []
        self.courier = Courier(
            self.outbox,
            self.lanes,
            lambda token, message: self.published.append((token, message)),
            receipt_us=60 * S if receipts else None,
        )
        self.dialect = JsonDialect(
            namespace="e/s", device="d", epoch=self.outbox.epoch, batches=True, receipts=receipts, **dialect
        )

    def fill(self, seconds: float = 2) -> list[str]:
        """Topics of what is published now."""
        before = len(self.published)
        self.courier.fill(self.dialect, at(seconds))
        return [message.topic.rpartition("/")[2] for _, message in self.published[before:]]

    def commit(self) -> None:
        self.outbox.commit(at(2))
        self.courier.committed()


def test_a_batch_is_one_message_of_the_window_and_one_acknowledgement_removes_all_of_it(tmp_path: Path) -> None:
    desk = Desk(tmp_path, 600)
    desk.courier.opened(4, None)
    topics = desk.fill()
    assert topics == ["batch"] * 3, "one place is left for an alarm"
    while desk.lanes.flights:
        for token in list(desk.lanes.flights):
            desk.courier.acknowledged(token, at(2))
        desk.fill()
    assert len(desk.published) < 10
    desk.commit()
    assert (desk.outbox.rows, desk.courier.tally.acknowledged) == (0, 600)


def test_a_batch_keeps_to_what_the_broker_takes(tmp_path: Path) -> None:
    desk = Desk(tmp_path, 300)
    desk.courier.opened(50, 1500)
    while desk.fill():
        for token in list(desk.lanes.flights):
            desk.courier.acknowledged(token, at(2))
    assert max(len(message.payload) for _, message in desk.published) < 1500
    desk.commit()
    assert desk.outbox.rows == 0


def test_a_broker_that_refuses_batches_gets_single_messages(tmp_path: Path) -> None:
    desk = Desk(tmp_path, 10)
    desk.courier.opened(50, None)
    assert desk.fill() == ["batch"]
    desk.courier.rejected(desk.published[0][0], 0x87, at(2))
    assert desk.fill(3) == ["verdict"] * 10


def test_a_message_that_alone_is_refused_becomes_a_gap_record(tmp_path: Path) -> None:
    desk = Desk(tmp_path, 3)
    desk.courier.opened(50, None)
    [batch] = _tokens(desk)
    desk.courier.rejected(batch, 0x99, at(2))
    seconds = 3.0
    for _ in range(3):
        desk.fill(seconds)
        for token, flight in list(desk.lanes.flights.items()):
            if flight.first == 2:
                desk.courier.rejected(token, 0x99, at(seconds))
            else:
                desk.courier.acknowledged(token, at(seconds))
        desk.commit()
        desk.outbox.add("data", "verdict", BODY, at(seconds))
        desk.commit()
        seconds += 700
    assert list(desk.outbox.gaps) == [
        Gap(epoch=desk.outbox.epoch, stream="data", first=2, last=2, reason="undeliverable")
    ]
    assert desk.outbox.given_up == {"undeliverable": 1}


def _tokens(desk: Desk) -> list[int]:
    desk.fill()
    return list(desk.lanes.flights)


def test_nothing_goes_while_the_dialect_holds(tmp_path: Path) -> None:
    class Holding(JsonDialect):
        holds = True  # type: ignore[assignment]

    desk = Desk(tmp_path, 3)
    desk.courier.opened(50, None)
    desk.dialect = Holding(namespace="e/s", device="d", epoch="0" * 32, batches=True, receipts=False)
    assert desk.fill() == []


@pytest.mark.parametrize(
    ("receipts", "epoch", "rows"), [(True, None, 1), (True, "f" * 32, 3), (False, None, 3)], ids=["ours", "old", "off"]
)
def test_a_receipt_counts_for_this_spool_alone(tmp_path: Path, receipts: bool, epoch: str | None, rows: int) -> None:
    desk = Desk(tmp_path, 3, receipts=receipts)
    desk.courier.opened(50, None)
    desk.courier.received(Receipt(epoch or desk.outbox.epoch, "data", 2, 2**50))
    desk.commit()
    assert desk.outbox.rows == rows


def test_an_acknowledgement_of_an_earlier_connection_removes_nothing(tmp_path: Path) -> None:
    desk = Desk(tmp_path, 3)
    desk.courier.opened(50, None)
    [token] = _tokens(desk)
    desk.courier.closed()
    desk.courier.opened(50, None)
    desk.courier.acknowledged(token, at(2))
    assert (desk.outbox.removed, desk.courier.tally.resent) == (0, 3)


CREDENTIALS = {"device-id": "cell-7", "broker-ca": "x", "client-certificate": "x", "client-key": "x"}
CONFIG = UplinkConfig(namespace=Namespace(enterprise="example", site="plant"))


def credentials(directory: Path, **more: str) -> Credentials:
    for name, text in (CREDENTIALS | {name.replace("_", "-"): text for name, text in more.items()}).items():
        (directory / f"edgeseal.{name}").write_text(text)
    return Credentials(directory)


@pytest.mark.parametrize(
    ("given", "brokers", "namespace"),
    [
        ({"broker_host": "a.test", "broker_port": "8883"}, (Broker("a.test", 8883),), "example/plant"),
        (
            {"broker_hosts": "a.test:8883 [fd00::1]:1\n"},
            (Broker("a.test", 8883), Broker("fd00::1", 1)),
            "example/plant",
        ),
        (
            {"broker_hosts": "a.test:1", "namespace": '{"enterprise":"e","site":"s","line":"l"}'},
            (Broker("a.test", 1),),
            "e/s/l",
        ),
    ],
    ids=["one", "several", "namespace"],
)
def test_what_the_site_says(tmp_path: Path, given: dict[str, str], brokers: tuple[Broker, ...], namespace: str) -> None:
    site = read_site(credentials(tmp_path, **given), CONFIG)
    assert (site.brokers, site.namespace, site.device) == (brokers, namespace, "cell-7")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "credential edgeseal.broker-port is missing"),
        ({"broker_port": "1"}, "credential edgeseal.broker-host is missing"),
        ({"broker_host": "a", "broker_port": "0"}, "credential edgeseal.broker-port: `0` is not a port"),
        ({"broker_host": "a", "broker_port": "٣"}, "credential edgeseal.broker-port: not plain ASCII text"),
        ({"broker_hosts": "a.test"}, "credential edgeseal.broker-hosts: `a.test` is no host:port"),
        ({"broker_hosts": "fd00::1:8883"}, "credential edgeseal.broker-hosts: `fd00::1:8883` is no host:port"),
        ({"broker_hosts": "a:65536"}, "credential edgeseal.broker-hosts: `65536` is not a port"),
        (
            {"broker_hosts": " ".join(["a:1"] * 9)},
            "credential edgeseal.broker-hosts: 9 brokers, at most 8 are allowed",
        ),
        (
            {"broker_hosts": "a:1", "namespace": "{}"},
            "credential edgeseal.namespace: Object missing required field `enterprise`",
        ),
    ],
    ids=["nothing", "no host", "port 0", "digits", "no port", "bare IPv6", "port", "too many", "namespace"],
)
def test_what_the_site_may_not_say(tmp_path: Path, given: dict[str, str], message: str) -> None:
    with pytest.raises((EdgesealError, DecodeError)) as caught:
        read_site(credentials(tmp_path, **given), CONFIG)
    assert str(caught.value) == message
