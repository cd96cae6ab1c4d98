"""A made-up site for one run: its certificate authority, its broker, its historian and one device.

Keys are P-256 and live as long as the run's directory. A real site has its own; nothing of this is in an image.
"""

from __future__ import annotations

import base64
import ipaddress
import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from appliance.formats.site_network import SITE_NETWORK_CREDENTIAL, SiteNetwork, encode_site_network
from builder.vm.config import BROKER_ADDRESS, BROKER_PORT

HISTORIAN = "historian"
_VALID = timedelta(days=30)
_BACKDATED = timedelta(days=1)  # the guest's clock may be behind


@dataclass(frozen=True)
class Site:
    """directory: holds ca.pem and NAME.pem, NAME.key of broker, historian and device."""

    directory: Path
    device_id: str

    @property
    def authority(self) -> Path:
        """The site's CA certificate."""
        return self.directory / "ca.pem"

    def certificate(self, name: str) -> Path:
        """PEM certificate of `broker`, HISTORIAN or the device id."""
        return self.directory / f"{name}.pem"

    def key(self, name: str) -> Path:
        """PEM private key, mode 0600."""
        return self.directory / f"{name}.key"

    def credentials(self) -> dict[str, bytes]:
        """What the device is told, by credential name."""
        return emulated_peers() | {
            "edgeseal.device-id": self.device_id.encode(),
            "edgeseal.broker-host": BROKER_ADDRESS.encode(),
            "edgeseal.broker-port": str(BROKER_PORT).encode(),
            "edgeseal.broker-ca": self.authority.read_bytes(),
            "edgeseal.client-certificate": self.certificate(self.device_id).read_bytes(),
            "edgeseal.client-key": self.key(self.device_id).read_bytes(),
        }


def emulated_peers() -> dict[str, bytes]:
    """The credential that fills the slots of the virtual profiles: where the emulator has their peers."""
    return {SITE_NETWORK_CREDENTIAL: encode_site_network(SiteNetwork(schema=1, slots={"broker": (BROKER_ADDRESS,)}))}


def make_site(directory: Path, *, device_id: str, now: datetime) -> Site:
    """Fill the empty or missing `directory`. now: with a time zone."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    site = Site(directory, device_id)
    authority = ec.generate_private_key(ec.SECP256R1())
    issuer = _name("edgeseal demonstration site")
    certificate = _authority_certificate(authority, issuer, now)
    site.authority.write_bytes(certificate.public_bytes(Encoding.PEM))
    addresses = [ipaddress.ip_address(address) for address in (BROKER_ADDRESS, "127.0.0.1")]
    for name, usage, names in (
        ("broker", ExtendedKeyUsageOID.SERVER_AUTH, [x509.IPAddress(address) for address in addresses]),
        (HISTORIAN, ExtendedKeyUsageOID.CLIENT_AUTH, []),
        (device_id, ExtendedKeyUsageOID.CLIENT_AUTH, []),
    ):
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(name, key.public_key(), issuer, now)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        site.certificate(name).write_bytes(builder.sign(authority, hashes.SHA256()).public_bytes(Encoding.PEM))
        _write_secret(site.key(name), key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return site


def write_credentials(credentials: dict[str, bytes], directory: Path) -> tuple[Path, ...]:
    """One file per credential, each an SMBIOS type 11 string as systemd.system-credentials(7) reads them.

    Files, because a command line can be read by every user of the host.
    """
    directory.mkdir(mode=0o700)
    paths = []
    for name, value in sorted(credentials.items()):
        path = directory / name
        _write_secret(path, b"io.systemd.credential.binary:%s=%s" % (name.encode(), base64.b64encode(value)))
        paths.append(path)
    return tuple(paths)


def _authority_certificate(key: ec.EllipticCurvePrivateKey, name: x509.Name, now: datetime) -> x509.Certificate:
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        _builder("edgeseal demonstration site", key.public_key(), name, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _builder(name: str, key: ec.EllipticCurvePublicKey, issuer: x509.Name, now: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + _VALID)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _write_secret(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
