"""The made-up site: certificates that the device's own TLS settings accept, and credentials as SMBIOS strings."""

from __future__ import annotations

import base64
import socket
import ssl
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from builder.vm.broker import access_rules, broker_settings
from builder.vm.site import HISTORIAN, Site, make_site, write_credentials


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path / "site", device_id="line-3", now=datetime.now(UTC))


@pytest.mark.parametrize("client", [HISTORIAN, "line-3"])
def test_broker_and_clients_trust_each_other(site: Site, client: str) -> None:
    assert _handshake(site, client) == "TLSv1.3"


def test_a_client_without_a_certificate_is_refused(site: Site) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        _handshake(site, None)


def test_private_keys_are_private(site: Site) -> None:
    for name in ("broker", HISTORIAN, "line-3"):
        assert site.key(name).stat().st_mode & 0o777 == 0o600


def test_credentials_are_smbios_strings_in_private_files(site: Site, tmp_path: Path) -> None:
    paths = write_credentials(site.credentials(), tmp_path / "credentials")
    assert [path.name for path in paths] == [
        "edgeseal.broker-ca",
        "edgeseal.broker-host",
        "edgeseal.broker-port",
        "edgeseal.client-certificate",
        "edgeseal.client-key",
        "edgeseal.device-id",
        "edgeseal.network",
    ]
    head, _, value = paths[1].read_bytes().partition(b"=")
    assert head == b"io.systemd.credential.binary:edgeseal.broker-host"
    assert base64.b64decode(value) == b"10.0.2.100"
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o600}


def test_the_broker_demands_certificates_and_tells_device_and_historian_apart(site: Site) -> None:
    settings = broker_settings(site, port=40_123, rules=Path("/rules")).splitlines()
    assert {"listener 40123 127.0.0.1", "tls_version tlsv1.3", "require_certificate true"} <= set(settings)
    assert {"use_identity_as_username true", "allow_anonymous false", "persistence false"} <= set(settings)
    rules = access_rules(site).split("\n\n")
    assert [rule.splitlines()[0] for rule in rules if rule] == ["user line-3", "user historian"]
    device, historian = (rule.splitlines()[1:] for rule in rules if rule)
    assert all("/line-3" in rule or rule == "topic read spBv1.0/STATE/#" for rule in device)
    assert "topic write +/+/+/line-3/#" in device
    assert [rule for rule in device if rule.startswith("topic read +/+/+/line-3/")] == [
        "topic read +/+/+/line-3/receipt",
        "topic read +/+/+/line-3/certificate",
    ]
    assert "topic write +/+/+/+/receipt" in historian


def _handshake(site: Site, client: str | None) -> str | None:
    """The protocol version that both agree on, over a socket pair. One byte goes each way: in TLS 1.3 the client
    learns only then whether its certificate was taken."""
    server_side, client_side = socket.socketpair()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.minimum_version = ssl.TLSVersion.TLSv1_3
    server_context.verify_mode = ssl.CERT_REQUIRED
    server_context.load_verify_locations(site.authority)
    server_context.load_cert_chain(site.certificate("broker"), site.key("broker"))
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.load_verify_locations(site.authority)
    if client is not None:
        client_context.load_cert_chain(site.certificate(client), site.key(client))

    def serve() -> None:
        try:
            with server_context.wrap_socket(server_side, server_side=True) as stream:
                stream.send(stream.recv(1))
        except OSError:
            server_side.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client_context.wrap_socket(client_side, server_hostname="10.0.2.100") as stream:
            stream.send(b"x")
            assert stream.recv(1) == b"x"
            return stream.version()
    finally:
        client_side.close()
        thread.join(10)
