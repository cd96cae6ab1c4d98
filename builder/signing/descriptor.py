"""keys.json: where the private half of each role is. Reference: docs/reference/keys.md (v1)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from appliance.core.canonical import canonical_json
from appliance.core.errors import DecodeError, InputError, Place
from appliance.formats.device import FrozenStruct
from builder.signing.roles import Role

DESCRIPTOR_NAME = "keys.json"


class Secret(FrozenStruct, frozen=True, kw_only=True):
    """Where a PIN or a passphrase is read from: a file, or an environment variable. Never a command line."""

    file: str | None = None
    environment: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*(?!\n)$")] | None = None


class FileKey(FrozenStruct, frozen=True, kw_only=True, tag_field="kind", tag="file"):
    """PKCS#8 PEM in ROLE.key beside the certificate. passphrase: required when the file is encrypted."""

    passphrase: Secret | None = None


class Pkcs11Key(FrozenStruct, frozen=True, kw_only=True, tag_field="kind", tag="pkcs11"):
    """A key in a token. module: path of the PKCS#11 library. token, label: of the token and of the key object."""

    module: Annotated[str, msgspec.Meta(pattern=r"^/")]
    token: Annotated[str, msgspec.Meta(min_length=1, max_length=32)]
    label: Annotated[str, msgspec.Meta(min_length=1)]
    pin: Secret


class AbsentKey(FrozenStruct, frozen=True, kw_only=True, tag_field="kind", tag="absent"):
    """Only the certificate is here; the private half is kept elsewhere."""


KeySource = FileKey | Pkcs11Key | AbsentKey
RoleName = Literal["pk", "kek", "db", "pcr", "recovery", "provenance"]


class KeysDescriptor(FrozenStruct, frozen=True, kw_only=True):
    """The whole file. A role that is not named is not there at all."""

    schema: Literal[1] = 1
    keys: dict[RoleName, KeySource]

    def source(self, role: Role) -> KeySource | None:
        """Where the private half of `role` is; None when the descriptor does not name the role."""
        return {str(name): source for name, source in self.keys.items()}.get(role.value)


def encode_descriptor(sources: Mapping[Role, KeySource]) -> bytes:
    """Canonical JSON."""
    builtins = {role.value: _without_none(msgspec.to_builtins(source)) for role, source in sources.items()}
    return canonical_json({"schema": 1, "keys": builtins})


def decode_descriptor(data: bytes, *, file: str) -> KeysDescriptor:
    """Raises DecodeError on any other shape; unknown keys are refused. file: for messages."""
    try:
        descriptor = msgspec.json.decode(data, type=KeysDescriptor)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # the second: an object's key that is not UTF-8
        raise DecodeError(str(error), place=Place(file), hint="see docs/reference/keys.md") from error
    for name, source in descriptor.keys.items():
        secret = source.passphrase if isinstance(source, FileKey) else getattr(source, "pin", None)
        if secret is not None and (secret.file is None) == (secret.environment is None):
            raise DecodeError(
                f"keys.{name}: name either a `file` or an `environment` variable for the secret", place=Place(file)
            )
    return descriptor


def read_secret(secret: Secret, environment: Mapping[str, str], *, what: str, directory: Path) -> str:
    """The PIN or passphrase, without one final newline.

    directory: a relative file name counts from here. Raises InputError when it is not set, not readable, empty, or in
    a file that others can read.
    """
    if secret.environment is not None:
        value = environment.get(secret.environment, "")
        if not value:
            raise InputError(
                f"{what}: the environment variable {secret.environment} is not set",
                hint=f"read it without an echo: read -rs {secret.environment} && export {secret.environment}",
            )
        return value
    path = directory / (secret.file or "")
    value = read_private(path, what=what).decode(errors="surrogateescape").removesuffix("\n")
    if not value:
        raise InputError(f"{what}: the file is empty", place=Place(str(path)))
    return value


def read_private(path: Path, *, what: str) -> bytes:
    """A file that only its owner may read. Raises InputError when it is missing, unreadable or open to others."""
    try:
        with path.open("rb") as stream:
            mode = path.stat().st_mode & 0o777
            data = stream.read()
    except FileNotFoundError as error:
        raise InputError(f"{what}: there is no such file", place=Place(str(path))) from error
    except OSError as error:
        raise InputError(f"{what}: cannot be read: {error.strerror}", place=Place(str(path))) from error
    if mode & 0o077:
        raise InputError(
            f"{what}: others can read it (mode {mode:04o})", place=Place(str(path)), hint=f"chmod 600 {path}"
        )
    return data


def _without_none(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return value
