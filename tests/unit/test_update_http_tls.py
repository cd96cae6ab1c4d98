"""The transport over TLS: whose certificates count, and what the environment may say.

That slow is cut there too: tests/integration/test_update_http_waits.py.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.core.errors import InputError
from appliance.formats.device import UpdateConfig
from appliance.update.http import HttpSource
from appliance.update.transport import TransportError
from tests.support.authority import Authority
from tests.support.tuf_device import around, source
from tests.support.tuf_site import Site, serve

FAST = UpdateConfig(stall_s=1, slowest=1000)
BLOB = bytes(range(256)) * 512


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
