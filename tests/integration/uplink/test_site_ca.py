"""`edgeseal site ca`: a CA in files or in a token, and what it refuses."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from appliance.core.clock import Moment
from appliance.core.errors import DecodeError, EdgesealError, InputError
from appliance.uplink.rehearsal import rehearse
from appliance.uplink.tls import Identity, check_own
from builder.cli import main as cli
from builder.signing.descriptor import FileKey, Pkcs11Key, Secret
from builder.site.authority import SiteAuthority, found_authority
from builder.site.certificates import Wanted
from tests.support import softhsm

NOW = datetime.now(UTC).replace(microsecond=0)
Capture = pytest.CaptureFixture[str]


def run(*words: str) -> int:
    return cli.main(["site", "ca", *words])


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("site") / "ca"
    assert run("init", str(directory), "--name", "Plant 4", "--years", "2") == 0
    return directory


def spki() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def test_what_is_made_is_what_devices_and_brokers_take(ca: Path, tmp_path: Path, capsys: Capture) -> None:
    assert stat.S_IMODE((ca / "ca.key").stat().st_mode) == 0o600
    assert run("certify", str(ca), "line-3", "--device", "--out", str(tmp_path), "--json") == 0
    made = json.loads(capsys.readouterr().out)
    identity = Identity(Path(made["certificate"]), Path(made["key"]))
    assert stat.S_IMODE(identity.key.stat().st_mode) == 0o600
    rehearse(identity, ca / "ca.pem", check_times=True)
    facts = check_own(identity, "line-3", Moment("0" * 32, 1, int(NOW.timestamp() * 1e6), "synchronised"))
    assert facts.not_after - facts.not_before == 90 * 86_400 + 3600
    assert SiteAuthority(ca).devices() == {"line-3"}
    assert run("certify", str(ca), "line-3", "--device", "--out", str(tmp_path / "again")) == 0
    assert SiteAuthority(ca).devices() == {"line-3"}
    assert len(list((ca / "issued").iterdir())) == 2
    assert (
        run("certify", str(ca), "broker", "--server", "broker.test", "--server", "10.0.0.1", "--out", str(tmp_path))
        == 0
    )
    broker = x509.load_pem_x509_certificate((tmp_path / "broker.pem").read_bytes())
    names = broker.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["broker.test"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.1"]
    usage = broker.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    broker.verify_directly_issued_by(x509.load_pem_x509_certificate((ca / "ca.pem").read_bytes()))


REFUSED = (
    (("init", "{ca}", "--name", "Plant"), "{ca}: there is something already"),
    (("init", "{out}/new", "--name", ""), "a CA's name has 1 to 64 printable ASCII characters"),
    (
        ("init", "{out}/new", "--name", "P", "--years", "0"),
        "a CA holds for 1 to 50 years, a certificate for 1 to 3650 days",
    ),
    (("init", "{out}/new", "--name", "P", "--module", "/m.so"), "a key in a token needs --token and its PIN"),
    (
        ("init", "{out}/new", "--name", "P", "--module", "m.so", "--token", "t", "--pin-env", "P"),
        "m.so: the module needs its whole path",
    ),
    (
        ("init", "{out}/new", "--name", "P", "--passphrase-env", "EDGESEAL_NOT_SET"),
        "passphrase of the CA's key: the environment variable EDGESEAL_NOT_SET is not set",
    ),
    (("certify", "{out}/none", "line-3"), "{out}/none/ca.json: there is no CA"),
    (("certify", "{ca}", "line/3"), "device id `line/3`: not one topic level"),
    (("certify", "{ca}", "taken", "--out", "{out}"), "{out}/taken.pem: is already there"),
    (("certify", "{ca}", "line-9", "--days", "0", "--out", "{out}"), "a certificate holds for a day or more"),
    (("certify", "{ca}", "line-9", "--public-key", "{out}/taken.pem"), "{out}/taken.pem: not a public key in PEM"),
    (
        ("certify", "{ca}", "line-9", "--days", "900", "--out", "{out}"),
        "the site's CA ends on {end}, before 900 days have passed",
    ),
)


@pytest.mark.parametrize(("words", "message"), REFUSED, ids=[row[1][:50] for row in REFUSED])
def test_bad_input_is_refused_with_its_reason(
    ca: Path, tmp_path: Path, capsys: Capture, words: tuple[str, ...], message: str
) -> None:
    (tmp_path / "taken.pem").write_text("something")
    end = x509.load_pem_x509_certificate((ca / "ca.pem").read_bytes()).not_valid_after_utc
    facts = {"{ca}": str(ca), "{out}": str(tmp_path), "{end}": f"{end:%Y-%m-%d}"}

    def filled(text: str) -> str:
        for name, value in facts.items():
            text = text.replace(name, value)
        return text

    assert run(*map(filled, words)) == InputError.exit_code
    assert capsys.readouterr().err.splitlines()[0] == f"error: {filled(message)}"
    assert not (tmp_path / "line-9.pem").exists()


DAMAGED = (
    ("devices.txt", b"line-3\nline 4\n", "devices.txt:2: device id `line 4`: not one topic level"),
    ("ca.json", b"{}", "ca.json: Object missing required field `key`"),
    ("ca.pem", b"none", "ca.pem: the CA's certificate cannot be read"),
    ("ca.key", b"none", "ca.key: the CA's private key: not PKCS#8, or the passphrase is wrong"),
)


@pytest.mark.parametrize(("name", "data", "message"), DAMAGED, ids=[row[0] for row in DAMAGED])
def test_a_damaged_ca_is_told_with_its_file(ca: Path, tmp_path: Path, name: str, data: bytes, message: str) -> None:
    copy = tmp_path / "ca"
    copy.mkdir()
    for file in ("ca.pem", "ca.json", "ca.key", "devices.txt"):
        (copy / file).write_bytes((ca / file).read_bytes())
    (copy / "ca.key").chmod(0o600)
    (copy / name).write_bytes(data)
    with pytest.raises(InputError) as caught:
        SiteAuthority(copy).devices()
    assert str(caught.value).startswith(f"{copy}/{message}")


def test_a_key_that_others_can_read_or_of_another_ca_is_refused(ca: Path, tmp_path: Path) -> None:
    other = found_authority(
        tmp_path / "other", "Other", key=FileKey(), years=1, days=9, now=NOW, serial=3, environment={}
    )
    assert other.devices() == frozenset()
    (tmp_path / "other" / "ca.pem").write_bytes((ca / "ca.pem").read_bytes())
    with pytest.raises(InputError, match=r"^the private key does not belong to its certificate$"):
        SiteAuthority(tmp_path / "other")
    (tmp_path / "other" / "ca.key").chmod(0o644)
    with pytest.raises(InputError, match=r"others can read it \(mode 0644\)$"):
        SiteAuthority(tmp_path / "other")


def test_the_key_may_live_in_a_token(module: Path, tmp_path: Path) -> None:
    key = Pkcs11Key(module=str(module), token=softhsm.SIGNING, label="site-ca-test", pin=Secret(environment="PIN"))
    variables = {"PIN": softhsm.PIN}
    directory = tmp_path / "ca"
    authority = found_authority(
        directory, "Plant 4", key=key, years=1, days=30, now=NOW, serial=5, environment=variables
    )
    assert sorted(path.name for path in directory.iterdir()) == ["ca.json", "ca.pem"]
    wanted = Wanted("line-3", "client", spki(), 30, 9)
    certificate = x509.load_pem_x509_certificate(authority.certify(wanted, NOW))
    certificate.verify_directly_issued_by(authority.signer.certificate)
    assert certificate.not_valid_after_utc == NOW + timedelta(days=30)
    again = SiteAuthority(directory, environment=variables)
    assert again.signer.keyid == authority.signer.keyid
    with pytest.raises(EdgesealError, match="already has an object 'site-ca-test'"):
        found_authority(tmp_path / "b", "B", key=key, years=1, days=9, now=NOW, serial=6, environment=variables)
    with pytest.raises((InputError, DecodeError), match="PIN"):
        SiteAuthority(directory, environment={})
