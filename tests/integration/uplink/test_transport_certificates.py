"""Who is not believed: certificates of a real broker, and our own, each refused with its exact reason."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.core.clock import TimeQuality
from appliance.uplink.events import Connected, Lost
from tests.integration.services_harness import Authority
from tests.integration.uplink.pki import CLIENT, Kind, certify, chain_of, mosquitto
from tests.integration.uplink.transport_harness import DEVICE, Site

LONG_AGO = datetime.datetime(2020, 6, 1, tzinfo=datetime.UTC)
FAR = datetime.datetime(2119, 1, 1, tzinfo=datetime.UTC)
NOT_TRUSTED = "the broker's certificate is not trusted: "


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@dataclass(frozen=True)
class Case:
    """A broker that must not be believed. foreign: certified by another CA."""

    name: str
    kind: Kind
    reason: str
    foreign: bool = False
    host: str = "127.0.0.1"


BROKERS = (
    Case(
        "another site's CA",
        Kind(),
        NOT_TRUSTED + "self-signed certificate in certificate chain",
        foreign=True,
    ),
    Case("self-signed", Kind(self_signed=True), NOT_TRUSTED + "self-signed certificate"),
    Case(
        "another address",
        Kind(address="127.0.0.2"),
        NOT_TRUSTED + "IP address mismatch, certificate is not valid for '127.0.0.1'",
    ),
    Case(
        "an address, where a name was asked for",
        Kind(),
        NOT_TRUSTED + "Hostname mismatch, certificate is not valid for 'localhost'",
        host="localhost",
    ),
    Case(
        "the name only as common name",
        Kind(name="localhost", address=None),
        NOT_TRUSTED + "Hostname mismatch, certificate is not valid for 'localhost'",
        host="localhost",
    ),
    Case("expired", Kind(end=LONG_AGO), NOT_TRUSTED + "certificate has expired"),
    Case("not valid yet", Kind(start=FAR), NOT_TRUSTED + "certificate is not yet valid"),
    Case("a client's", Kind(usages=CLIENT), NOT_TRUSTED + "unsuitable certificate purpose"),
    Case("without a purpose", Kind(usages=None), NOT_TRUSTED + "it does not say that it is for servers"),
    Case("RSA with 1024 bits", Kind(rsa_bits=1024), NOT_TRUSTED + "EE certificate key too weak"),
    Case("signed over SHA-1", Kind(sha1=True), NOT_TRUSTED + "CA signature digest algorithm too weak"),
)


@pytest.mark.parametrize("case", BROKERS, ids=[case.name for case in BROKERS])
def test_a_broker_with_a_bad_certificate_is_refused(site: Site, case: Case) -> None:
    authority = Authority.make("another CA") if case.foreign else site.authority
    with (
        mosquitto(site.directory / "broker", authority, case.kind) as port,
        site.transport(port, host=case.host) as (_, listener),
    ):
        lost = listener.nth(Lost)
        assert lost.reason == case.reason
        assert lost.broker == f"{case.host}:{port}"
        assert not listener.of(Connected)
    log = (site.directory / "broker" / "mosquitto.log").read_text()
    assert DEVICE not in log  # nothing was said to it


def test_the_same_broker_with_a_good_certificate_is_believed(site: Site) -> None:
    with mosquitto(site.directory / "broker", site.authority) as port, site.transport(port) as (_, listener):
        connected = listener.nth(Connected)
        assert connected.broker == f"127.0.0.1:{port}"
        assert not connected.unchecked_times


def serve_tls(context: ssl.SSLContext, listener: socket.socket) -> Callable[[], None]:
    """Shake hands with whoever comes, as a broker that mosquitto cannot be set to be; call the result to end."""

    def run() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                context.wrap_socket(client, server_side=True).close()
            except OSError:
                client.close()

    threading.Thread(target=run, daemon=True).start()
    return listener.close


def test_a_broker_without_tls_1_3_is_refused(site: Site) -> None:
    certificate, key = certify(site.authority, Kind())
    (site.directory / "old.pem").write_bytes(certificate + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(site.directory / "old.pem")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        end = serve_tls(context, listener)
        with site.transport(listener.getsockname()[1]) as (_, heard):
            assert heard.nth(Lost).reason == "the broker does not speak TLS 1.3"
        end()


@pytest.mark.parametrize("words", [b"\x20\x03\x00\x00\x00", b"HTTP/1.1 400 Bad Request\r\n\r\n"], ids=["MQTT", "HTTP"])
def test_a_broker_without_tls_is_refused(site: Site, words: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def shout() -> None:
            client, _ = listener.accept()
            client.sendall(words)
            client.recv(4096)

        threading.Thread(target=shout, daemon=True).start()
        with site.transport(listener.getsockname()[1]) as (_, heard):
            assert heard.nth(Lost).reason == "what listens there does not speak TLS"


@pytest.mark.parametrize("quality", ["unknown", "held"])
@pytest.mark.parametrize("wall_s", [0, 4_102_444_800], ids=["in 1970", "in 2100"])
def test_without_a_known_time_dates_are_not_looked_at_and_that_is_told(
    site: Site, quality: TimeQuality, wall_s: int
) -> None:
    """OpenSSL has its own clock, so the expired broker is the one that shows what was looked at."""
    with (
        mosquitto(site.directory / "broker", site.authority, Kind(end=LONG_AGO)) as port,
        site.transport(port, quality=quality, wall_s=wall_s) as (_, listener),
    ):
        if quality == "unknown":
            assert listener.nth(Connected).unchecked_times
        else:
            assert "certificate" in listener.nth(Lost).reason
            assert not listener.of(Connected)


@dataclass(frozen=True)
class Own:
    """A certificate of ours that is of no use."""

    name: str
    kind: Kind
    reason: str
    foreign: bool = False
    broken: bytes = b""
    other_key: bool = False


ME = Kind(name=DEVICE, address=None, usages=CLIENT)
NOW = datetime.datetime.now(datetime.UTC)
OWN = (
    Own(
        "expired",
        Kind(name=DEVICE, address=None, usages=CLIENT, end=NOW - datetime.timedelta(days=3, hours=1)),
        "our certificate expired 3 days ago",
    ),
    Own(
        "not valid yet",
        Kind(name=DEVICE, address=None, usages=CLIENT, start=NOW + datetime.timedelta(days=2, hours=1)),
        "our certificate is not valid yet, for 2 days",
    ),
    Own(
        "for another device",
        Kind(name="line-4", address=None, usages=CLIENT),
        "our certificate is for 'line-4', this device is 'line-3-cell-7'",
    ),
    Own("a server's", Kind(name=DEVICE, address=None), "our certificate is not for clients (clientAuth)"),
    Own("another key", ME, "our key does not belong to our certificate", other_key=True),
    Own(
        "not a certificate",
        ME,
        "our certificate: no PEM certificate in it",
        broken=b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
    ),
    Own("RSA with 1024 bits", Kind(name=DEVICE, address=None, usages=CLIENT, rsa_bits=1024),
        "our certificate or its key cannot be used: EE_KEY_TOO_SMALL"),
    Own("of another CA", ME, "the broker does not know who signed our certificate", foreign=True),
)  # fmt: skip


@pytest.mark.parametrize("case", OWN, ids=[case.name for case in OWN])
def test_a_bad_certificate_of_ours_is_told_before_the_broker_sees_it(site: Site, case: Own) -> None:
    authority = Authority.make("another CA") if case.foreign else site.authority
    certificate, key = certify(authority, case.kind)
    if case.other_key:
        _, key = certify(authority, case.kind)
    site.give(case.broken or certificate, key)
    with mosquitto(site.directory / "broker", site.authority) as port, site.transport(port) as (_, listener):
        assert listener.nth(Lost).reason == case.reason
        assert not listener.of(Connected)


def test_the_site_may_pin_an_intermediate(site: Site) -> None:
    """The broker's own CA is trusted although its issuer is not here."""
    site.ca.write_bytes(chain_of(site.authority))
    with mosquitto(site.directory / "broker", site.authority) as port, site.transport(port) as (_, listener):
        listener.nth(Connected)


def test_a_ca_file_without_a_certificate_is_told(site: Site) -> None:
    site.ca.write_bytes(b"no certificate")
    with mosquitto(site.directory / "broker", site.authority) as port, site.transport(port) as (_, listener):
        assert listener.nth(Lost).reason == "the site's CA cannot be used: NO_CERTIFICATE_OR_CRL_FOUND"
