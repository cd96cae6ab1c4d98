"""Making keys: once, all of them or none, and never over others."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from appliance.core.durable import fsync_directory, write_durable
from appliance.core.errors import EdgesealError, InputError, Place
from builder.signing.certificates import DEVELOPMENT_MARK, DEVELOPMENT_ORGANISATION, self_signed
from builder.signing.descriptor import (
    DESCRIPTOR_NAME,
    FileKey,
    KeySource,
    Pkcs11Key,
    Secret,
    encode_descriptor,
    read_secret,
)
from builder.signing.keyfiles import certificate_path, key_path, private_key_pem
from builder.signing.roles import Role
from builder.signing.token import TokenKey, generate, open_session, sign_in_token


@dataclass(frozen=True)
class TokenPlan:
    """Make the keys in a PKCS#11 token. module: the token's library. token: its label. pin: where the PIN is."""

    module: Path
    token: str
    pin: Secret


def init_keys(
    directory: Path,
    *,
    development: bool,
    now: datetime,
    organisation: str = "edgeseal",
    passphrase: Secret | None = None,
    token: TokenPlan | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Make a key and a certificate per role, and keys.json, in a new `directory` (mode 0700).

    organisation: of release certificates; development certificates carry their mark instead.
    passphrase: private key files are encrypted with it; it is read again at every use.
    token: private keys are made in a token, as `ROLE of DIRECTORY`, and nothing private is written. The recovery key
    decrypts and never signs, so it is always a file.
    environment: where PIN and passphrase may be; the process's own by default.
    Raises InputError when the directory has anything in it already, or a release organisation looks like development;
    then, and at any interruption, the directory is as before.
    """
    if not development and DEVELOPMENT_MARK in organisation:
        raise InputError(f"{organisation!r} would mark release keys as development keys")
    _refuse_existing(directory)
    organisation = DEVELOPMENT_ORGANISATION if development else organisation
    variables = os.environ if environment is None else environment
    phrase = None if passphrase is None else read_secret(passphrase, variables, what="passphrase", directory=Path.cwd())
    certify = _Certify(organisation, development, now)
    try:
        directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    except OSError as error:
        raise EdgesealError(f"cannot make keys: {error.strerror}", place=Place(str(directory))) from error
    try:
        with ExitStack() as undo:
            in_token = None if token is None else _TokenKeys(token, directory.name, variables, undo)
            _fill(making, _File(making, passphrase, phrase), in_token, certify)
            _appear(making, directory)
            undo.pop_all()
    finally:
        shutil.rmtree(making, ignore_errors=True)


_Sign = Callable[[bytes], bytes]


@dataclass(frozen=True)
class _Certify:
    organisation: str
    development: bool
    now: datetime

    def __call__(self, role: Role, public: rsa.RSAPublicKey, sign: _Sign) -> x509.Certificate:
        return self_signed(
            role,
            public,
            sign,
            organisation=self.organisation,
            development=self.development,
            now=self.now,
            serial=x509.random_serial_number(),
        )


@dataclass(frozen=True)
class _File:
    """Makes a key in a file."""

    making: Path
    passphrase: Secret | None
    phrase: str | None

    def __call__(self, role: Role) -> tuple[KeySource, rsa.RSAPublicKey, _Sign]:
        key = rsa.generate_private_key(public_exponent=65537, key_size=role.key_bits)
        write_durable(key_path(self.making, role), private_key_pem(key, self.phrase), mode=0o600)
        source = FileKey(passphrase=self.passphrase)
        return source, key.public_key(), lambda data: key.sign(data, padding.PKCS1v15(), hashes.SHA256())


class _TokenKeys:
    """Makes a key in a token; `undo` takes it out again."""

    def __init__(self, plan: TokenPlan, owner: str, environment: Mapping[str, str], undo: ExitStack) -> None:
        pin = read_secret(plan.pin, environment, what=f"PIN of token {plan.token!r}", directory=Path.cwd())
        self._plan, self._owner, self._undo = plan, owner, undo
        self._session = open_session(plan.module, plan.token, pin, write=True)

    def __call__(self, role: Role) -> tuple[KeySource, rsa.RSAPublicKey, _Sign]:
        plan = self._plan
        where = TokenKey(plan.module, plan.token, f"{role.value} of {self._owner}")
        public, private, handles = generate(self._session, where, role.key_bits)
        for handle in handles:
            self._undo.callback(handle.destroy)
        source = Pkcs11Key(module=str(plan.module), token=plan.token, label=where.label, pin=plan.pin)
        return source, public, lambda data: sign_in_token(private, where, data)


def _fill(making: Path, in_file: _File, in_token: _TokenKeys | None, certify: _Certify) -> None:
    sources: dict[Role, KeySource] = {}
    for role in Role:
        make = in_token if in_token is not None and role.signs else in_file
        sources[role], public, sign = make(role)
        certificate = certify(role, public, sign)
        write_durable(certificate_path(making, role), certificate.public_bytes(Encoding.PEM))
    write_durable(making / DESCRIPTOR_NAME, encode_descriptor(sources))


def _refuse_existing(directory: Path) -> None:
    if directory.is_dir() and not any(directory.iterdir()):
        return
    if directory.is_dir() and {path.name for path in directory.iterdir()} <= {"tuf", "site"}:
        raise InputError(
            "there are keys of repositories here already, and build keys come first",
            place=Place(str(directory)),
            hint="move them aside, make the build keys, and move them back",
        )
    if directory.exists():
        raise InputError(
            "there is something here already; keys are never overwritten",
            place=Place(str(directory)),
            hint="name another place with --directory, or move the old keys away",
        )


def _appear(making: Path, directory: Path) -> None:
    fsync_directory(making)
    try:
        making.rename(directory)  # onto nothing or an empty directory; anything else is refused by the system
    except OSError as error:
        raise EdgesealError(f"cannot make keys: {error.strerror}", place=Place(str(directory))) from error
    fsync_directory(directory.parent)
