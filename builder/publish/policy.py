"""The next policy of a site, from the one in force. Pure: time, offsets and keys are arguments."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from appliance.core.errors import InputError
from appliance.formats.approval import (
    MAX_APPROVALS,
    Approval,
    Ring,
    SitePolicy,
    UtcOffset,
    decode_policy,
    encode_policy,
)
from appliance.formats.model_release import model_path
from appliance.formats.release import release_path
from builder.publish.roles import RoleKeys

EVERYONE = "all"
"""The ring that every site begins with."""


def first_policy(site: str, product: str, *, timezone: str, offsets: Sequence[UtcOffset], now: int) -> SitePolicy:
    """Nothing is approved yet; one ring of all devices. Raises DecodeError when a name is none."""
    policy = SitePolicy(
        site=site,
        product=product,
        sequence=1,
        signed_at=now,
        mode="approve",
        timezone=timezone,
        offsets=tuple(offsets),
        rings=(Ring(name=EVERYONE, percent=100),),
    )
    return checked(policy)


def next_policy(policy: SitePolicy, *, offsets: Sequence[UtcOffset], now: int, **changes: Any) -> SitePolicy:
    """The policy that follows, with these fields changed. Raises InputError when the clock is behind, or it is none."""
    if now < policy.signed_at:
        raise InputError(
            f"this machine's clock says {utc(now)}, policy {policy.sequence} was signed at {utc(policy.signed_at)}",
            hint="set the clock: the time of a policy is proof of the time on every device",
        )
    changed = msgspec.structs.replace(policy, **changes)
    return checked(
        msgspec.structs.replace(changed, sequence=policy.sequence + 1, signed_at=now, offsets=tuple(offsets))
    )


def with_approval(policy: SitePolicy, approval: Approval) -> tuple[Approval, ...]:
    """The approvals, this one instead of an older one of its target. Raises InputError."""
    if policy.mode == "follow-vendor":
        raise InputError(
            f"{policy.product} follows its vendor here: no approval is asked for",
            hint="edgeseal site policy --mode approve, or --mode hold",
        )
    for ring in approval.rings:
        require_ring(policy, ring)
    if not approval.rings:
        raise InputError("an approval needs a ring", hint=f"--ring, one of: {', '.join(ring_names(policy))}")
    kept = [item for item in policy.approvals if item.target != approval.target]
    if len(kept) >= MAX_APPROVALS:
        raise InputError(
            f"{policy.product} has {len(kept)} approvals, at most {MAX_APPROVALS} are allowed",
            hint="revoke what no device needs: edgeseal site revoke",
        )
    found = msgspec.structs.replace(approval, sequence=policy.sequence + 1)
    return tuple(sorted((*kept, found), key=lambda item: (item.target.rpartition("/")[0], item.version)))


def without_approval(policy: SitePolicy, version: int, *, model: str | None = None) -> tuple[Approval, ...]:
    """The approvals without that version's, of the firmware or of a model. Raises InputError when there is none."""
    target = release_path(policy.product, version) if model is None else model_path(model, version)
    kept = tuple(approval for approval in policy.approvals if approval.target != target)
    if len(kept) == len(policy.approvals):
        what = policy.product if model is None else f"model {model} for {policy.product}"
        alike = [item for item in policy.approvals if item.target.rpartition("/")[0] == target.rpartition("/")[0]]
        approved = ", ".join(str(approval.version) for approval in alike) or "none"
        raise InputError(f"version {version} of {what} is not approved", hint=f"approved: {approved}")
    return kept


def with_ring(policy: SitePolicy, ring: Ring) -> tuple[Ring, ...]:
    """The rings, this one instead of one of its name; a new one is the last."""
    if ring.name not in ring_names(policy):
        return (*policy.rings, ring)
    return tuple(ring if old.name == ring.name else old for old in policy.rings)


def without_ring(policy: SitePolicy, name: str) -> tuple[Ring, ...]:
    """The rings without that one. Raises InputError when there is none, or an approval names it."""
    require_ring(policy, name)
    using = [_called(approval) for approval in policy.approvals if name in approval.rings]
    if using:
        raise InputError(f"ring {name} is named by the approval of {', '.join(using)}", hint="revoke, or approve anew")
    return tuple(ring for ring in policy.rings if ring.name != name)


def _called(approval: Approval) -> str:
    kind, name, _ = approval.target.split("/")
    return str(approval.version) if kind == "firmware" else f"model {name} {approval.version}"


def require_ring(policy: SitePolicy, name: str) -> None:
    """Raises InputError, with the nearest name, when the policy has no such ring."""
    names = ring_names(policy)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"its rings: {', '.join(names) or 'none'}"
        raise InputError(f"{policy.product} has no ring `{name}`", hint=hint)


def ring_names(policy: SitePolicy) -> list[str]:
    """In their order."""
    return [ring.name for ring in policy.rings]


def require_approvers(names: Sequence[str], keys: RoleKeys) -> tuple[str, ...]:
    """names: who will sign an approval. Sorted; raises InputError when one has no key here, or they are too few."""
    holders = ", ".join(keys.holders)
    for name in names:
        if name not in keys.holders:
            raise InputError(f"{name} is no approver of this site", hint=f"its approvers: {holders}")
    if len(set(names)) < keys.threshold:
        raise InputError(
            f"an approval needs {keys.threshold} approvers, named: {', '.join(sorted(set(names))) or 'nobody'}",
            hint=f"--approver, for each; this site's: {holders}",
        )
    return tuple(sorted(set(names)))


def checked(policy: SitePolicy) -> SitePolicy:
    """As a device will read it. Raises DecodeError when it would not."""
    return decode_policy(encode_policy(policy))


def utc(instant: int) -> str:
    """For people."""
    return f"{datetime.fromtimestamp(instant, UTC):%Y-%m-%d %H:%M:%S} UTC"
