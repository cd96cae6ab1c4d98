"""A site's CA in a directory: ca.pem, ca.json (where its key is), ca.key when that is a file, devices.txt, issued/."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from appliance.core.canonical import canonical_json
from appliance.core.durable import write_durable
from appliance.core.errors import DecodeError, InputError, Place
from appliance.formats.device import FrozenStruct
from appliance.formats.verdict import decode_device_id
from builder.signing.certificates import public_key_of
from builder.signing.descriptor import FileKey, Pkcs11Key, Secret, read_private, read_secret
from builder.signing.keyfiles import private_key_pem
from builder.signing.signer import FileSigner, Signer
from builder.signing.token import Pkcs11Signer, TokenKey, generate, open_session, sign_in_token
from builder.site.certificates import Wanted, issue, self_signed_authority

KEY_BITS: Final = 3072
_NAME: Final = re.compile(r"[\x20-\x7e]{1,64}")


class Described(FrozenStruct, frozen=True, kw_only=True):
    """ca.json. days: how long a device's certificate holds."""

    schema: Literal[1] = 1
    key: FileKey | Pkcs11Key
    days: int


class SiteAuthority:
    """An opened CA. signer: its key. days: how long a device's certificate holds."""

    def __init__(self, directory: Path, *, environment: Mapping[str, str] | None = None) -> None:
        """environment: where PINs and passphrases may be. Raises InputError, DecodeError, with the place."""
        self._directory = directory
        variables = os.environ if environment is None else environment
        described = _described(directory)
        self.days = described.days
        self.certificate_path = directory / "ca.pem"
        try:
            certificate = x509.load_pem_x509_certificate(self.certificate_path.read_bytes())
        except (OSError, ValueError) as error:
            place = Place(str(self.certificate_path))
            raise InputError("the CA's certificate cannot be read", place=place) from error
        self.signer: Signer = _open(directory, described.key, certificate, variables)

    def devices(self) -> frozenset[str]:
        """Who may have a certificate: devices.txt, one name in a line, `#` begins a comment. Raises DecodeError."""
        path = self._directory / "devices.txt"
        if not path.exists():
            return frozenset()
        found = set()
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            if text := line.partition("#")[0].strip():
                try:
                    found.add(decode_device_id(text))
                except DecodeError as error:
                    raise DecodeError(error.message, place=Place(str(path), number)) from error
        return frozenset(found)

    def certify(self, wanted: Wanted, now: datetime) -> bytes:
        """The certificate in PEM, kept in issued/SERIAL.pem before anybody sees it. Raises EdgesealError."""
        certificate = issue(self.signer, wanted, now).public_bytes(Encoding.PEM)
        directory = self._directory / "issued"
        directory.mkdir(exist_ok=True)
        write_durable(directory / f"{wanted.serial:x}.pem", certificate)
        return certificate


def found_authority(
    directory: Path,
    name: str,
    *,
    key: FileKey | Pkcs11Key,
    years: int,
    days: int,
    now: datetime,
    serial: int,
    environment: Mapping[str, str] | None = None,
) -> SiteAuthority:
    """Make a CA in a missing or empty directory. Raises InputError; a key that was made in a token is removed then."""
    if not _NAME.fullmatch(name):
        raise InputError("a CA's name has 1 to 64 printable ASCII characters")
    if directory.exists() and any(directory.iterdir()):
        raise InputError("there is something already", place=Place(str(directory)), hint="a CA is never overwritten")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    variables = os.environ if environment is None else environment
    plan = _Plan(directory, name, years, now, serial, variables)
    with ExitStack() as undo:
        certificate = _in_token(plan, key, undo) if isinstance(key, Pkcs11Key) else _in_file(plan, key)
        write_durable(directory / "ca.pem", certificate.public_bytes(Encoding.PEM))
        write_durable(directory / "ca.json", canonical_json({"schema": 1, "days": days, "key": _plain(key)}))
        undo.pop_all()
    return SiteAuthority(directory, environment=environment)


@dataclass(frozen=True)
class _Plan:
    directory: Path
    name: str
    years: int
    now: datetime
    serial: int
    variables: Mapping[str, str]

    def sign(self, key: rsa.RSAPublicKey, sign: Callable[[bytes], bytes]) -> x509.Certificate:
        return self_signed_authority(self.name, key, sign, days=self.years * 365, serial=self.serial, now=self.now)


def _in_token(plan: _Plan, key: Pkcs11Key, undo: ExitStack) -> x509.Certificate:
    """undo: takes the key away again."""
    pin = read_secret(key.pin, plan.variables, what=f"PIN of token {key.token!r}", directory=plan.directory)
    where = TokenKey(Path(key.module), key.token, key.label)
    session = open_session(where.module, where.token, pin, write=True)
    public, handle, handles = generate(session, where, KEY_BITS)
    for one in handles:
        undo.callback(one.destroy)
    return plan.sign(public, lambda data: sign_in_token(handle, where, data))


def _in_file(plan: _Plan, key: FileKey) -> x509.Certificate:
    private = rsa.generate_private_key(65_537, KEY_BITS)
    passphrase = _passphrase(key.passphrase, plan.variables, plan.directory)
    write_durable(plan.directory / "ca.key", private_key_pem(private, passphrase), mode=0o600)
    return plan.sign(private.public_key(), lambda data: private.sign(data, padding.PKCS1v15(), hashes.SHA256()))


def _described(directory: Path) -> Described:
    path = directory / "ca.json"
    place = Place(str(path))
    try:
        return msgspec.json.decode(path.read_bytes(), type=Described)
    except OSError as error:
        raise InputError("there is no CA", place=place, hint="make one: edgeseal site ca init DIR") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DecodeError(str(error), place=place) from error


def _open(
    directory: Path, key: FileKey | Pkcs11Key, certificate: x509.Certificate, variables: Mapping[str, str]
) -> Signer:
    if isinstance(key, Pkcs11Key):
        pin = read_secret(key.pin, variables, what=f"PIN of token {key.token!r}", directory=directory)
        return Pkcs11Signer(certificate, TokenKey(Path(key.module), key.token, key.label), pin)
    path = directory / "ca.key"
    passphrase = _passphrase(key.passphrase, variables, directory)
    try:
        private = load_pem_private_key(
            read_private(path, what="the CA's private key"), passphrase.encode() if passphrase else None
        )
    except (ValueError, TypeError) as error:
        raise InputError(
            "the CA's private key: not PKCS#8, or the passphrase is wrong", place=Place(str(path))
        ) from error
    if not isinstance(private, rsa.RSAPrivateKey):
        raise InputError("the CA's private key: not an RSA key", place=Place(str(path)))
    public_key_of(certificate)
    return FileSigner(certificate, private)


def _passphrase(secret: Secret | None, variables: Mapping[str, str], directory: Path) -> str | None:
    if secret is None:
        return None
    return read_secret(secret, variables, what="passphrase of the CA's key", directory=directory)


def _plain(key: FileKey | Pkcs11Key) -> object:
    def without_none(value: object) -> object:
        if isinstance(value, dict):
            return {name: without_none(item) for name, item in value.items() if item is not None}
        return value

    return without_none(msgspec.to_builtins(key))
