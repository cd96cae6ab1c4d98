"""The keys of a build: signers and certificates by role. `PublicKeys` is the half that `edgeseal verify` needs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from appliance.core.durable import write_durable
from appliance.core.errors import EdgesealError, InputError, Place
from builder.signing.certificates import is_development, public_key_of
from builder.signing.descriptor import (
    DESCRIPTOR_NAME,
    AbsentKey,
    FileKey,
    KeySource,
    Pkcs11Key,
    Secret,
    decode_descriptor,
    read_secret,
)
from builder.signing.keyfiles import certificate_path, key_path, read_certificate, read_private_key
from builder.signing.roles import Role
from builder.signing.signer import FileSigner, Signer
from builder.signing.token import Pkcs11Signer, TokenKey


@dataclass(frozen=True)
class PublicKeys:
    """Certificates by role. origin: the directory they came from, for messages."""

    certificates: Mapping[Role, x509.Certificate]
    origin: str

    def certificate(self, role: Role) -> x509.Certificate:
        """Raises InputError when the role has none."""
        if role not in self.certificates:
            raise InputError(f"there is no {role.value} certificate", place=Place(self.origin), hint=_MAKE)
        return self.certificates[role]

    @property
    def development(self) -> bool:
        """True when at least one certificate is marked as a development key."""
        return any(is_development(certificate) for certificate in self.certificates.values())

    @property
    def recovery_public_key(self) -> rsa.RSAPublicKey:
        """What a data partition's recovery key is encrypted to (RSAES-OAEP, SHA-256)."""
        return public_key_of(self.certificate(Role.RECOVERY))


@dataclass(frozen=True)
class KeySet:
    """public: all certificates. sources: where each private half is. open_signer: opens one, once per role."""

    public: PublicKeys
    sources: Mapping[Role, KeySource]
    open_signer: Callable[[Role], Signer]

    def signer(self, role: Role) -> Signer:
        """Raises InputError when the role's private half is not here or cannot be used, or does not sign."""
        if not role.signs:
            raise InputError(f"the {role.value} key does not sign", place=Place(self.public.origin))
        self.public.certificate(role)
        if isinstance(self.sources[role], AbsentKey):
            raise InputError(
                f"the private {role.value} key is not here, only its certificate", place=Place(self.public.origin)
            )
        return self.open_signer(role)

    def certificate(self, role: Role) -> x509.Certificate:
        """Raises InputError when the role has none."""
        return self.public.certificate(role)

    @property
    def development(self) -> bool:
        """True when at least one certificate is marked as a development key."""
        return self.public.development

    @property
    def recovery_public_key(self) -> rsa.RSAPublicKey:
        """What a data partition's recovery key is encrypted to (RSAES-OAEP, SHA-256)."""
        return self.public.recovery_public_key


_MAKE = "make keys: edgeseal keys init --dev"


def load_keys(directory: Path, *, environment: Mapping[str, str] | None = None) -> KeySet:
    """Read keys.json, every certificate and every key file; tokens are opened when their role first signs.

    environment: where PINs and passphrases may be; the process's own by default.
    Raises InputError, with the place, when anything named is missing, unreadable, open to others or mismatched.
    """
    path = directory / DESCRIPTOR_NAME
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError("there are no keys", place=Place(str(directory)), hint=_MAKE) from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", place=Place(str(path))) from error
    descriptor = decode_descriptor(data, file=str(path))
    sources = {role: source for role in Role if (source := descriptor.source(role)) is not None}
    certificates = {role: read_certificate(certificate_path(directory, role), role) for role in sources}
    opener = _Opener(directory, certificates, sources, os.environ if environment is None else environment)
    for role, source in sources.items():
        if isinstance(source, FileKey):
            opener(role)
    return KeySet(PublicKeys(certificates, str(directory)), sources, opener)


def load_public_keys(directory: Path) -> PublicKeys:
    """The certificates ROLE.crt of a directory; private halves are not looked at.

    Raises InputError when there is none, or one of them cannot be read.
    """
    paths = {role: certificate_path(directory, role) for role in Role}
    certificates = {role: read_certificate(path, role) for role, path in paths.items() if path.exists()}
    if not certificates:
        raise InputError("there are no certificates", place=Place(str(directory)), hint=_MAKE)
    return PublicKeys(certificates, str(directory))


def export_public(keys: KeySet | PublicKeys, directory: Path) -> list[Path]:
    """Write every certificate as ROLE.crt (PEM) for `load_public_keys`; the paths written."""
    public = keys.public if isinstance(keys, KeySet) else keys
    written = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for role, certificate in public.certificates.items():
            write_durable(certificate_path(directory, role), certificate.public_bytes(Encoding.PEM))
            written.append(certificate_path(directory, role))
    except OSError as error:
        raise EdgesealError(f"cannot write certificates: {error.strerror}", place=Place(str(directory))) from error
    return written


def require_release(keys: KeySet | PublicKeys) -> None:
    """Raises InputError naming the development keys when there is one."""
    public = keys.public if isinstance(keys, KeySet) else keys
    marked = [role.value for role, certificate in public.certificates.items() if is_development(certificate)]
    if marked:
        raise InputError(
            f"a release cannot be signed with development keys: {', '.join(marked)}",
            place=Place(public.origin),
            hint="make release keys: edgeseal keys init --release",
        )


class _Opener:
    """Opens each role's signer once."""

    def __init__(
        self,
        directory: Path,
        certificates: Mapping[Role, x509.Certificate],
        sources: Mapping[Role, KeySource],
        environment: Mapping[str, str],
    ) -> None:
        self._directory = directory
        self._certificates = certificates
        self._sources = sources
        self._environment = environment
        self._opened: dict[Role, Signer] = {}

    def __call__(self, role: Role) -> Signer:
        if role not in self._opened:
            self._opened[role] = self._open(role)
        return self._opened[role]

    def _open(self, role: Role) -> Signer:
        source, certificate = self._sources[role], self._certificates[role]
        path = key_path(self._directory, role)
        place = Place(str(path if isinstance(source, FileKey) else self._directory / DESCRIPTOR_NAME))
        try:
            if isinstance(source, FileKey):
                passphrase = self._secret(source.passphrase, f"passphrase of the {role.value} key")
                return FileSigner(certificate, read_private_key(path, role, passphrase))
            if isinstance(source, Pkcs11Key):
                pin = self._secret(source.pin, f"PIN of token {source.token!r}") or ""
                return Pkcs11Signer(certificate, TokenKey(Path(source.module), source.token, source.label), pin)
        except InputError as error:
            if error.place is not None:
                raise
            raise InputError(error.message, place=place, hint=error.hint) from error
        raise AssertionError("an absent key is never opened")

    def _secret(self, secret: Secret | None, what: str) -> str | None:
        if secret is None:
            return None
        return read_secret(secret, self._environment, what=what, directory=self._directory)
