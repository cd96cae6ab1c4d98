"""edgeseal repo: the vendor's repository of releases. How-to: docs/how-to/publish-an-update.md."""

from __future__ import annotations

import argparse
import dataclasses
import os
from datetime import UTC, datetime
from pathlib import Path
from time import sleep
from typing import Any

from appliance.core.durable import write_durable
from appliance.core.errors import InputError, Place
from appliance.formats.model_release import RunsOn
from builder.cli.command import Command
from builder.host.paths import keys_directory
from builder.host.progress import say, step
from builder.host.toolstree import tools_tree
from builder.publish import report, staging, vendor
from builder.publish.devkeys import OFFLINE_THRESHOLD, development_roles, online_roles, sign_with_all
from builder.publish.keys import TRUSTED_ROOT, Keyring, describe_key, make_key, open_signer, read_key
from builder.publish.policywords import SITE_READERS, ceremony_words
from builder.publish.release import open_build
from builder.publish.repository import Repository, open_repository, root_is_development
from builder.publish.roles import ROOT, TARGETS, Periods, RoleKeys
from builder.publish.rotation import KeyChange
from builder.publish.serve import serving
from builder.publish.status import status
from builder.publish.tokens import public_key_in
from builder.publish.words import VENDOR_READERS, describe, signature_lines
from builder.review.manifest import MANIFEST_NAME, decode_manifest
from builder.signing.descriptor import Pkcs11Key, Secret, read_secret
from builder.signing.keyset import load_public_keys
from builder.signing.token import TokenKey, open_session

_READERS = {**VENDOR_READERS, **SITE_READERS}  # a site's approver may use this command too
_EPILOG_DAYS = "how long a new version holds, e.g. timestamp=7"


def _repository_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--repo", type=Path, default=Path("repository"), metavar="DIR", help="the repository (default: repository)"
    )


def _change_arguments(parser: argparse.ArgumentParser) -> None:
    _repository_arguments(parser)
    parser.add_argument("--keys", type=Path, metavar="DIR", help="the keys (default: tuf/ of the dev or release keys)")
    parser.add_argument("--days", action="append", default=[], metavar="ROLE=N", help=_EPILOG_DAYS)


def _key_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", type=Path, metavar="FILE", help="the key's description, NAME.json; NAME.key is beside it"
    )
    parser.add_argument("--holder", metavar="WHO", help="who has it (default: the file's name)")
    parser.add_argument("--dev", action="store_true", help="a development key")
    parser.add_argument("--passphrase-file", metavar="FILE", help="encrypt it with what is in FILE (mode 0600)")
    parser.add_argument("--passphrase-env", metavar="NAME", help="encrypt it with what is in the variable NAME")
    parser.add_argument("--pkcs11-module", type=Path, metavar="LIBRARY", help="describe a key that is in a token")
    parser.add_argument("--token", metavar="LABEL", help="the token's label")
    parser.add_argument("--label", metavar="LABEL", help="the key's label in the token")
    parser.add_argument("--pin-file", metavar="FILE", help="the token's PIN is in FILE (mode 0600)")
    parser.add_argument("--pin-env", metavar="NAME", help="the token's PIN is in the environment variable NAME")


def _key(arguments: argparse.Namespace) -> dict[str, Any]:
    path: Path = arguments.file.absolute()
    if path.suffix != ".json":
        raise InputError("a key's description is called NAME.json", place=Place(str(path)))
    holder = arguments.holder or path.stem
    passphrase = _secret(arguments.passphrase_file, arguments.passphrase_env, "passphrase")
    pin = _secret(arguments.pin_file, arguments.pin_env, "pin")
    given = (arguments.pkcs11_module, arguments.token, arguments.label, pin)
    if not any(given):
        if passphrase is None and not arguments.dev:
            raise InputError("a release key in a file needs --passphrase-file or --passphrase-env")
        made = make_key(path, holder=holder, development=arguments.dev, passphrase=passphrase)
    else:
        if not all(given) or pin is None:
            raise InputError("a token needs --pkcs11-module, --token, --label, and --pin-file or --pin-env")
        module = arguments.pkcs11_module.absolute()
        where = TokenKey(module, arguments.token, arguments.label)
        session = open_session(module, where.token, _pin(pin, where.token, path.parent))
        private = Pkcs11Key(module=str(module), token=where.token, label=where.label, pin=pin)
        public = public_key_in(session, where)
        made = describe_key(path, public, holder=holder, development=arguments.dev, private=private)
    return {"file": str(path), "holder": made.holder, "keyid": made.key.keyid, "scheme": made.key.scheme}


def _pin(pin: Secret, token: str, directory: Path) -> str:
    return read_secret(pin, os.environ, what=f"PIN of token {token!r}", directory=directory)


def _secret(file: str | None, variable: str | None, option: str) -> Secret | None:
    if file is not None and variable is not None:
        raise InputError(f"give either --{option}-file or --{option}-env, not both")
    if file is None and variable is None:
        return None
    return Secret(file=None if file is None else str(Path(file).absolute()), environment=variable)


def _init_arguments(parser: argparse.ArgumentParser) -> None:
    _change_arguments(parser)
    parser.add_argument("--dev", action="store_true", help="with development keys, made when missing; all in one go")
    parser.add_argument("--root", type=Path, action="append", default=[], metavar="KEY", help="a key of the root role")
    parser.add_argument("--targets", type=Path, action="append", default=[], metavar="KEY", help="a key of the targets")
    parser.add_argument("--threshold", type=int, default=OFFLINE_THRESHOLD, metavar="N", help="of both (default: 2)")


def _init(arguments: argparse.Namespace) -> dict[str, Any]:
    keys = _keys(arguments, development=arguments.dev)
    now = _now()
    if arguments.dev:
        if arguments.root or arguments.targets:
            raise InputError("--dev makes its own keys: leave --root and --targets away")
        roles = development_roles(keys)
    else:
        offline = ((ROOT, arguments.root), (TARGETS, arguments.targets))
        roles = {role: RoleKeys(_read_keys(paths), arguments.threshold) for role, paths in offline}
        roles |= online_roles(keys)
    vendor.stage_repository(arguments.repo, roles, development=arguments.dev, now=now, periods=_periods(arguments))
    return _end(arguments, keys, now, whole=arguments.dev)


def _publish_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", nargs="?", type=Path, metavar="DIR", help="the output of `edgeseal build`")
    _change_arguments(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--finish", action="store_true", help="put the staged ceremony in force")
    what.add_argument("--drop", action="store_true", help="take the staged ceremony away")
    what.add_argument("--dev", action="store_true", help="stage, sign with the development keys and finish, in one go")
    parser.add_argument(
        "--signed", type=Path, action="append", default=[], metavar="FILE", help="a copy that came back"
    )
    parser.add_argument("--oldest", type=int, default=1, metavar="N", help="smallest version that may update to it")
    parser.add_argument(
        "--trust", type=Path, metavar="DIR", help="certificates ROLE.crt that the build must verify with"
    )
    parser.add_argument("--role-key", type=Path, action="append", default=[], metavar="KEY", help="of a new product")
    parser.add_argument("--role-threshold", type=int, default=OFFLINE_THRESHOLD, metavar="N", help="(default: 2)")


def _publish(arguments: argparse.Namespace) -> dict[str, Any]:
    now = _now()
    if arguments.drop:
        title = staging.read_ceremony(staging.ceremony_path(arguments.repo)).title
        staging.drop(arguments.repo)
        return {"done": f"dropped: {title}", "staged": None}
    if arguments.finish:
        return _end(arguments, _keys(arguments, development=_is_development(arguments.repo)), now, whole=False)
    if arguments.directory is None or arguments.signed:
        raise InputError("give the directory of a build, or --finish", hint="see `edgeseal repo publish --help`")
    repository = vendor.require_open(arguments.repo)
    keys = RoleKeys(_read_keys(arguments.role_key), arguments.role_threshold) if arguments.role_key else None
    wanted = vendor.Wanted(oldest=arguments.oldest, development=arguments.dev, keys=keys, periods=_periods(arguments))
    tools = tools_tree()
    with step(f"verify {arguments.directory}"):
        build = open_build(arguments.directory, load_public_keys(_trusted(arguments)), tools)
    with step("cut it into content"):
        vendor.stage_release(arguments.repo, build, wanted, now=now)
    return _end(arguments, _keys(arguments, development=repository.development), now, whole=arguments.dev)


def _publish_model_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="the ONNX model")
    _change_arguments(parser)
    parser.add_argument("--name", required=True, metavar="NAME", help="of the model, as devices know it")
    parser.add_argument("--version", type=int, required=True, metavar="N", help="higher than any before")
    parser.add_argument("--card", type=Path, required=True, metavar="FILE", help="labels, preprocessing, licence: JSON")
    parser.add_argument(
        "--product", action="append", required=True, metavar="PRODUCT[=N]", help="who may run it, from version N on"
    )
    parser.add_argument("--new", action="store_true", help="a model that was never published here")
    parser.add_argument(
        "--dev", action="store_true", help="stage, sign with the development keys and finish, in one go"
    )
    parser.add_argument("--role-key", type=Path, action="append", default=[], metavar="KEY", help="of a new model")
    parser.add_argument("--role-threshold", type=int, default=OFFLINE_THRESHOLD, metavar="N", help="(default: 2)")


def _publish_model(arguments: argparse.Namespace) -> dict[str, Any]:
    from builder.publish.modelfile import open_model  # it brings onnxruntime, which no other command needs

    now = _now()
    repository = vendor.require_open(arguments.repo)
    keys = RoleKeys(_read_keys(arguments.role_key), arguments.role_threshold) if arguments.role_key else None
    wanted = vendor.WantedModel(
        version=arguments.version,
        products=tuple(_runs_on(text) for text in arguments.product),
        new=arguments.new,
        development=arguments.dev,
        keys=keys,
        periods=_periods(arguments),
    )
    with step(f"check {arguments.file}"):
        model = open_model(arguments.file, arguments.card, name=arguments.name)
    vendor.stage_model(arguments.repo, model, wanted, now=now)
    return _end(arguments, _keys(arguments, development=repository.development), now, whole=arguments.dev)


def _runs_on(text: str) -> RunsOn:
    product, _, oldest = text.partition("=")
    if not product or (oldest and not (oldest.isascii() and oldest.isdigit())):
        raise InputError(f"--product {text}: not PRODUCT or PRODUCT=VERSION")
    return RunsOn(product=product, oldest=int(oldest or "1"))


def _trusted(arguments: argparse.Namespace) -> Path:
    if arguments.trust is not None:
        return Path(arguments.trust)
    try:
        manifest = decode_manifest((arguments.directory / MANIFEST_NAME).read_bytes())
    except OSError as error:
        hint = "give the output directory of `edgeseal build`"
        raise InputError(f"there is no {MANIFEST_NAME}", place=Place(str(arguments.directory)), hint=hint) from error
    return keys_directory() / ("dev" if manifest.development else "release")


def _rotate_arguments(parser: argparse.ArgumentParser) -> None:
    _change_arguments(parser)
    parser.add_argument("--add", action="append", default=[], metavar="ROLE=KEY", help="give a role one more key")
    parser.add_argument("--remove", action="append", default=[], metavar="ROLE=WHO", help="take a holder's key away")
    parser.add_argument("--threshold", action="append", default=[], metavar="ROLE=N", help="how many must sign")
    parser.add_argument(
        "--dev", action="store_true", help="stage, sign with the development keys and finish, in one go"
    )


def _rotate(arguments: argparse.Namespace) -> dict[str, Any]:
    now = _now()
    changes = KeyChange(
        add=tuple((role, read_key(Path(file)).key) for role, file in _pairs(arguments.add, "--add")),
        remove=tuple(_pairs(arguments.remove, "--remove")),
        thresholds={role: _number(text, "--threshold") for role, text in _pairs(arguments.threshold, "--threshold")},
    )
    development = open_repository(arguments.repo).development
    if arguments.dev and not development:
        raise InputError("--dev: this is a release repository", place=Place(str(arguments.repo)))
    vendor.stage_rotation(arguments.repo, changes, now=now, periods=_periods(arguments))
    return _end(arguments, _keys(arguments, development=development), now, whole=arguments.dev)


def _end(arguments: argparse.Namespace, keys: Path, now: datetime, *, whole: bool) -> dict[str, Any]:
    """Say what is staged; or finish it. whole: sign it here first, and leave nothing staged when that fails."""
    repo, periods = arguments.repo, _periods(arguments)
    ring = Keyring(keys)
    if whole:
        try:
            sign_with_all(repo, ring)
            repository = staging.finish(repo, [], ring, now=now, periods=periods)
        except BaseException:
            staging.drop(repo)
            raise
        return _finished(repository, keys)
    if getattr(arguments, "finish", False):
        return _finished(staging.finish(repo, arguments.signed, ring, now=now, periods=periods), keys)
    file = staging.ceremony_path(repo)
    ceremony = staging.read_ceremony(file)
    return {
        "done": f"staged: {ceremony.title}",
        "staged": str(file),
        "words": describe(ceremony, now=now),
        "signatures": signature_lines(ceremony),
    }


def _finished(repository: Repository, keys: Path) -> dict[str, Any]:
    """The trusted root goes where builds find it, unless another repository's is there."""
    file = keys / TRUSTED_ROOT
    data = repository.root.to_bytes()
    ours = not file.exists() or file.read_bytes() in [root.to_bytes() for root in repository.roots]
    if ours:
        keys.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durable(file, data)
    versions = {role: item.signed.version for role, item in sorted(repository.delegated.items())}
    return {
        "done": "in force",
        "staged": None,
        "identity": repository.identity,
        "development": repository.development,
        "versions": {
            ROOT: repository.root.signed.version,
            TARGETS: repository.targets.signed.version,
            **versions,
            "snapshot": repository.snapshot.signed.version,
            "timestamp": repository.timestamp.signed.version,
        },
        "trusted_root": str(file) if ours else None,
    }


def _sign_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="the ceremony, as it came")
    parser.add_argument("--show", action="store_true", help="say what would be signed, and sign nothing")
    parser.add_argument("--key", type=Path, metavar="KEY", help="the description of your key")
    parser.add_argument("--root", type=Path, metavar="FILE", help="a root of the repository that you trust already")


def _sign(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.show == (arguments.key is not None):
        raise InputError("give either --show or --key KEY", hint="read it with --show before you sign it")
    ceremony = staging.read_ceremony(arguments.file)
    if arguments.root is not None:
        _require_root(arguments.root, [root.to_bytes() for root in ceremony.roots])
    signed: list[str] = []
    if arguments.key is not None:
        ceremony, signed = staging.sign_file(arguments.file, open_signer(read_key(arguments.key)))
    return {
        "file": str(arguments.file),
        "words": [*describe(ceremony, now=_now(), readers=_READERS), *ceremony_words(ceremony)],
        "signed": signed,
        "signatures": signature_lines(ceremony),
    }


def _require_root(file: Path, known: list[bytes]) -> None:
    place = Place(str(file))
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", place=place) from error
    if data not in known:
        raise InputError("the ceremony is for a repository that never had this root", place=place)


def _refresh(arguments: argparse.Namespace) -> dict[str, Any]:
    keys = _keys(arguments, development=_is_development(arguments.repo))
    done = vendor.refresh(arguments.repo, Keyring(keys), now=_now(), periods=_periods(arguments))
    return {
        "timestamp": done.repository.timestamp.signed.version,
        "snapshot": done.repository.snapshot.signed.version,
        "expires": f"{done.repository.timestamp.signed.expires:%Y-%m-%dT%H:%M:%SZ}",
        "warnings": list(done.warnings),
        "lapsed": list(done.lapsed),
    }


def _status_arguments(parser: argparse.ArgumentParser) -> None:
    _repository_arguments(parser)
    parser.add_argument("--full", action="store_true", help="compute the hash of every content file")


def _status(arguments: argparse.Namespace) -> dict[str, Any]:
    return status(arguments.repo, now=_now(), periods=Periods(), full=arguments.full)


def _root_arguments(parser: argparse.ArgumentParser) -> None:
    _repository_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="where to write it")
    parser.add_argument("--version", type=int, metavar="N", help="another version than the newest")


def _root(arguments: argparse.Namespace) -> dict[str, Any]:
    roots = open_repository(arguments.repo).roots
    version = arguments.version or len(roots)
    if not 1 <= version <= len(roots):
        raise InputError(f"--version {version}: the roots are 1 to {len(roots)}")
    write_durable(arguments.out, roots[version - 1].to_bytes())
    return {"file": str(arguments.out), "version": version, "of": len(roots)}


def _serve_arguments(parser: argparse.ArgumentParser) -> None:
    _repository_arguments(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8080, metavar="N", help="port (default: 8080; 0 for a free one)")


def _serve(arguments: argparse.Namespace) -> dict[str, Any]:
    with serving(arguments.repo, host=arguments.host, port=arguments.port) as server:
        address = f"http://{server.server_address[0]!s}:{server.server_address[1]}/"
        say(f"{arguments.repo} is at {address}; Ctrl-C ends it")
        try:
            while True:
                sleep(3600)
        except KeyboardInterrupt:
            return {"address": address}


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _keys(arguments: argparse.Namespace, *, development: bool) -> Path:
    chosen: Path | None = arguments.keys
    return chosen or keys_directory() / ("dev" if development else "release") / "tuf"


def _is_development(repo: Path) -> bool:
    file = staging.ceremony_path(repo)
    if file.exists() and (waiting := staging.read_ceremony(file)).identity is None:
        return root_is_development(waiting.root)
    return open_repository(repo).development


def _read_keys(paths: list[Path]) -> tuple[Any, ...]:
    return tuple(read_key(path).key for path in paths)


def _periods(arguments: argparse.Namespace) -> Periods:
    names = {field.name for field in dataclasses.fields(Periods)}
    days = {role: _number(text, "--days") for role, text in _pairs(arguments.days, "--days")}
    if unknown := sorted(set(days) - names):
        raise InputError(f"--days {unknown[0]}: no such role", hint=f"one of: {', '.join(sorted(names))}")
    return dataclasses.replace(Periods(), **days)


def _pairs(texts: list[str], option: str) -> list[tuple[str, str]]:
    found = [text.partition("=") for text in texts]
    for role, equals, value in found:
        if not role or not equals or not value:
            raise InputError(f"{option}: not ROLE=VALUE")
    return [(role, value) for role, _, value in found]


def _number(text: str, option: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 36_500:
        raise InputError(f"{option} {text}: not a number from 1 to 36500")
    return int(text)


COMMANDS = (
    Command(("repo", "key"), "make a key, or describe one in a token", _key_arguments, _key, report.key),
    Command(("repo", "init"), "begin a repository of releases", _init_arguments, _init, report.ceremony),
    Command(
        ("repo", "publish"), "publish a build, or finish a ceremony", _publish_arguments, _publish, report.ceremony
    ),
    Command(
        ("repo", "publish-model"),
        "publish a model on its own",
        _publish_model_arguments,
        _publish_model,
        report.ceremony,
    ),
    Command(("repo", "rotate"), "change keys, or renew offline roles", _rotate_arguments, _rotate, report.ceremony),
    Command(("repo", "sign"), "read a ceremony, and sign it", _sign_arguments, _sign, report.sign),
    Command(
        ("repo", "refresh"),
        "renew snapshot and timestamp with the online keys",
        _change_arguments,
        _refresh,
        report.refresh,
        lambda result: 1 if result["lapsed"] else 0,
    ),
    Command(
        ("repo", "status"),
        "verify a repository and say how it stands",
        _status_arguments,
        _status,
        report.status,
        lambda result: 1 if result["lapsed"] else 0,
    ),
    Command(("repo", "root"), "write the trusted root for an image", _root_arguments, _root, report.root),
    Command(("repo", "serve"), "serve it over HTTP, for development", _serve_arguments, _serve, report.serve),
)
