"""Certificates of every kind of fault, and a mosquitto that uses them."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from asn1crypto import pem as asn1_pem
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from builder.host.toolstree import vm_tree
from tests.integration.services_harness import END, START, Authority, wait_until

SERVER = (ExtendedKeyUsageOID.SERVER_AUTH,)
CLIENT = (ExtendedKeyUsageOID.CLIENT_AUTH,)
_P256_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_P256_GX = 0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Kind:
    """What is in a certificate. name: common name. address: in the SAN; None for none."""

    name: str = "broker"
    address: str | None = "127.0.0.1"
    usages: tuple[x509.ObjectIdentifier, ...] | None = SERVER
    start: datetime.datetime = START
    end: datetime.datetime = END
    rsa_bits: int = 0
    sha1: bool = False
    self_signed: bool = False


def certify(authority: Authority, kind: Kind) -> tuple[bytes, bytes]:
    """(certificate, key) in PEM."""
    key: PrivateKey = (
        rsa.generate_private_key(65_537, kind.rsa_bits) if kind.rsa_bits else ec.generate_private_key(ec.SECP256R1())
    )
    certificate = _pem(_sign(authority, kind, key))
    return _over_sha1(authority, certificate) if kind.sha1 else certificate, private_pem(key)


def _over_sha1(authority: Authority, certificate: bytes) -> bytes:
    """The same certificate, signed as ecdsa-with-SHA1. No library does that any more; with k = 1 it is one line.

    (The signature gives the key away, which lives as long as the test.)
    """
    _, _, der = asn1_pem.unarmor(certificate)
    parsed = asn1_x509.Certificate.load(der)
    body = parsed["tbs_certificate"].copy()
    body["signature"] = {"algorithm": "sha1_ecdsa"}
    message = int.from_bytes(hashlib.sha1(body.dump(), usedforsecurity=False).digest(), "big")
    r = _P256_GX % _P256_N
    s = (message + r * authority.key.private_numbers().private_value) % _P256_N
    signed = {
        "tbs_certificate": body,
        "signature_algorithm": {"algorithm": "sha1_ecdsa"},
        "signature_value": encode_dss_signature(r, s),
    }
    return bytes(asn1_pem.armor("CERTIFICATE", asn1_x509.Certificate(signed).dump()))


def chain_of(authority: Authority) -> bytes:
    """The CA's key and name, certified by a root that nobody has."""
    root = ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(authority.certificate.subject)
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a root above")]))
        .public_key(authority.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(START)
        .not_valid_after(END)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(root, hashes.SHA256())
    )
    return _pem(certificate)


def private_pem(key: PrivateKey) -> bytes:
    """PKCS#8, open."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _sign(authority: Authority, kind: Kind, key: PrivateKey) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, kind.name)])
    issuer = subject if kind.self_signed else authority.certificate.subject
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(kind.start)
        .not_valid_after(kind.end)
    )
    if kind.usages is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(list(kind.usages)), critical=False)
    if kind.address is not None:
        names = [x509.IPAddress(ipaddress.ip_address(kind.address))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key if kind.self_signed else authority.key, hashes.SHA256())


@contextmanager
def mosquitto(directory: Path, authority: Authority, kind: Kind = Kind(), *, lines: str = "") -> Iterator[int]:
    """A running broker that shows such a certificate; its port. lines: more of mosquitto.conf(5)."""
    directory.mkdir(exist_ok=True)
    certificate, key = certify(authority, kind)
    (directory / "broker.pem").write_bytes(certificate)
    (directory / "broker.key").write_bytes(key)
    (directory / "ca.pem").write_bytes(authority.pem())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    run_on(directory, port, lines=lines)
    with running(directory, port):
        yield port


def run_on(directory: Path, port: int, *, lines: str = "") -> None:
    """Write the settings of a broker with the certificates in `directory`."""
    (directory / "mosquitto.conf").write_text(
        f"user root\nlistener {port} 127.0.0.1\ncafile {directory}/ca.pem\ncertfile {directory}/broker.pem\n"
        f"keyfile {directory}/broker.key\nciphers DEFAULT:@SECLEVEL=0\nrequire_certificate true\n"
        f"use_identity_as_username true\nlog_type all\npersistence false\n{lines}\n"
    )


@contextmanager
def running(directory: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """mosquitto as set up in `directory`, until the end of the block."""
    command = vm_tree().command(["mosquitto"], network=True, writable=[directory])
    with (directory / "mosquitto.log").open("ab") as log:
        process = subprocess.Popen([*command, "-c", str(directory / "mosquitto.conf")], stderr=log, stdout=log)
    try:
        wait_until(lambda: _listens(process, port, directory), "the broker to listen")
        yield process
    finally:
        process.kill()
        process.wait()


def _listens(process: subprocess.Popen[bytes], port: int, directory: Path) -> bool:
    assert process.poll() is None, (directory / "mosquitto.log").read_text()
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
