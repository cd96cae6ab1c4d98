"""edgeseal site: what a plant lets its devices install. Reference: docs/reference/site.md."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance.core.errors import InputError, Place
from appliance.formats.approval import Approval, Ring, SitePolicy, UtcOffset, Window
from appliance.formats.model_release import model_path
from appliance.formats.release import release_path
from builder.cli.command import Command
from builder.cli.site_ca import CA
from builder.host.paths import cache_directory, keys_directory
from builder.publish import site, sitereport, staging
from builder.publish.ceremony import Ceremony
from builder.publish.deviceview import FoundModel, FoundRelease, SeenRepository, read_root
from builder.publish.keys import Keyring, open_signer, read_key
from builder.publish.offsets import offset_table, parse_moment
from builder.publish.policy import next_policy, with_approval, with_ring, without_approval, without_ring
from builder.publish.policywords import SITE_READERS, ceremony_words
from builder.publish.repository import open_repository, root_is_development
from builder.publish.roles import RoleKeys
from builder.publish.windows import parse_window
from builder.publish.words import VENDOR_READERS, describe, signature_lines

_READERS = {**VENDOR_READERS, **SITE_READERS}


def _site_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, metavar="SITE", help="the site's repository")


def _change_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--keys", type=Path, metavar="DIR", help="keys (default: site/ of the dev or release keys)")
    parser.add_argument("--yes", action="store_true", help="sign with the keys that are here, and finish")


def _product_arguments(parser: argparse.ArgumentParser) -> None:
    _site_argument(parser)
    parser.add_argument("product", metavar="PRODUCT")


def _version_arguments(parser: argparse.ArgumentParser) -> None:
    _product_arguments(parser)
    parser.add_argument("version", type=int, metavar="VERSION")
    parser.add_argument("--model", metavar="NAME", help="a version of this model, not of the product's firmware")


def _window_arguments(parser: argparse.ArgumentParser) -> None:
    when = parser.add_mutually_exclusive_group()
    when.add_argument(
        "--window", action="append", default=[], metavar="WHEN", help='site-local, e.g. "sat,sun 22:00-04:00"'
    )
    when.add_argument("--any-time", action="store_true", help="no window")


def _init_arguments(parser: argparse.ArgumentParser) -> None:
    _site_argument(parser)
    parser.add_argument("--site", required=True, metavar="NAME", help="the site's name, as its devices know it")
    parser.add_argument("--product", action="append", required=True, metavar="PRODUCT", help="repeat it for several")
    parser.add_argument("--timezone", default="UTC", metavar="ZONE", help="IANA name, e.g. Europe/Berlin")
    parser.add_argument("--approver", type=Path, action="append", default=[], metavar="KEY", help="an approver's key")
    parser.add_argument("--online", type=Path, metavar="KEY", help="the key for snapshot and timestamp")
    parser.add_argument("--threshold", type=int, default=2, metavar="N", help="approvers who must sign (default: 2)")
    parser.add_argument("--dev", action="store_true", help="development keys, made when missing; all in one go")
    parser.add_argument("--keys", type=Path, metavar="DIR", help="keys (default: site/ of the dev or release keys)")


def _init(arguments: argparse.Namespace) -> dict[str, Any]:
    keys = _keys(arguments, development=arguments.dev)
    if arguments.dev:
        if arguments.approver or arguments.online:
            raise InputError("--dev makes its own keys: leave --approver and --online away")
        approvers, online = site.development_keys(keys)
    else:
        if arguments.online is None:
            raise InputError("a site needs an online key", hint="make one (edgeseal repo key FILE), then --online FILE")
        approvers = RoleKeys(tuple(read_key(path).key for path in arguments.approver), arguments.threshold)
        online = RoleKeys((read_key(arguments.online).key,), 1)
    products = tuple(sorted(set(arguments.product)))
    founding = site.Founding(arguments.site, products, arguments.timezone, approvers, online, arguments.dev)
    now = _now()
    return _staged(arguments, site.stage_site(arguments.directory, founding, now=now), keys, now, sign=arguments.dev)


def _approve_arguments(parser: argparse.ArgumentParser) -> None:
    _version_arguments(parser)
    parser.add_argument(
        "--vendor", required=True, metavar="WHERE", help="the vendor's repository: address or directory"
    )
    parser.add_argument("--vendor-root", type=Path, required=True, metavar="FILE", help="its root that you trust")
    parser.add_argument("--ca", type=Path, metavar="FILE", help="PEM: who may certify an https: address")
    parser.add_argument("--ring", action="append", default=[], metavar="NAME", help="who installs it; repeat it")
    _window_arguments(parser)
    parser.add_argument("--not-before", metavar="TIME", help="e.g. 2026-07-01T22:00, site-local")
    parser.add_argument("--not-after", metavar="TIME", help="likewise")
    parser.add_argument("--ticket", metavar="NUMBER", help="of the change")
    parser.add_argument("--approver", action="append", default=[], metavar="WHO", help="who will sign; repeat it")
    _change_arguments(parser)


def _approve(arguments: argparse.Namespace) -> dict[str, Any]:
    repository = site.open_site(arguments.directory)
    keys = _keys(arguments, development=repository.development)
    before = site.policy_of(repository, arguments.product)
    if not (arguments.ticket or "").strip():
        raise InputError("an approval needs the number of its change ticket", hint="--ticket NUMBER")
    windows = _windows(arguments, before.windows)
    bounds = [_moment(text, before) for text in (arguments.not_before, arguments.not_after)]
    ring = Keyring(keys) if arguments.yes else None
    approvers = site.approvers_for(repository, arguments.approver, ring)
    now = _now()
    found = _at_vendor(arguments, now)

    def edit(policy: SitePolicy, offsets: Sequence[UtcOffset], instant: int) -> SitePolicy:
        approval = Approval(
            sequence=policy.sequence + 1,
            target=found.target.path,
            sha256=found.target.sha256,
            length=found.target.length,
            version=found.release.version,
            rings=tuple(arguments.ring),
            windows=windows,
            not_before=bounds[0],
            not_after=bounds[1],
            ticket=arguments.ticket.strip(),
            approvers=approvers,
        )
        return next_policy(policy, offsets=offsets, now=instant, approvals=with_approval(policy, approval))

    title = f"approve {_called(arguments)}, ticket {arguments.ticket.strip()}"
    ceremony = site.stage_policy(arguments.directory, arguments.product, title[:200], edit, now=now)
    reader = VENDOR_READERS["firmware/" if arguments.model is None else "models/"]
    words = [f"the vendor's {found.target.path}: {reader(found.data)}"]
    return _staged(arguments, ceremony, keys, now, sign=arguments.yes, words=words)


def _called(arguments: argparse.Namespace) -> str:
    if arguments.model is None:
        return f"{arguments.product} {arguments.version}"
    return f"model {arguments.model} {arguments.version} for {arguments.product}"


def _at_vendor(arguments: argparse.Namespace, now: datetime) -> FoundRelease | FoundModel:
    """What is approved is what the vendor's own metadata names, seen by the code that devices run."""
    ca = None if arguments.ca is None else arguments.ca.read_bytes()
    store = cache_directory() / "repositories"
    vendor = SeenRepository(arguments.vendor, read_root(arguments.vendor_root), store, name="vendor", ca=ca)
    vendor.refresh(now=int(now.timestamp()))
    return _release(vendor, arguments) if arguments.model is None else _model(vendor, arguments)


def _release(vendor: SeenRepository, arguments: argparse.Namespace) -> FoundRelease:
    path = release_path(arguments.product, arguments.version)
    found = vendor.release(path)
    if found is None:
        raise InputError(f"the vendor has no {arguments.product} {arguments.version}", place=Place(arguments.vendor))
    if (found.release.product, found.release.version) != (arguments.product, arguments.version):
        said = f"{found.release.product} {found.release.version}"
        raise InputError(f"the vendor's {path} is the manifest of {said}", place=Place(arguments.vendor))
    return found


def _model(vendor: SeenRepository, arguments: argparse.Namespace) -> FoundModel:
    place = Place(arguments.vendor)
    path = model_path(arguments.model, arguments.version)
    found = vendor.model(path)
    if found is None:
        raise InputError(f"the vendor has no model {arguments.model} {arguments.version}", place=place)
    release = found.release
    if (release.model, release.version) != (arguments.model, arguments.version):
        raise InputError(f"the vendor's {path} is the manifest of model {release.model} {release.version}", place=place)
    if release.for_product(arguments.product) is None:
        hint = f"it is for {', '.join(item.product for item in release.products)}"
        raise InputError(
            f"model {release.model} {release.version} is not for {arguments.product}", place=place, hint=hint
        )
    return found


def _revoke_arguments(parser: argparse.ArgumentParser) -> None:
    _version_arguments(parser)
    _change_arguments(parser)


def _revoke(arguments: argparse.Namespace) -> dict[str, Any]:
    return _edited(
        arguments,
        f"revoke {_called(arguments)}",
        lambda policy: {"approvals": without_approval(policy, arguments.version, model=arguments.model)},
    )


def _ring_arguments(parser: argparse.ArgumentParser) -> None:
    _product_arguments(parser)
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--device", action="append", default=[], metavar="ID", help="a device; repeat it")
    parser.add_argument("--devices-from", type=Path, metavar="FILE", help="a device on each line")
    parser.add_argument("--group", action="append", default=[], metavar="NAME", help="a group of devices; repeat it")
    parser.add_argument("--percent", type=int, default=0, metavar="N", help="of all devices, always the same ones")
    parser.add_argument("--remove", action="store_true", help="take the ring away")
    _change_arguments(parser)


def _ring(arguments: argparse.Namespace) -> dict[str, Any]:
    devices = list(arguments.device)
    if arguments.devices_from is not None:
        devices += _lines(arguments.devices_from)
    ring = Ring(
        name=arguments.name,
        devices=tuple(sorted(set(devices))),
        groups=tuple(sorted(set(arguments.group))),
        percent=arguments.percent,
    )
    if not arguments.remove and not (ring.devices or ring.groups or ring.percent):
        raise InputError(f"ring {ring.name}: nobody is in it", hint="--device, --devices-from, --group or --percent")

    def change(policy: SitePolicy) -> dict[str, Any]:
        return {"rings": without_ring(policy, ring.name) if arguments.remove else with_ring(policy, ring)}

    verb = "remove" if arguments.remove else "set"
    return _edited(arguments, f"{verb} ring {ring.name} of {arguments.product}", change)


def _policy_arguments(parser: argparse.ArgumentParser) -> None:
    _product_arguments(parser)
    parser.add_argument("--new", action="store_true", help="a product that the site did not have")
    parser.add_argument("--mode", choices=("approve", "follow-vendor", "hold"))
    parser.add_argument("--confirm", choices=("online", "offline"), help="whether a trial needs the broker")
    parser.add_argument("--clock", choices=("machine", "none"), help="whether a device's plausible clock counts")
    parser.add_argument("--time-unknown", choices=("wait", "install"), help="what a device without a clock does")
    parser.add_argument("--timezone", metavar="ZONE", help="IANA name")
    _window_arguments(parser)
    _change_arguments(parser)


def _policy(arguments: argparse.Namespace) -> dict[str, Any]:
    fields = ("mode", "confirm", "clock", "time_unknown", "timezone")
    changes = {name: value for name in fields if (value := getattr(arguments, name)) is not None}
    if arguments.window or arguments.any_time:
        changes["windows"] = _windows(arguments, ())
    if arguments.new:
        if changes:
            raise InputError("--new begins a product: change it afterwards")
        keys, now = _keys(arguments, development=open_repository(arguments.directory).development), _now()
        ceremony = site.stage_product(arguments.directory, arguments.product, now=now)
        return _staged(arguments, ceremony, keys, now, sign=arguments.yes)
    if not changes:
        raise InputError("nothing is to be changed", hint="see `edgeseal site policy --help`")
    return _edited(arguments, f"policy of {arguments.product}: {', '.join(sorted(changes))}", lambda policy: changes)


def _edited(
    arguments: argparse.Namespace, title: str, change: Callable[[SitePolicy], dict[str, Any]]
) -> dict[str, Any]:
    repository, now = site.open_site(arguments.directory), _now()

    def edit(policy: SitePolicy, offsets: Sequence[UtcOffset], instant: int) -> SitePolicy:
        changes = change(policy)
        if "timezone" in changes:
            offsets = offset_table(changes["timezone"], start=instant)
        return next_policy(policy, offsets=offsets, now=instant, **changes)

    ceremony = site.stage_policy(arguments.directory, arguments.product, title[:200], edit, now=now)
    keys = _keys(arguments, development=repository.development)
    return _staged(arguments, ceremony, keys, now, sign=arguments.yes)


def _staged(
    arguments: argparse.Namespace,
    ceremony: Ceremony,
    keys: Path,
    now: datetime,
    *,
    sign: bool,
    words: Sequence[str] = (),
) -> dict[str, Any]:
    """Sign it here and put it in force when it is asked for and the threshold is met; else it stays staged."""
    path, ring = arguments.directory, Keyring(keys)
    result = {"repository": str(path), "words": [*words, *_words(ceremony, now)]}
    if sign:
        try:
            ceremony = site.sign_staged(path, ring)
        except BaseException:
            staging.drop(path)
            raise
        if site.is_signed(ceremony):
            site.finish_site(path, [], ring, now=now)
            return result | {"signatures": signature_lines(ceremony), "staged": None}
    return result | {"signatures": signature_lines(ceremony), "staged": str(staging.ceremony_path(path))}


def _words(ceremony: Ceremony, now: datetime) -> list[str]:
    return [*describe(ceremony, now=now, readers=_READERS), *ceremony_words(ceremony)]


def _sign_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="the ceremony, as it came")
    parser.add_argument("--show", action="store_true", help="say what would be signed, and sign nothing")
    parser.add_argument("--key", type=Path, metavar="KEY", help="the description of your key")


def _sign(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.show == (arguments.key is not None):
        raise InputError("give either --show or --key KEY", hint="read it with --show before you sign it")
    ceremony = staging.read_ceremony(arguments.file)
    signed: list[str] = []
    if arguments.key is not None:
        ceremony, signed = staging.sign_file(arguments.file, open_signer(read_key(arguments.key)))
    return {"words": _words(ceremony, _now()), "signed": signed, "signatures": signature_lines(ceremony)}


def _finish_arguments(parser: argparse.ArgumentParser) -> None:
    _site_argument(parser)
    parser.add_argument("files", type=Path, nargs="*", metavar="FILE", help="copies that came back from approvers")
    parser.add_argument("--drop", action="store_true", help="take away what waits")
    parser.add_argument("--keys", type=Path, metavar="DIR", help="keys (default: site/ of the dev or release keys)")


def _finish(arguments: argparse.Namespace) -> dict[str, Any]:
    path, now = arguments.directory, _now()
    waiting = staging.read_ceremony(staging.ceremony_path(path))
    if arguments.drop:
        staging.drop(path)
    else:
        ring = Keyring(_keys(arguments, development=root_is_development(waiting.root)))
        site.finish_site(path, arguments.files, ring, now=now)
    return {"done": f"{'dropped' if arguments.drop else 'in force'}: {waiting.title}"}


def _refresh_arguments(parser: argparse.ArgumentParser) -> None:
    _site_argument(parser)
    parser.add_argument("--keys", type=Path, metavar="DIR", help="keys (default: site/ of the dev or release keys)")


def _refresh(arguments: argparse.Namespace) -> dict[str, Any]:
    keys = _keys(arguments, development=open_repository(arguments.directory).development)
    done = site.refresh_site(arguments.directory, Keyring(keys), now=_now())
    return {"done": f"renewed, until {done.timestamp.signed.expires:%Y-%m-%d}"}


def _status(arguments: argparse.Namespace) -> dict[str, Any]:
    return sitereport.status_data(site.site_status(arguments.directory, now=_now()))


def _windows(arguments: argparse.Namespace, default: Sequence[Window]) -> tuple[Window, ...]:
    if arguments.window or arguments.any_time:
        return tuple(parse_window(text) for text in arguments.window)
    return tuple(default)


def _moment(text: str | None, policy: SitePolicy) -> int:
    return 0 if text is None else parse_moment(text, policy.timezone)


def _lines(file: Path) -> list[str]:
    try:
        return [line.strip() for line in file.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read: {error}", place=Place(str(file))) from error


def _keys(arguments: argparse.Namespace, *, development: bool) -> Path:
    chosen: Path | None = arguments.keys
    return chosen or keys_directory() / ("dev" if development else "release") / "site"


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _done(result: Any) -> str:
    return str(result["done"])


COMMANDS = (
    Command(("site", "init"), "begin a site's repository", _init_arguments, _init, sitereport.render_change),
    Command(("site", "approve"), "approve a vendor's release", _approve_arguments, _approve, sitereport.render_change),
    Command(("site", "revoke"), "take an approval back", _revoke_arguments, _revoke, sitereport.render_change),
    Command(("site", "ring"), "say which devices are a ring", _ring_arguments, _ring, sitereport.render_change),
    Command(("site", "policy"), "mode, windows, clock", _policy_arguments, _policy, sitereport.render_change),
    Command(("site", "sign"), "read what waits, and sign it", _sign_arguments, _sign, sitereport.render_sign),
    Command(("site", "finish"), "put what was signed in force", _finish_arguments, _finish, _done),
    Command(("site", "refresh"), "renew snapshot and timestamp", _refresh_arguments, _refresh, _done),
    Command(("site", "status"), "what is approved, and by whom", _site_argument, _status, sitereport.render_status),
    *CA,
)
