"""A certificate's life: asked for over the broker, answered by the site, tried, taken, or given up again."""

from __future__ import annotations

import contextlib
import datetime
import functools
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from appliance.core import durable
from appliance.core.clock import Moment, TimeQuality
from appliance.core.errors import EdgesealError, VerificationError
from appliance.formats.certificate_message import (
    CertificateAnswer,
    CertificateRequest,
    decode_certificate_answer,
    decode_certificate_request,
    encode_certificate_answer,
    encode_certificate_request,
)
from appliance.uplink import identity_files
from appliance.uplink.dialect import Publish
from appliance.uplink.events import Connected, Heard, Lost
from appliance.uplink.identity import make_identity
from appliance.uplink.identity_maker import PUBLIC, IdentityMaker, part_of
from appliance.uplink.identity_maker import REQUEST as REQUEST_LABEL
from appliance.uplink.rehearsal import rehearse
from appliance.uplink.renewal import Notice, Renewer, Us
from appliance.uplink.tls import Identity
from appliance.uplink.transport import Broker, Link, Opening, Transport
from builder.cli import main as cli
from builder.site.authority import SiteAuthority
from builder.site.certificates import Wanted
from builder.site.requests import Rules
from builder.site.responder import Outcome, Responder
from builder.uplink.subscriber import Access
from tests.integration.services_harness import Authority, ending, wait_until
from tests.integration.uplink.pki import run_on, running
from tests.integration.uplink.transport_harness import DEVICE, Listener
from tests.integration.uplink_harness import CONFIG, make_verdict, plant_at
from tests.integration.uplink_harness import DEVICE as UPLINK_DEVICE

NAMESPACE = "plant-4/hall-2"
REQUEST, ANSWER = f"{NAMESPACE}/{DEVICE}/certificate-request", f"{NAMESPACE}/{DEVICE}/certificate"
DAY = 86_400
RULES = f"""\
user edgeseal-site-ca
topic read {NAMESPACE}/+/certificate-request
topic write {NAMESPACE}/+/certificate
user historian
topic read #
pattern write {NAMESPACE}/%u/#
pattern read {NAMESPACE}/%u/certificate
pattern read {NAMESPACE}/%u/receipt
"""


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site's CA, made on the command line: a broker, a device, and the responder's own certificate."""
    directory = tmp_path_factory.mktemp("site") / "ca"
    run("init", str(directory), "--name", "Plant 4", "--days", "30")
    run("certify", str(directory), "broker", "--server", "127.0.0.1", "--out", str(directory.parent))
    run("certify", str(directory), "edgeseal-site-ca", "--out", str(directory.parent))
    run("certify", str(directory), DEVICE, "--device", "--days", "7", "--out", str(directory.parent))
    return directory


def run(*words: str) -> None:
    assert cli.main(["site", "ca", *words]) == 0


class AtOnce(IdentityMaker):
    """Makes it in this process."""

    def take(self, device: str) -> bytes | None:
        return make_identity(device)


class Device:
    """What the service does with a Renewer and a Transport."""

    def __init__(self, directory: Path, ca: Path, *, quality: TimeQuality = "synchronised") -> None:
        self.directory = directory
        self.ca = ca
        self.quality: TimeQuality = quality
        self.now_s = time.time()
        self.boot_id = "0" * 32
        self.monotonic_s = 100.0
        self.notices: list[Notice] = []
        self.restart()

    def restart(self) -> None:
        """The service starts."""
        site = self.ca.parent
        bootstrap = Identity(site / f"{DEVICE}.pem", site / f"{DEVICE}.key")
        us = Us(DEVICE, self.ca / "ca.pem", bootstrap, renew_percent=66)
        self.renewer = Renewer(self.directory, us, self.notices.append, maker=AtOnce())

    def now(self) -> Moment:
        return Moment(self.boot_id, int(self.monotonic_s * 1e6), int(self.now_s * 1e6), self.quality)

    def kinds(self) -> list[str]:
        return [notice.kind for notice in self.notices]

    def answer(self, request: bytes, **changes: object) -> bytes:
        """As the site's own code answers."""
        return answer_of(self.ca, request, self.now_s)

    def renew(self) -> None:
        """Ask, hear, connect."""
        self.renewer.identity()
        self.renewer.connected(self.now())
        request = self.renewer.request(self.now())
        assert request is not None
        assert self.renewer.heard(self.answer(request), self.now())
        self.renewer.identity()
        self.renewer.connected(self.now())


@functools.cache
def opened(ca: Path) -> SiteAuthority:
    return SiteAuthority(ca)


def answer_of(ca: Path, request: bytes, now_s: float, *, days: int = 30, purpose: str = "client") -> bytes:
    authority = opened(ca)
    approved = Rules().judge(REQUEST, request, devices=authority.devices(), now_s=0)
    wanted = Wanted(DEVICE, "client" if purpose == "client" else "server", approved.spki, days, 7)
    pem = authority.certify(wanted, datetime.datetime.fromtimestamp(now_s, datetime.UTC))
    return encode_certificate_answer(CertificateAnswer(device=DEVICE, certificates=pem.decode()))


@contextlib.contextmanager
def responding(ca: Path, port: int, namespace: str = NAMESPACE) -> Iterator[list[Outcome]]:
    """`edgeseal site ca serve`, in this process."""
    site = ca.parent
    access = Access(
        "127.0.0.1", port, ca / "ca.pem", site / "edgeseal-site-ca.pem", site / "edgeseal-site-ca.key",
        "edgeseal-site-ca", (f"{namespace}/+/certificate-request",), kept=True,
    )  # fmt: skip
    outcomes: list[Outcome] = []
    responder = Responder(
        SiteAuthority(ca), access, now=lambda: datetime.datetime.now(datetime.UTC), tell=outcomes.append
    )
    end = threading.Event()

    def serve() -> None:
        responder.connect()
        while not end.is_set():
            responder.step()
        responder.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    wait_until(lambda: responder.listens, "the site's CA to listen")
    try:
        yield outcomes
    finally:
        end.set()
        thread.join(20)


@contextlib.contextmanager
def broker(directory: Path, ca: Path) -> Iterator[int]:
    """mosquitto with the access list of the how-to."""
    directory.mkdir()
    for ours, theirs in (("broker.pem", "broker.pem"), ("broker.key", "broker.key"), ("ca.pem", "ca/ca.pem")):
        (directory / ours).write_bytes((ca.parent / theirs).read_bytes())
    (directory / "rules").write_text(RULES)
    (directory / "rules").chmod(0o600)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    run_on(directory, port, lines=f"acl_file {directory}/rules")
    with running(directory, port):
        yield port


def test_a_device_gets_a_certificate_for_a_key_of_its_own_and_uses_it(tmp_path: Path, ca: Path) -> None:
    device = Device(tmp_path / "identity", ca)
    listener = Listener()
    used: list[Path] = []

    def begin() -> Opening:
        identity = device.renewer.identity()
        used.append(identity.certificate)
        return Opening(None, (ANSWER,), identity.certificate, identity.key)

    with broker(tmp_path / "broker", ca) as port, responding(ca, port) as outcomes:
        transport = Transport(
            (Broker("127.0.0.1", port),),
            listener,
            link=Link(DEVICE, ca / "ca.pem", 30, 600, pause_s=0.05),
            begin=begin,
            clock=device.now,
        )
        transport.start()
        connection = listener.nth(Connected).connection
        device.renewer.connected(device.now())
        request = device.renewer.request(device.now())
        assert request is not None
        transport.say(connection, Publish(REQUEST, request))
        transport.flush()
        heard = listener.nth(Heard)
        assert heard.topic == ANSWER
        assert device.renewer.heard(heard.payload, device.now())
        transport.hang_up(connection, "the site gave a new certificate")
        listener.nth(Connected, 2)
        device.renewer.connected(device.now())
        assert not device.renewer.heard(listener.nth(Heard, 2).payload, device.now())  # retained: it comes again
        transport.stop()
    assert used == [ca.parent / f"{DEVICE}.pem", tmp_path / "identity" / "next.pem"]
    assert device.renewer.identity().certificate == tmp_path / "identity" / "present.pem"
    assert device.renewer.request(device.now()) is None
    assert device.kinds() == ["certificate-renewed"]
    assert [(outcome.device, outcome.reason) for outcome in outcomes] == [(DEVICE, None)]
    assert sorted(path.name for path in (tmp_path / "identity").iterdir()) == ["present.pem", "renewed.json"]
    present = tmp_path / "identity" / "present.pem"
    assert stat.S_IMODE(present.stat().st_mode) == 0o600
    key = load_pem_private_key(present.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    old = load_pem_private_key((ca.parent / f"{DEVICE}.key").read_bytes(), None)
    assert public(key) != public(old)
    certificate = x509.load_pem_x509_certificate(present.read_bytes())
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate((ca / "ca.pem").read_bytes()))


def public(key: object) -> bytes:
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def test_another_device_cannot_ask_in_its_name(tmp_path: Path, ca: Path) -> None:
    """The broker does not pass it on: its access list knows who sent it."""
    run("certify", str(ca), "line-4", "--out", str(tmp_path))
    key, listener = tmp_path / "line-4.key", Listener()
    stranger = Device(tmp_path / "identity", ca)
    request = stranger.renewer.request(stranger.now())
    assert request is not None
    with broker(tmp_path / "broker", ca) as port, responding(ca, port) as outcomes:
        transport = Transport(
            (Broker("127.0.0.1", port),),
            listener,
            link=Link("line-4", ca / "ca.pem", 30, 600, pause_s=0.05),
            begin=lambda: Opening(None, (ANSWER,), tmp_path / "line-4.pem", key),
            clock=stranger.now,
        )
        transport.start()
        connection = listener.nth(Connected).connection
        transport.say(connection, Publish(REQUEST, request))
        transport.say(connection, Publish(f"{NAMESPACE}/line-4/certificate-request", request))
        transport.flush()
        wait_until(lambda: outcomes, "the request under its own name")
        transport.stop()
    assert [outcome.reason for outcome in outcomes] == ["line-4 is not on the list of devices"]
    assert listener.of(Heard) == []


def test_when_it_asks(tmp_path: Path, ca: Path) -> None:
    device = Device(tmp_path / "identity", ca)
    assert device.renewer.request(device.now()) is not None  # the bootstrap's key is not ours
    assert device.renewer.request(device.now()) is None  # it has asked
    device.monotonic_s += 6 * 3600
    again = device.renewer.request(device.now())
    assert again is not None  # nobody answered for six hours
    assert device.renewer.heard(device.answer(again), device.now())
    device.renewer.identity()
    device.renewer.connected(device.now())
    born = device.now_s
    for days, due in ((1, False), (19.5, False), (20, True), (40, True)):
        device.now_s = born + days * DAY
        device.monotonic_s += DAY
        assert (device.renewer.request(device.now()) is not None) == due, days


def test_without_a_clock_it_asks_at_each_boot_and_each_week(tmp_path: Path, ca: Path) -> None:
    device = Device(tmp_path / "identity", ca, quality="unknown")
    device.renew()
    for boot, hours, due in (("0", 1, False), ("0", 6 * 24, False), ("0", 7 * 24 + 1, True), ("1", 1, True)):
        device.boot_id = boot * 32
        device.monotonic_s = 100.0 + hours * 3600
        device.restart()
        assert (device.renewer.request(device.now()) is not None) == due, (boot, hours)


REFUSED: tuple[tuple[str, Callable[[Device, bytes], bytes], str], ...] = (
    ("not JSON", lambda _d, _r: b"{", "certificate answer: Input data was truncated"),
    ("too large", lambda _d, _r: bytes(40_000), "certificate answer: 40000 bytes, at most 32768"),
    (
        "for another device",
        lambda d, r: changed(d.answer(r), device="line-4"),
        "the answer is for 'line-4', this device is 'line-3-cell-7'",
    ),
    ("no PEM", lambda d, r: changed(d.answer(r), certificates="none"), "certificate: no PEM certificate in it"),
    (
        "five certificates",
        lambda d, r: repeated(d.answer(r), 5),
        "the answer has 5 certificates, at most 4",
    ),
    (
        "a server's",
        lambda d, r: answer_of(d.ca, r, d.now_s, purpose="server"),
        "the certificate is not for clients (clientAuth)",
    ),
    ("expired", lambda d, r: answer_of(d.ca, r, d.now_s - 40 * DAY), "the certificate is not valid now"),
    (
        "of another CA",
        lambda d, r: foreign(r),
        "the site's CA does not vouch for it: unable to get local issuer certificate",
    ),
)


def changed(answer: bytes, *, device: str | None = None, certificates: str | None = None) -> bytes:
    whole = decode_certificate_answer(answer)
    return encode_certificate_answer(
        CertificateAnswer(device=device or whole.device, certificates=certificates or whole.certificates)
    )


def repeated(answer: bytes, times: int) -> bytes:
    return changed(answer, certificates=decode_certificate_answer(answer).certificates * times)


def foreign(request: bytes) -> bytes:
    """Signed by somebody else's CA."""
    csr = x509.load_pem_x509_csr(decode_certificate_request(request).csr.encode())
    authority = Authority.make("another CA")
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(csr.subject)
        .issuer_name(authority.certificate.subject)
        .public_key(csr.public_key())
        .serial_number(5)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=5))
        .add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(authority.key, csr.signature_hash_algorithm)  # type: ignore[arg-type]
    )
    pem = certificate.public_bytes(Encoding.PEM).decode()
    return encode_certificate_answer(CertificateAnswer(device=DEVICE, certificates=pem))


@pytest.mark.parametrize(("_name", "answer", "reason"), REFUSED, ids=[row[0] for row in REFUSED])
def test_an_answer_that_is_of_no_use_is_refused_with_its_reason(
    tmp_path: Path, ca: Path, _name: str, answer: Callable[[Device, bytes], bytes], reason: str
) -> None:
    device = Device(tmp_path / "identity", ca)
    request = device.renewer.request(device.now())
    assert request is not None
    assert not device.renewer.heard(answer(device, request), device.now())
    assert device.notices[-1] == Notice("certificate-refused", True, {"reason": reason})
    assert device.renewer.identity().certificate == ca.parent / f"{DEVICE}.pem"
    assert device.renewer.heard(device.answer(request), device.now())  # the right one is still taken


def test_a_new_certificate_that_no_broker_takes_is_given_up_after_three_attempts(tmp_path: Path, ca: Path) -> None:
    device = Device(tmp_path / "identity", ca)
    device.now_s -= 25 * DAY  # OpenSSL has its own clock, so the past is made up and not the future
    device.renew()
    device.now_s += 25 * DAY
    device.monotonic_s += DAY
    request = device.renewer.request(device.now())
    assert request is not None
    assert device.renewer.heard(device.answer(request), device.now())
    names = []
    for attempt in range(3):
        names.append(device.renewer.identity().certificate.name)
        device.renewer.lost(Lost(attempt, "it says our certificate is bad", "b:1", ours=True))
        names.append(device.renewer.identity().certificate.name)
        device.renewer.connected(device.now())
    assert names == ["next.pem", "present.pem"] * 3
    assert device.notices[-1].fields == {"reason": "no broker took it in 3 attempts"}
    assert device.renewer.identity().certificate.name == "present.pem"
    device.renewer.lost(Lost(9, "the network is down", "b:1"))
    assert device.renewer.identity().certificate.name == "present.pem"  # a lost link says nothing about us
    device.renewer.lost(Lost(9, "our certificate expired 2 days ago", "b:1", ours=True))
    assert device.renewer.identity().certificate.name == f"{DEVICE}.pem"  # the site's first is the last resort
    device.monotonic_s += 6 * 3600
    assert device.renewer.request(device.now()) not in (None, request)  # with another key


def test_a_connection_that_was_lost_at_once_proves_what_it_was_made_with(tmp_path: Path, ca: Path) -> None:
    """The service comes to Connected when the transport tries the next identity already."""
    device = Device(tmp_path / "identity", ca)
    device.renewer.identity()
    device.renewer.connected(device.now())
    request = device.renewer.request(device.now())
    assert request is not None
    assert device.renewer.heard(device.answer(request), device.now())
    device.renewer.lost(Lost(1, "the site gave a new certificate", "b:1", connected=True))
    assert device.renewer.identity().certificate.name == "next.pem"
    device.renewer.lost(Lost(2, "it says our certificate is bad", "b:1", ours=True))
    assert device.renewer.identity().certificate.name == f"{DEVICE}.pem"
    device.renewer.lost(Lost(3, "the network is down", "b:1", connected=True))
    assert device.renewer.identity().certificate.name == f"{DEVICE}.pem"
    device.renewer.connected(device.now())  # of the third
    assert device.renewer.identity().certificate.name == "next.pem"
    device.renewer.lost(Lost(4, "the network is down", "b:1", connected=True))
    device.renewer.identity()
    device.renewer.connected(device.now())  # of the fourth
    assert device.kinds()[-1] == "certificate-renewed"


class PowerCut(BaseException):
    """Nothing runs any more."""


@pytest.mark.parametrize("after", [False, True], ids=["lost", "done and nobody was told"])
def test_a_power_cut_at_any_step_leaves_an_identity_that_works(
    tmp_path: Path, ca: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    real = {
        "write": durable.write_durable,
        "sync": durable.fsync_directory,
        "replace": Path.replace,
        "unlink": Path.unlink,
    }
    cuts = 0
    for at in range(40):
        left = [at]

        def step(name: str) -> Callable[..., object]:
            def run(*arguments: object, **options: object) -> object:
                left[0] -= 1  # noqa: B023
                if left[0] < 0 and not after:  # noqa: B023
                    raise PowerCut
                result = real[name](*arguments, **options)  # type: ignore[operator]
                if left[0] < 0:  # noqa: B023
                    raise PowerCut
                return result

            return run

        device = Device(tmp_path / f"identity-{at}", ca)
        device.now_s -= 25 * DAY
        device.renew()
        device.now_s += 25 * DAY
        device.monotonic_s += DAY
        with monkeypatch.context() as patch:
            patch.setattr(identity_files, "write_durable", step("write"))
            patch.setattr(identity_files, "fsync_directory", step("sync"))
            patch.setattr(Path, "replace", step("replace"))
            patch.setattr(Path, "unlink", step("unlink"))
            try:
                device.renew()
                finished = True
            except PowerCut:
                finished, cuts = False, cuts + 1
        device.restart()
        identity = device.renewer.identity()
        rehearse(identity, ca / "ca.pem", check_times=False)
        device.renewer.connected(device.now())
        device.monotonic_s += 7 * 3600
        if (request := device.renewer.request(device.now())) is not None:
            assert device.renewer.heard(device.answer(request), device.now())
            device.renewer.identity()
            device.renewer.connected(device.now())
        assert device.renewer.identity().certificate.name == "present.pem"
        assert device.renewer.request(device.now()) is None
        if finished:
            break
    assert cuts >= 6
    assert finished


JUDGED: tuple[tuple[str, dict[str, str | bool], str], ...] = (
    ("plant-4/hall-2/line-9/certificate-request", {}, "line-9 is not on the list of devices"),
    ("plant-4/verdict", {}, "topic `plant-4/verdict` is not one for certificate requests"),
    (REQUEST, {"device": "line-4"}, "the request names line-4, its topic line-3-cell-7"),
    (REQUEST, {"csr": "none"}, "certificate request: not a PKCS#10 request in PEM"),
    (REQUEST, {"name": "line-4"}, "the request is for `CN=line-4`, not for CN=line-3-cell-7"),
    (REQUEST, {"curve": "P-384"}, "the request's key is not for the curve P-256"),
    (REQUEST, {"forged": True}, "the request is not signed by its own key"),
)


@pytest.mark.parametrize(("topic", "change", "reason"), JUDGED, ids=[row[2] for row in JUDGED])
def test_what_the_site_refuses(topic: str, change: dict[str, str | bool], reason: str) -> None:
    key = ec.generate_private_key(ec.SECP384R1() if change.get("curve") else ec.SECP256R1())
    csr = request_for(str(change.get("name", DEVICE)), key)
    if change.get("forged"):
        csr = forged(csr)
    request = CertificateRequest(device=str(change.get("device", DEVICE)), csr=str(change.get("csr", csr)))
    with pytest.raises(EdgesealError) as caught:
        Rules().judge(topic, encode_certificate_request(request), devices=frozenset({DEVICE}), now_s=0)
    assert str(caught.value) == reason


def request_for(name: str, key: ec.EllipticCurvePrivateKey) -> str:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return csr.public_bytes(Encoding.PEM).decode()


def forged(csr: str) -> str:
    """Another public key under the same signature."""
    parsed = x509.load_pem_x509_csr(csr.encode())
    der = parsed.public_bytes(Encoding.DER)
    other = public(ec.generate_private_key(ec.SECP256R1()))
    der = der.replace(public_of(parsed), other)
    return x509.load_der_x509_csr(der).public_bytes(Encoding.PEM).decode()


def public_of(csr: x509.CertificateSigningRequest) -> bytes:
    return csr.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def test_a_device_that_asks_in_a_loop_gets_one_a_minute() -> None:
    rules = Rules()
    request = encode_certificate_request(
        CertificateRequest(device=DEVICE, csr=request_for(DEVICE, ec.generate_private_key(ec.SECP256R1())))
    )
    rules.judge(REQUEST, request, devices=frozenset({DEVICE}), now_s=10)
    with pytest.raises(VerificationError, match=r"^line-3-cell-7 had a certificate 59 s ago, wait 60 s$"):
        rules.judge(REQUEST, request, devices=frozenset({DEVICE}), now_s=69)
    rules.judge(REQUEST, request, devices=frozenset({DEVICE}), now_s=70)


def test_the_key_is_made_in_a_child_while_the_service_goes_on() -> None:
    maker = IdentityMaker()
    begin = time.monotonic()
    assert maker.take(DEVICE) is None
    assert time.monotonic() - begin < 0.2
    made: list[bytes] = []

    def is_made() -> bool:
        made.extend(one for one in (maker.take(DEVICE),) if one is not None)
        return bool(made)

    wait_until(is_made, "a key")
    request = x509.load_der_x509_csr(part_of(made[0], REQUEST_LABEL))
    assert request.is_signature_valid
    assert public_of(request) == part_of(made[0], PUBLIC)


def test_a_key_that_cannot_be_made_is_told(tmp_path: Path, ca: Path) -> None:
    def fail(_device: str) -> bytes:
        raise EdgesealError("cannot make a new key: python3 exited 1: no space left")

    device = Device(tmp_path / "identity", ca)
    us = Us(DEVICE, ca / "ca.pem", device.renewer.identity(), renew_percent=66)
    renewer = Renewer(tmp_path / "identity", us, device.notices.append, maker=IdentityMaker(fail))
    wait_until(lambda: renewer.request(device.now()) is None and device.notices, "the failure")
    reason = "cannot make a new key: python3 exited 1: no space left"
    assert device.notices == [Notice("certificate-refused", True, {"reason": reason})]


def test_the_service_renews_its_certificate_and_goes_on(tmp_path: Path, ca: Path) -> None:
    """The real service, the real broker, the site's responder: asked, answered, in use, across a restart."""
    with plant_at(tmp_path) as plant:
        site, credentials = ca.parent, tmp_path / "credentials"
        run("certify", str(ca), UPLINK_DEVICE, "--device", "--out", str(tmp_path / "first"))
        for ours, theirs in (("broker.pem", "broker.pem"), ("broker.key", "broker.key"), ("ca.pem", "ca/ca.pem")):
            (tmp_path / ours).write_bytes((site / theirs).read_bytes())
        (credentials / "edgeseal.broker-ca").write_bytes((ca / "ca.pem").read_bytes())
        for name, suffix in (("certificate", "pem"), ("key", "key")):
            first = tmp_path / "first" / f"{UPLINK_DEVICE}.{suffix}"
            (credentials / f"edgeseal.client-{name}").write_bytes(first.read_bytes())
        plant.broker.start()
        with responding(ca, plant.broker.port, CONFIG.namespace.topic) as outcomes:
            uplink = plant.start()
            with ending(uplink):
                client = plant.client()
                assert client.publish(make_verdict(1))
                wait_until(lambda: "certificate-renewed" in plant.audit.kinds(), "the new certificate in use")
                wait_until(lambda: plant.audit.kinds().count("broker-connected") == 2, "the connection with it")
                wait_until(lambda: client.status().spooled == 0, "everything delivered")
                assert "cryptography" not in Path(f"/proc/{uplink.process.pid}/maps").read_text()
                client.close()
                assert uplink.stop() == 0
            assert [outcome.reason for outcome in outcomes] == [None]
            uplink = plant.start()
            with ending(uplink):
                wait_until(lambda: plant.audit.kinds().count("broker-connected") == 3, "the connection after a restart")
                assert uplink.stop() == 0
        assert [kind for kind in plant.audit.kinds() if kind.startswith("certificate")] == ["certificate-renewed"]
        assert plant.audit.faults == []
        assert sorted(path.name for path in (tmp_path / "identity").iterdir()) == ["present.pem", "renewed.json"]
