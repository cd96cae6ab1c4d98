"""edgeseal keys: make them, look at them, hand out their public half. Reference: docs/reference/keys.md."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance.core.durable import write_durable
from appliance.core.errors import InputError
from builder.cli.command import Command
from builder.host.paths import keys_directory
from builder.host.progress import step
from builder.signing.certificates import is_development, keyid_of
from builder.signing.descriptor import AbsentKey, FileKey, Secret
from builder.signing.keyinit import TokenPlan, init_keys
from builder.signing.keyset import KeySet, export_public, load_keys
from builder.signing.roles import Role
from builder.signing.variables import enrollment_files


def _kind_arguments(parser: argparse.ArgumentParser) -> None:
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--dev", action="store_true", help="development keys: refused by every release build")
    kind.add_argument("--release", action="store_true", help="release keys: in encrypted files or in a token")
    parser.add_argument("--directory", type=Path, help="where the keys are; default: dev or release in EDGESEAL_KEYS")


def _init_arguments(parser: argparse.ArgumentParser) -> None:
    _kind_arguments(parser)
    parser.add_argument("--organisation", default="edgeseal", help="named in release certificates")
    parser.add_argument("--passphrase-file", metavar="FILE", help="encrypt key files with what is in FILE (mode 0600)")
    parser.add_argument("--passphrase-env", metavar="NAME", help="encrypt key files with what is in the variable NAME")
    parser.add_argument("--pkcs11-module", type=Path, metavar="LIBRARY", help="make the keys in a PKCS#11 token")
    parser.add_argument("--token", metavar="LABEL", help="the token's label")
    parser.add_argument("--pin-file", metavar="FILE", help="the token's PIN is in FILE (mode 0600)")
    parser.add_argument("--pin-env", metavar="NAME", help="the token's PIN is in the environment variable NAME")


def _directory(arguments: argparse.Namespace) -> Path:
    chosen: Path | None = arguments.directory
    return (chosen or keys_directory() / ("release" if arguments.release else "dev")).absolute()


def _secret(file: str | None, variable: str | None, option: str) -> Secret | None:
    if file is not None and variable is not None:
        raise InputError(f"give either --{option}-file or --{option}-env, not both")
    if file is None and variable is None:
        return None
    return Secret(file=None if file is None else str(Path(file).absolute()), environment=variable)


def _token(arguments: argparse.Namespace) -> TokenPlan | None:
    pin = _secret(arguments.pin_file, arguments.pin_env, "pin")
    given = (arguments.pkcs11_module, arguments.token, pin)
    if not any(given):
        return None
    if not all(given):
        raise InputError("a token needs --pkcs11-module, --token, and --pin-file or --pin-env")
    return TokenPlan(arguments.pkcs11_module.absolute(), arguments.token, given[2] or Secret())


def _init(arguments: argparse.Namespace) -> Any:
    passphrase = _secret(arguments.passphrase_file, arguments.passphrase_env, "passphrase")
    if arguments.release and passphrase is None:
        raise InputError(
            "release key files are not written in the clear",
            hint="give --passphrase-file FILE or --passphrase-env NAME; "
            "with a token it encrypts the recovery key, which stays a file",
        )
    directory = _directory(arguments)
    with step(f"make {'development' if arguments.dev else 'release'} keys"):
        init_keys(
            directory,
            development=arguments.dev,
            now=datetime.now(UTC),
            organisation=arguments.organisation,
            passphrase=passphrase,
            token=_token(arguments),
        )
    return _listing(directory, load_keys(directory))


def _list_arguments(parser: argparse.ArgumentParser) -> None:
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--dev", action="store_true", help="the development keys (default)")
    chosen.add_argument("--release", action="store_true", help="the release keys")
    parser.add_argument("--directory", type=Path, help="where the keys are; default: dev or release in EDGESEAL_KEYS")


def _list(arguments: argparse.Namespace) -> Any:
    directory = _directory(arguments)
    return _listing(directory, load_keys(directory))


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    _list_arguments(parser)
    parser.add_argument("out", type=Path, metavar="OUT", help="directory for the certificates")
    parser.add_argument(
        "--enrolment", action="store_true", help="also PK.auth, KEK.auth, db.auth: what a board's firmware takes"
    )


def _export(arguments: argparse.Namespace) -> Any:
    keys = load_keys(_directory(arguments))
    enrolment = enrollment_files(keys) if arguments.enrolment else {}
    written = export_public(keys, arguments.out)
    for name, data in sorted(enrolment.items()):
        written.append(arguments.out / name)
        write_durable(written[-1], data)
    return {"written": [str(path) for path in written]}


def _listing(directory: Path, keys: KeySet) -> dict[str, Any]:
    return {
        "directory": str(directory),
        "development": keys.development,
        "keys": [_described(keys, role) for role in keys.sources],
    }


def _described(keys: KeySet, role: Role) -> dict[str, Any]:
    source, certificate = keys.sources[role], keys.certificate(role)
    kind = "file" if isinstance(source, FileKey) else "absent" if isinstance(source, AbsentKey) else "pkcs11"
    return {
        "role": role.value,
        "kind": kind,
        "encrypted": isinstance(source, FileKey) and source.passphrase is not None,
        "bits": role.key_bits,
        "keyid": keyid_of(certificate),
        "subject": certificate.subject.rfc4514_string(),
        "development": is_development(certificate),
        "not_before": certificate.not_valid_before_utc.isoformat(),
        "not_after": certificate.not_valid_after_utc.isoformat(),
    }


def _render_listing(result: Any) -> str:
    lines = [f"{result['directory']}: {'DEVELOPMENT keys' if result['development'] else 'release keys'}"]
    for key in result["keys"]:
        kind = key["kind"] + (", encrypted" if key["encrypted"] else "")
        lines.append(
            f"{key['role']:<10}  {kind:<15}  {key['keyid'][:16]}  until {key['not_after'][:10]}  {key['subject']}"
        )
    return "\n".join(lines)


COMMANDS = (
    Command(
        path=("keys", "init"),
        help="make a key and a certificate for every role; never over existing ones",
        arguments=_init_arguments,
        execute=_init,
        render=_render_listing,
    ),
    Command(
        path=("keys", "list"),
        help="what keys there are, and whether they are development keys",
        arguments=_list_arguments,
        execute=_list,
        render=_render_listing,
    ),
    Command(
        path=("keys", "export"),
        help="write the certificates, which is all that `edgeseal verify` needs",
        arguments=_export_arguments,
        execute=_export,
        render=lambda result: "\n".join(result["written"]),
    ),
)
