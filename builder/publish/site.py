"""The plant's own repository: what its approvers let devices install, per product. See docs/reference/site.md.

Every change is a ceremony, as with the vendor: staged, signed by the threshold of approvers, finished.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from securesystemslib.signer import SSlibKey

from appliance.core.errors import InputError, Place, VerificationError
from appliance.formats.approval import Approval, SitePolicy, UtcOffset, decode_policy, encode_policy, policy_path
from builder.publish.ceremony import Ceremony, begin, merge, progress
from builder.publish.change import Change, apply, draft_root, draft_targets
from builder.publish.keys import Keyring, is_development, make_key, read_key
from builder.publish.offsets import offset_table
from builder.publish.policy import first_policy, require_approvers
from builder.publish.repository import Repository, open_repository
from builder.publish.roles import (
    ONLINE,
    ROOT,
    TARGETS,
    TOP_LEVEL,
    Periods,
    RoleKeys,
    days_left,
    holders,
    role_keys,
    signatures_of,
)
from builder.publish.staging import Stage, ceremony_path, finish, read_ceremony, refuse_staged, sign_file, staging

SITE_PERIODS = Periods(root=1095, targets=730, snapshot=90, timestamp=90, warn=30)
"""Longer than a vendor's: a plant signs when it changes something, and its media travel by hand."""

_NO_SITE = "make one: edgeseal site init"


@dataclass(frozen=True)
class Founding:
    """A new site. approvers: sign root and policies. online: sign what only says that nothing newer is known."""

    site: str
    products: tuple[str, ...]
    timezone: str
    approvers: RoleKeys
    online: RoleKeys
    development: bool


Edit = Callable[[SitePolicy, Sequence[UtcOffset], int], SitePolicy]
"""The next policy, from the one in force, the offsets and the time of its time zone, Unix seconds."""


def stage_site(path: Path, founding: Founding, *, now: datetime) -> Ceremony:
    """A new repository, in which nothing is approved yet. Raises InputError when there is one, or keys do not fit."""
    for role in TOP_LEVEL:
        _check_keys(role, _keys(founding, role), development=founding.development)
    instant, files = int(now.timestamp()), {}
    offsets = offset_table(founding.timezone, start=instant)
    for product in founding.products:
        policy = first_policy(founding.site, product, timezone=founding.timezone, offsets=offsets, now=instant)
        files[policy_path(product)] = encode_policy(policy)
    roles = {role: _keys(founding, role) for role in TOP_LEVEL}
    root = draft_root(None, roles, expires=SITE_PERIODS.expires(ROOT, now), development=founding.development)
    targets = draft_targets(None, expires=SITE_PERIODS.expires(TARGETS, now), add=files)
    with staging(path) as stage:
        if stage.repository is not None:
            raise InputError("there is a repository here already", place=Place(str(path)))
        stage.ceremony = begin(f"a new site {founding.site}", None, {ROOT: root, TARGETS: targets}, files)
    return stage.ceremony


def stage_policy(path: Path, product: str, title: str, edit: Edit, *, now: datetime) -> Ceremony:
    """The product's next policy. Raises InputError when there is no such site or product, or `edit` refuses."""
    with staging(path) as stage:
        if stage.repository is None:
            raise InputError("there is no site", place=Place(str(path)), hint=_NO_SITE)
        before = policy_of(stage.repository, product)
        instant = int(now.timestamp())
        after = edit(before, offset_table(before.timezone, start=instant), instant)
        _stage(stage.repository, after, title, stage, now)
    assert stage.ceremony is not None
    return stage.ceremony


def stage_product(path: Path, product: str, *, now: datetime) -> Ceremony:
    """A product that the site did not have. Raises InputError when it has it."""
    with staging(path) as stage:
        if stage.repository is None:
            raise InputError("there is no site", place=Place(str(path)), hint=_NO_SITE)
        known = policies(stage.repository)
        if product in [policy.product for policy in known]:
            raise InputError(f"this site has {product} already", place=Place(str(path)))
        instant, timezone = int(now.timestamp()), known[0].timezone
        offsets = offset_table(timezone, start=instant)
        after = first_policy(known[0].site, product, timezone=timezone, offsets=offsets, now=instant)
        _stage(stage.repository, after, f"add {product}", stage, now)
    assert stage.ceremony is not None
    return stage.ceremony


def policies(repository: Repository) -> list[SitePolicy]:
    """Every product's, by name. Raises VerificationError when a target is none, or of another site."""
    found = []
    for _, path, _ in repository.all_targets():
        policy = decode_policy(repository.read_target(path))
        if path != policy_path(policy.product):
            raise VerificationError(f"{path} is the policy of {policy.product}", place=Place(str(repository.path)))
        found.append(policy)
    sites = sorted({policy.site for policy in found})
    if len(sites) != 1:
        said = ", ".join(sites) or "none"
        raise VerificationError(f"not the repository of one site: {said}", place=Place(str(repository.path)))
    return found


def policy_of(repository: Repository, product: str) -> SitePolicy:
    """The policy in force. Raises InputError when the site does not have the product."""
    known = policies(repository)
    for policy in known:
        if policy.product == product:
            return policy
    hint = f"its products: {', '.join(policy.product for policy in known)}; add one: edgeseal site policy --new"
    raise InputError(f"site {known[0].site} has no product {product}", place=Place(str(repository.path)), hint=hint)


def open_site(path: Path) -> Repository:
    """Verified, and no ceremony waits. Raises InputError, VerificationError."""
    if not path.is_dir():
        raise InputError("there is no site", place=Place(str(path)), hint=_NO_SITE)
    repository = open_repository(path)
    policies(repository)
    refuse_staged(path)
    return repository


def approvers_for(repository: Repository, names: Sequence[str], keyring: Keyring | None) -> tuple[str, ...]:
    """Who will sign an approval: `names`, or else all approvers whose private keys are here. Raises InputError."""
    keys = repository.keys(TARGETS)
    here = holders(signer.public_key for signer in keyring.signers(keys.keys)) if keyring and not names else names
    return require_approvers(here, keys)


def sign_staged(path: Path, keyring: Keyring) -> Ceremony:
    """Sign what waits with every approver's key that is here. Raises InputError when there is none."""
    ceremony = read_ceremony(ceremony_path(path))
    asked = {
        key.keyid: key
        for role in ceremony.documents
        for item in ceremony.asked(role)
        for key in role_keys(item.delegator, item.role).keys
    }
    signers = keyring.signers(list(asked.values()))
    if not signers:
        raise InputError(
            "no approver's private key is here",
            place=Place(str(keyring.directory)),
            hint=f"asked: {', '.join(holders(asked.values()))}",
        )
    for signer in signers:
        ceremony, _ = sign_file(ceremony_path(path), signer)
    return ceremony


def is_signed(ceremony: Ceremony) -> bool:
    """Every threshold is met."""
    return not any(found.missing for _, found in progress(ceremony))


def finish_site(path: Path, files: Sequence[Path], keyring: Keyring, *, now: datetime) -> Repository:
    """Put what waits in force. files: copies that came back from approvers.

    Raises VerificationError when the threshold is not met, or who is named as an approver has not signed.
    """
    staged = ceremony_path(path)
    ceremony = read_ceremony(staged)
    for file in files:
        ceremony = merge(ceremony, read_ceremony(file), place=Place(str(file)))
    if is_signed(ceremony):
        _require_named_approvers(ceremony, place=Place(str(staged)))
    return finish(path, files, keyring, now=now, periods=SITE_PERIODS)


def refresh_site(path: Path, keyring: Keyring, *, now: datetime) -> Repository:
    """Renew what the online keys sign."""
    open_repository(path)
    return apply(path, Change(), keyring, now=now, periods=SITE_PERIODS)


def site_status(path: Path, *, now: datetime) -> dict[str, Any]:
    """Site, products, policies as data; the ceremony that waits."""
    staged = ceremony_path(path)
    waiting = read_ceremony(staged) if staged.exists() else None
    repository = open_repository(path) if (path / "metadata").exists() or waiting is None else None
    return {
        "repository": str(path),
        "policies": policies(repository) if repository else [],
        "approvers": repository.keys(TARGETS) if repository else None,
        "development": repository.development if repository else None,
        "lapses": dict(_lapses(repository, now)) if repository else {},
        "waiting": waiting,
    }


def development_keys(directory: Path) -> tuple[RoleKeys, RoleKeys]:
    """(approvers, online): three approvers, two of whom must sign, and one online key; made when missing.

    Raises InputError when a key there is not marked as a development key.
    """
    approvers = tuple(_development_key(directory / f"approver-{number}.json") for number in (1, 2, 3))
    return RoleKeys(approvers, 2), RoleKeys((_development_key(directory / "online.json"),), 1)


def _development_key(path: Path) -> SSlibKey:
    key = read_key(path) if path.exists() else make_key(path, holder=path.stem, development=True)
    if not is_development(key.key):
        raise InputError("this key is not marked as a development key", place=Place(str(path)))
    return key.key


def _stage(repository: Repository, policy: SitePolicy, title: str, stage: Stage, now: datetime) -> None:
    files = {policy_path(policy.product): encode_policy(policy)}
    targets = draft_targets(repository.targets, expires=SITE_PERIODS.expires(TARGETS, now), add=files)
    stage.ceremony = begin(title, repository, {TARGETS: targets}, files)


def _require_named_approvers(ceremony: Ceremony, *, place: Place) -> None:
    if TARGETS not in ceremony.documents:
        return
    signed = signatures_of(ceremony.root, TARGETS, ceremony.documents[TARGETS]).signed
    for approval in _new_approvals(ceremony.files):
        if absent := sorted(set(approval.approvers) - set(signed)):
            raise VerificationError(
                f"the approval of {approval.target} names {', '.join(absent)} as approver, who has not signed",
                place=place,
                hint="they sign too (edgeseal repo sign), or the approval is dropped and staged with other names",
            )


def _new_approvals(files: Mapping[str, bytes]) -> Iterator[Approval]:
    for data in files.values():
        policy = decode_policy(data)
        yield from (approval for approval in policy.approvals if approval.sequence == policy.sequence)


def _keys(founding: Founding, role: str) -> RoleKeys:
    return founding.online if role in ONLINE else founding.approvers


def _check_keys(role: str, wanted: RoleKeys, *, development: bool) -> None:
    if not 1 <= wanted.threshold <= len(wanted.ids):
        raise InputError(f"{role}: a threshold of {wanted.threshold} does not fit {len(wanted.ids)} keys")
    marked = holders(key for key in wanted.keys if is_development(key))
    if marked and not development:
        raise InputError(
            f"{role}: a site cannot have development keys: {', '.join(marked)}",
            hint="for tests: edgeseal site init --dev",
        )


def _lapses(repository: Repository, now: datetime) -> Iterator[tuple[str, int]]:
    for role in TOP_LEVEL:
        metadata = repository.metadata(role)
        assert metadata is not None
        yield role, days_left(metadata.signed, now)
