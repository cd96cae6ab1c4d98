"""Runs the device's services as processes, as systemd would: a passed socket, credentials, a notify socket.

Also a site's certificates and a broker. Everything is below one directory.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DEADLINE_S = 60.0  # for anything; only a failure takes that long
START = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
END = datetime.datetime(2120, 1, 1, tzinfo=datetime.UTC)

# Puts descriptor 3 in place and says so, as systemd does, then becomes the service.
_LAUNCHER = """
import os, sys
listen, program = int(sys.argv[1]), sys.argv[2]
if listen >= 0:
    os.dup2(listen, 3)
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.executable, [sys.executable, "-c", program])
"""


def wait_until(condition: object, what: str) -> None:
    """Call `condition` until it is true; fails the test at the deadline."""
    assert callable(condition)
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, f"still waiting for: {what}"
        time.sleep(0.02)


class Service:
    """One service process. ready() waits for READY=1."""

    def __init__(self, name: str, program: str, directory: Path, *, listener: socket.socket | None = None) -> None:
        self.name = name
        self._notify_path = directory / f"{name}.notify"
        self._notify_path.unlink(missing_ok=True)
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(self._notify_path))
        self._said: list[str] = []
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self.log = directory / f"{name}.log"
        descriptor = -1 if listener is None else listener.fileno()
        environment = {
            "NOTIFY_SOCKET": str(self._notify_path),
            "CREDENTIALS_DIRECTORY": str(directory / "credentials"),
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
            "PATH": os.environ["PATH"],
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _LAUNCHER, str(descriptor), textwrap.dedent(program)],
                env=environment,
                stderr=log,
                pass_fds=() if listener is None else (descriptor,),
            )

    def ready(self) -> Service:
        """Wait until the service said READY=1; fails at once when it ended."""
        wait_until(lambda: self._heard("READY=1"), f"{self.name} to be ready\n{self.log.read_text()}")
        return self

    def kill(self) -> None:
        """kill -9."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_S)

    def end(self) -> int:
        """The exit status of a service that ends by itself."""
        return self.process.wait(DEADLINE_S)

    def _heard(self, word: str) -> bool:
        if any(word in said for said in self._said):
            return True
        code = self.process.poll()
        assert code is None, f"{self.name} exited {code}: {self.log.read_text()}"
        return False

    def _listen(self) -> None:
        """As systemd does: read everything, so that nobody has to wait."""
        while True:
            self._said.append(self._notify.recv(4096).decode())


def listening_socket(path: Path) -> socket.socket:
    """A SEQPACKET socket as systemd's socket unit makes it."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(path))
    listener.listen(64)
    return listener


@dataclass(frozen=True)
class Authority:
    """A small CA of one site."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def make(cls, name: str) -> Authority:
        """A self-signed CA."""
        key = ec.generate_private_key(ec.SECP256R1())
        usage = x509.KeyUsage(**dict.fromkeys(_KEY_USAGES, False) | {"key_cert_sign": True, "crl_sign": True})
        builder = (
            _builder(name, name, key, key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
        )
        return cls(key, builder.sign(key, hashes.SHA256()))

    def pem(self) -> bytes:
        """Its certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str, *, address: str | None) -> tuple[bytes, bytes]:
        """(certificate, key) in PEM: for a server at `address`, or for a client."""
        key = ec.generate_private_key(ec.SECP256R1())
        usage = ExtendedKeyUsageOID.CLIENT_AUTH if address is None else ExtendedKeyUsageOID.SERVER_AUTH
        issuer = self.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        builder = _builder(name, str(issuer), key, self.key).add_extension(
            x509.ExtendedKeyUsage([usage]), critical=False
        )
        if address is not None:
            names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
            builder = builder.add_extension(names, critical=False)
        certificate = builder.sign(self.key, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM), key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


_KEY_USAGES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


def _builder(
    name: str, issuer: str, key: ec.EllipticCurvePrivateKey, issuer_key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(START)
        .not_valid_after(END)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )


class Mosquitto:
    """A broker on loopback that demands client certificates and notes every message that it delivers to our reader."""

    def __init__(self, directory: Path, authority: Authority, command: list[str]) -> None:
        """command: how mosquitto is started, without arguments."""
        self._directory = directory
        self._command = command
        certificate, key = authority.issue("broker", address="127.0.0.1")
        (directory / "broker.pem").write_bytes(certificate)
        (directory / "broker.key").write_bytes(key)
        (directory / "ca.pem").write_bytes(authority.pem())
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it listens."""
        configuration = self._directory / "mosquitto.conf"
        configuration.write_text(
            textwrap.dedent(f"""\
                user root
                listener {self.port} 127.0.0.1
                cafile {self._directory}/ca.pem
                certfile {self._directory}/broker.pem
                keyfile {self._directory}/broker.key
                require_certificate true
                use_identity_as_username true
                tls_version tlsv1.3
                max_queued_messages 0
                persistence false
                """)
        )
        with (self._directory / "mosquitto.log").open("ab") as log:
            self.process = subprocess.Popen([*self._command, "-c", str(configuration)], stderr=log, stdout=log)
        wait_until(self._listens, "the broker to listen")

    def stop(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def log(self) -> str:
        """What it said."""
        return (self._directory / "mosquitto.log").read_text()

    def _listens(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@contextmanager
def ending(*services: Service) -> Iterator[None]:
    """Whatever happens, no process stays behind."""
    try:
        yield
    finally:
        for service in services:
            if service.process.poll() is None:
                service.process.kill()
                service.process.wait()
