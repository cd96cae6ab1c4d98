"""Keys of a TUF repository: what all may know of one, and where its private half is. See docs/reference/repo.md.

NAME.json describes a key (holder, public half, and where the private half is); NAME.key beside it is the private half
when that is a file: PKCS#8 PEM, mode 0600, encrypted when the description names a passphrase. A description is no
secret: a repository keeper is given it, with or without its private half.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib.signer import CryptoSigner, Key, Signer, SSlibKey

from appliance.core.canonical import canonical_json
from appliance.core.durable import write_durable
from appliance.core.errors import DecodeError, EdgesealError, InputError, Place
from appliance.formats.device import FrozenStruct
from builder.publish.tokens import TokenSigner
from builder.signing.descriptor import AbsentKey, FileKey, KeySource, Pkcs11Key, Secret, read_private, read_secret
from builder.signing.token import TokenKey

HOLDER_FIELD = "x-edgeseal-holder"
DEVELOPMENT_FIELD = "x-edgeseal-development"
TRUSTED_ROOT = "root.json"
Scheme = Literal["ed25519", "rsa-pkcs1v15-sha256", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384"]
Holder = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._@-]{0,63}(?!\n)$")]


class KeyFile(FrozenStruct, frozen=True, kw_only=True):
    """A description as it stands in its file. public: SubjectPublicKeyInfo, PEM."""

    schema: Literal[1] = 1
    holder: Holder
    development: bool = False
    scheme: Scheme
    public: Annotated[str, msgspec.Meta(max_length=10_000)]
    private: KeySource


@dataclass(frozen=True)
class RepositoryKey:
    """A described key. key: as it stands in metadata, with holder and development mark. origin: its file."""

    key: SSlibKey
    private: KeySource
    origin: Path

    @property
    def holder(self) -> str:
        """Who has it."""
        return holder_of(self.key)

    @property
    def development(self) -> bool:
        """It is marked as a development key."""
        return is_development(self.key)


def holder_of(key: Key) -> str:
    """Who has a key, as its metadata says; the beginning of its id when that says nothing."""
    holder = key.unrecognized_fields.get(HOLDER_FIELD)
    return holder if isinstance(holder, str) else f"key {key.keyid[:8]}"


def is_development(key: Key) -> bool:
    """The key is marked as a development key."""
    return key.unrecognized_fields.get(DEVELOPMENT_FIELD) is True


def make_key(
    path: Path,
    *,
    holder: str,
    development: bool = False,
    passphrase: Secret | None = None,
    environment: Mapping[str, str] | None = None,
) -> RepositoryKey:
    """Make an Ed25519 key: the description `path` (NAME.json) and NAME.key beside it. Never over others.

    passphrase: the key file is encrypted with it; it is read again at every use. Raises InputError.
    """
    private = Ed25519PrivateKey.generate()
    encryption: KeySerializationEncryption = NoEncryption()
    if passphrase is not None:
        variables = os.environ if environment is None else environment
        phrase = read_secret(passphrase, variables, what=f"passphrase of {holder}", directory=path.parent)
        encryption = BestAvailableEncryption(phrase.encode(errors="surrogateescape"))
    for taken in (path, path.with_suffix(".key")):
        if taken.exists():
            raise InputError("there is a key here already; keys are never overwritten", place=Place(str(taken)))
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_durable(path.with_suffix(".key"), pem, mode=0o600)
    public = SSlibKey.from_crypto(private.public_key())
    return describe_key(path, public, holder=holder, development=development, private=FileKey(passphrase=passphrase))


def describe_key(path: Path, public: SSlibKey, *, holder: str, development: bool, private: KeySource) -> RepositoryKey:
    """Write the description of a key that is there already, for example in a token. Raises InputError."""
    if path.exists():
        raise InputError("there is a key here already; keys are never overwritten", place=Place(str(path)))
    spki = public._crypto_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    value = {"schema": 1, "holder": holder, "development": development, "scheme": public.scheme, "public": spki}
    value["private"] = _without_none(msgspec.to_builtins(private))
    _decode(canonical_json(value), place=Place(str(path)))
    write_durable(path, canonical_json(value))
    return read_key(path)


def read_key(path: Path) -> RepositoryKey:
    """Read a description. Raises InputError or DecodeError, with the place."""
    place = Place(str(path))
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError("there is no such key", place=place, hint="make one: edgeseal repo key FILE") from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", place=place) from error
    described = _decode(data, place=place)
    try:
        public = SSlibKey.from_crypto(load_pem_public_key(described.public.encode()), scheme=described.scheme)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise DecodeError("the public key is not a PEM public key", place=place) from error
    public.unrecognized_fields[HOLDER_FIELD] = described.holder
    if described.development:
        public.unrecognized_fields[DEVELOPMENT_FIELD] = True
    return RepositoryKey(public, described.private, path)


def open_signer(key: RepositoryKey, *, environment: Mapping[str, str] | None = None) -> Signer:
    """What signs with the private half.

    environment: where passphrases and PINs may be; the process's own by default. Raises InputError when the private
    half is not here, cannot be read, is open to others, or is not the described key's.
    """
    variables = os.environ if environment is None else environment
    place = Place(str(key.origin))
    directory = key.origin.parent
    try:
        if isinstance(key.private, AbsentKey):
            raise InputError(f"the private key of {key.holder} is not here, only its public half")
        if isinstance(key.private, Pkcs11Key):
            source = key.private
            pin = read_secret(source.pin, variables, what=f"PIN of token {source.token!r}", directory=directory)
            return TokenSigner(key.key, TokenKey(Path(source.module), source.token, source.label), pin)
        return _file_signer(key, variables)
    except InputError as error:
        if error.place is not None:
            raise
        raise InputError(error.message, place=place, hint=error.hint) from error


def _file_signer(key: RepositoryKey, environment: Mapping[str, str]) -> Signer:
    assert isinstance(key.private, FileKey)
    what, path, phrase = f"private key of {key.holder}", key.origin.with_suffix(".key"), None
    if key.private.passphrase is not None:
        secret = key.private.passphrase
        phrase = read_secret(secret, environment, what=f"passphrase of {key.holder}", directory=key.origin.parent)
    data, place = read_private(path, what=what), Place(str(path))
    try:
        private = load_pem_private_key(data, None if phrase is None else phrase.encode(errors="surrogateescape"))
    except TypeError as error:
        said = "it is not encrypted, its description names a passphrase" if phrase else "it is encrypted"
        raise InputError(f"{what}: {said}", place=place) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        wrong = b"ENCRYPTED" in data and phrase is not None
        raise InputError(
            f"{what}: {'the passphrase is wrong' if wrong else 'not a PKCS#8 PEM key'}", place=place
        ) from error
    spki = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    if spki != key.key._crypto_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo):
        raise InputError(f"{what}: it does not belong to its description", place=place)
    return CryptoSigner(private, key.key)


class Keyring:
    """The keys described in a directory, by id. Every NAME.json in it is a description, except root.json."""

    def __init__(self, directory: Path, *, environment: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self._environment = environment
        paths = sorted(directory.glob("*.json")) if directory.is_dir() else []
        found = [read_key(path) for path in paths if path.name != TRUSTED_ROOT]
        self.keys: dict[str, RepositoryKey] = {key.key.keyid: key for key in found}
        self._open: dict[str, Signer] = {}

    def signer(self, keyid: str) -> Signer | None:
        """Opened once; None when no such key is here, or only its public half."""
        key = self.keys.get(keyid)
        if key is None or isinstance(key.private, AbsentKey):
            return None
        if keyid not in self._open:
            self._open[keyid] = open_signer(key, environment=self._environment)
        return self._open[keyid]

    def signers(self, keys: Sequence[Key]) -> list[Signer]:
        """Those of `keys` whose private half is here."""
        return [signer for key in keys if (signer := self.signer(key.keyid)) is not None]


def sign_bytes(signer: Signer, data: bytes) -> Any:
    """The signature. Raises EdgesealError when the key cannot be used."""
    try:
        return signer.sign(data)
    except EdgesealError:
        raise
    except Exception as error:  # whatever a signer's library raises
        raise EdgesealError(f"cannot sign with the key of {holder_of(signer.public_key)}: {error}") from error


def _decode(data: bytes, *, place: Place) -> KeyFile:
    hint = "see docs/reference/repo.md"
    try:
        described = msgspec.json.decode(data, type=KeyFile)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DecodeError(f"not the description of a key: {error}", place=place, hint=hint) from error
    secret = described.private.passphrase if isinstance(described.private, FileKey) else None
    secret = described.private.pin if isinstance(described.private, Pkcs11Key) else secret
    if secret is not None and (secret.file is None) == (secret.environment is None):
        raise DecodeError("name either a `file` or an `environment` variable for the secret", place=place, hint=hint)
    return described


def _without_none(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return value
