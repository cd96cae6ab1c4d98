"""edgeseal site ca: certifies a plant's devices and brokers. How-to: docs/how-to/renew-certificates.md."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)

from appliance.core.durable import write_durable
from appliance.core.errors import InputError, Place
from appliance.formats.uplink_envelope import CERTIFICATE_REQUEST_LEVEL
from appliance.formats.verdict import decode_device_id
from builder.cli.command import Command
from builder.signing.descriptor import FileKey, Pkcs11Key, Secret
from builder.site.authority import SiteAuthority, found_authority
from builder.site.certificates import Purpose, Wanted

if TYPE_CHECKING:
    from builder.site.responder import Outcome


def _directory_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, metavar="DIR", help="the CA's directory")


def _init_arguments(parser: argparse.ArgumentParser) -> None:
    _directory_argument(parser)
    parser.add_argument("--name", required=True, metavar="NAME", help="in its certificate, e.g. `Plant 4 devices`")
    parser.add_argument("--years", type=int, default=10, metavar="N", help="of the CA itself (default: 10)")
    parser.add_argument("--days", type=int, default=90, metavar="N", help="of a device's certificate (default: 90)")
    secret = parser.add_mutually_exclusive_group()
    secret.add_argument("--passphrase-file", metavar="FILE", help="encrypt the key with what is in FILE (mode 0600)")
    secret.add_argument("--passphrase-env", metavar="NAME", help="encrypt it with what is in the variable NAME")
    parser.add_argument("--module", metavar="FILE", help="PKCS#11 library: make the key in a token")
    parser.add_argument("--token", metavar="LABEL", help="of the token")
    parser.add_argument("--label", default="site-ca", metavar="LABEL", help="of the key in it (default: site-ca)")
    parser.add_argument("--pin-file", metavar="FILE", help="the token's PIN is in FILE (mode 0600)")
    parser.add_argument("--pin-env", metavar="NAME", help="or in the variable NAME")


def _init(arguments: argparse.Namespace) -> dict[str, Any]:
    if not 1 <= arguments.years <= 50 or not 1 <= arguments.days <= 3650:
        raise InputError("a CA holds for 1 to 50 years, a certificate for 1 to 3650 days")
    authority = found_authority(
        arguments.directory,
        arguments.name,
        key=_key(arguments),
        years=arguments.years,
        days=arguments.days,
        now=_now(),
        serial=x509.random_serial_number(),
    )
    devices = arguments.directory / "devices.txt"
    write_durable(devices, b"# who may have a certificate, one device in a line\n")
    return {"certificate": str(authority.certificate_path), "devices": str(devices), "keyid": authority.signer.keyid}


def _key(arguments: argparse.Namespace) -> FileKey | Pkcs11Key:
    if arguments.module is None:
        passphrase = None
        if arguments.passphrase_file or arguments.passphrase_env:
            passphrase = _secret(arguments.passphrase_file, arguments.passphrase_env)
        return FileKey(passphrase=passphrase)
    if not arguments.token or not (arguments.pin_file or arguments.pin_env):
        raise InputError("a key in a token needs --token and its PIN", hint="--token LABEL --pin-file FILE")
    if not Path(arguments.module).is_absolute():
        raise InputError("the module needs its whole path", place=Place(arguments.module))
    pin = _secret(arguments.pin_file, arguments.pin_env)
    return Pkcs11Key(module=arguments.module, token=arguments.token, label=arguments.label, pin=pin)


def _secret(file: str | None, variable: str | None) -> Secret:
    if file is not None:
        return Secret(file=str(Path(file).absolute()))
    return Secret(environment=variable)


def _certify_arguments(parser: argparse.ArgumentParser) -> None:
    _directory_argument(parser)
    parser.add_argument("name", metavar="NAME", help="a device's id, or what a broker or a client is called")
    parser.add_argument("--server", action="append", default=[], metavar="NAME", help="for a server at NAME; repeat it")
    parser.add_argument("--device", action="store_true", help="put it on the list of devices")
    parser.add_argument("--public-key", type=Path, metavar="FILE", help="PEM (default: make a key)")
    parser.add_argument("--days", type=int, metavar="N", help="default: as the CA says")
    parser.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="for NAME.pem and NAME.key")


def _certify(arguments: argparse.Namespace) -> dict[str, Any]:
    authority = SiteAuthority(arguments.directory)
    name = decode_device_id(arguments.name)
    out: Path = arguments.out
    paths = {"certificate": out / f"{name}.pem", "key": out / f"{name}.key"}
    if taken := [path for path in paths.values() if path.exists()]:
        raise InputError("is already there", place=Place(str(taken[0])))
    spki, private = _public_half(arguments.public_key)
    purpose: Purpose = "server" if arguments.server else "client"
    days = authority.days if arguments.days is None else arguments.days
    if days < 1:
        raise InputError("a certificate holds for a day or more")
    wanted = Wanted(name, purpose, spki, days, x509.random_serial_number(), tuple(arguments.server))
    certificate = authority.certify(wanted, _now())
    out.mkdir(parents=True, exist_ok=True)
    if private is not None:
        write_durable(paths["key"], private, mode=0o600)
    write_durable(paths["certificate"], certificate)
    if arguments.device and name not in authority.devices():
        _list(arguments.directory / "devices.txt", name)
    return {what: str(path) for what, path in paths.items() if path.exists()}


def _public_half(path: Path | None) -> tuple[bytes, bytes | None]:
    """DER of the public key, and the private one where we made it."""
    if path is None:
        key = ec.generate_private_key(ec.SECP256R1())
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), private
    try:
        return load_pem_public_key(path.read_bytes()).public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        ), None
    except (OSError, ValueError) as error:
        raise InputError("not a public key in PEM", place=Place(str(path))) from error


def _list(path: Path, name: str) -> None:
    before = path.read_text() if path.exists() else ""
    write_durable(path, f"{before.rstrip()}\n{name}\n".lstrip().encode())


def _serve_arguments(parser: argparse.ArgumentParser) -> None:
    _directory_argument(parser)
    parser.add_argument("host", metavar="HOST", help="the broker's name or address, as in its certificate")
    parser.add_argument("--port", type=int, default=8883, metavar="PORT", help="default: 8883")
    parser.add_argument("--certificate", type=Path, required=True, metavar="FILE", help="PEM; ours, as a client")
    parser.add_argument("--key", type=Path, required=True, metavar="FILE", help="PEM; its key")
    parser.add_argument("--ca", type=Path, metavar="FILE", help="who certified the broker (default: this CA)")
    parser.add_argument("--namespace", required=True, metavar="TOPIC", help="above the devices, e.g. plant-4/hall-2")
    parser.add_argument("--client-id", default="edgeseal-site-ca", metavar="NAME", help="default: edgeseal-site-ca")
    parser.add_argument("--for", dest="seconds", type=float, metavar="SECONDS", help="end then (default: at Ctrl-C)")


def _serve(arguments: argparse.Namespace) -> dict[str, Any]:
    from builder.site.responder import Responder
    from builder.uplink.subscriber import Access

    authority = SiteAuthority(arguments.directory)
    access = Access(
        arguments.host,
        arguments.port,
        arguments.ca or authority.certificate_path,
        arguments.certificate,
        arguments.key,
        arguments.client_id,
        (f"{arguments.namespace.strip('/')}/+/{CERTIFICATE_REQUEST_LEVEL}",),
        kept=True,
    )
    outcomes: list[Outcome] = []
    responder = Responder(authority, access, now=_now, tell=outcomes.append)
    responder.connect()
    answered = refused = 0
    try:
        for _ in _rounds(arguments.seconds):
            responder.step()
            for outcome in outcomes:
                answered, refused = answered + (outcome.reason is None), refused + (outcome.reason is not None)
                sys.stderr.write(f"{outcome.device or outcome.topic}: {outcome.reason or 'certified'}\n")
            outcomes.clear()
    except KeyboardInterrupt:
        pass  # the usual end
    finally:
        responder.close()
    return {"certified": answered, "refused": refused}


def _rounds(seconds: float | None) -> Iterator[None]:
    begun = time.monotonic()
    while seconds is None or time.monotonic() - begun < seconds:
        yield


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _lines(result: Any) -> str:
    return "\n".join(f"{name}: {value}" for name, value in result.items())


CA = (
    Command(("site", "ca", "init"), "make the CA of a site", _init_arguments, _init, _lines),
    Command(("site", "ca", "certify"), "certify a device, a broker or a client", _certify_arguments, _certify, _lines),
    Command(("site", "ca", "serve"), "renew devices' certificates over the broker", _serve_arguments, _serve, _lines),
)
