"""The transport over TLS: whose certificates count, what the environment may say, and that slow is cut there too."""

from __future__ import annotations

import socket
import ssl
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from appliance.core.errors import InputError
from appliance.formats.device import UpdateConfig
from appliance.update.http import HttpSource
from appliance.update.transport import TooSlowError, TransportError
from tests.support.tuf_device import around, source
from tests.support.tuf_site import Site, dripping, serve

FAST = UpdateConfig(stall_s=1, slowest=1000)
BLOB = bytes(range(256)) * 512


class Authority:
    """A certificate authority of a test."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "site.test")])
        self.certificate = self._sign(self._name, self._key.public_key(), None, authority=True)
        self.pem = self.certificate.public_bytes(serialization.Encoding.PEM)

    def server(
        self, host: str, *, valid: tuple[int, int] = (-1, 365), newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ) -> ssl.SSLContext:
        """A server's side. valid: days from now, from and until."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server.site.test")])
        certificate = self._sign(name, key.public_key(), host, authority=False, valid=valid)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.maximum_version = newest
        with tempfile.NamedTemporaryFile() as file:
            file.write(certificate.public_bytes(serialization.Encoding.PEM))
            file.write(
                key.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )
            file.flush()
            context.load_cert_chain(file.name)
        return context

    def _sign(
        self,
        name: x509.Name,
        key: ec.EllipticCurvePublicKey,
        host: str | None,
        *,
        authority: bool,
        valid: tuple[int, int] = (-1, 365),
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=valid[0]))
            .not_valid_after(now + timedelta(days=valid[1]))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=True,
                    content_commitment=False,
                    key_encipherment=False,
                    data_encipherment=False,
                    key_agreement=False,
                    key_cert_sign=authority,
                    crl_sign=authority,
                    encipher_only=False,
                    decipher_only=False,
                ),
                critical=True,
            )
        )
        if host == "127.0.0.1":
            builder = builder.add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(IPv4Address(host))]), critical=False
            )
        elif host is not None:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        return builder.sign(self._key, hashes.SHA256())


def secure(site: Site, authority: Authority) -> HttpSource:
    return HttpSource(
        site.url, name="vendor repository", ca=authority.pem, config=FAST, attempts=1, around=around(), bucket=None
    )


def test_the_environment_has_no_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    with serve({"a": b"{}"}) as plain:
        assert source(plain.url).get("a", at_most=2) == b"{}"
    ours = Authority()
    with serve({"a": b"{}"}, ours.server("127.0.0.1")) as tls:
        assert secure(tls, ours).get("a", at_most=2) == b"{}"
    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize("valid", [(-1, 365), (-4000, -3000), (3000, 4000)], ids=["valid", "lapsed", "not yet valid"])
def test_https_with_the_sites_authority_whatever_the_clock_says(valid: tuple[int, int]) -> None:
    """A device's clock may stand at 1970: dates in certificates are not looked at, signatures and names are."""
    ours = Authority()
    with serve({"a": BLOB}, ours.server("127.0.0.1", valid=valid)) as site:
        assert secure(site, ours).get("a", at_most=len(BLOB)) == BLOB


@pytest.mark.parametrize(
    ("context", "said"),
    [
        (lambda ours: Authority().server("127.0.0.1"), "unable to get local issuer certificate"),
        (
            lambda ours: ours.server("other.test"),
            "IP address mismatch, certificate is not valid for '127.0.0.1'.",
        ),
        (lambda ours: ours.server("127.0.0.1", newest=ssl.TLSVersion.TLSv1_2), "TLSV1_ALERT_PROTOCOL_VERSION"),
    ],
    ids=["another authority", "another host", "TLS 1.2"],
)
def test_https_that_is_refused(context: Callable[[Authority], ssl.SSLContext], said: str) -> None:
    ours = Authority()
    with serve({"a": b"{}"}, context(ours)) as site:
        with pytest.raises(TransportError) as refusal:
            secure(site, ours).get("a", at_most=2)
        assert str(refusal.value) == f"vendor repository: a: no TLS with 127.0.0.1:{site.server_address[1]}: {said}"
        assert type(refusal.value) is TransportError
        assert site.asked == []


@pytest.mark.parametrize("pem", [b"", b"nothing", "Zürich".encode(), b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_an_authority_that_is_none(pem: bytes) -> None:
    with pytest.raises(InputError) as refusal:
        HttpSource("https://site.test", name="v", ca=pem, config=FAST, attempts=1, around=around(), bucket=None)
    assert str(refusal.value) == "v: the authority for https is not a PEM certificate"


def test_slow_retrieval_over_https_is_cut_too() -> None:
    ours = Authority()
    with serve({}, ours.server("127.0.0.1")) as site:
        site.answers["a"] = dripping(site, b"", every_s=0.05, headers_too=True)
        began = time.monotonic()
        with pytest.raises(TooSlowError) as refusal:
            secure(site, ours).get("a", at_most=2)
        assert str(refusal.value) == "vendor repository: a: no answer for 1 s"
        assert time.monotonic() - began < 4


def test_a_server_that_does_not_shake_hands() -> None:
    """It accepts the connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        http = HttpSource(url, name="v", ca=Authority().pem, config=FAST, attempts=1, around=around(), bucket=None)
        with pytest.raises(TooSlowError) as refusal:
            http.get("a", at_most=1)
        assert str(refusal.value) == "v: a: no answer for 1 s"
