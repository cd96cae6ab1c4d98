"""Whether to install, and what: one pure function. Spec: docs/specs/approval.md.

The caller verified everything before: the policy and the offers come out of accepted metadata. It journals the decision
before it acts on it, and does not ask again until the update is confirmed or has fallen back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from appliance.formats.approval import Approval, SitePolicy
from appliance.formats.release import Release, latest_path
from appliance.formats.update_state import SlotName, UpdateState
from appliance.update.reftime import TimeKnowledge, best_now
from appliance.update.ring import rings_of
from appliance.update.window import is_open, next_open

Reason = Literal[
    "approved",
    "followed",
    "no-policy",
    "other-site",
    "policy-of-other-product",
    "replayed-policy",
    "held",
    "nothing-approved",
    "under-way",
    "unconfirmed",
    "not-at-vendor",
    "differs-from-approval",
    "other-version",
    "other-product",
    "other-profile",
    "other-architecture",
    "development",
    "running",
    "not-newer",
    "epoch",
    "oldest",
    "fell-back",
    "ring",
    "not-before",
    "not-after",
    "window",
    "time-unknown",
]


@dataclass(frozen=True)
class Device:
    """What decides.

    site, name, groups: site facts. product … development: of the running image. security_epoch: the highest that this
    device knows of, the TPM's counter included. confirmed: the running version passed its health gate.
    """

    site: str
    name: str
    groups: tuple[str, ...]
    product: str
    profile: str
    architecture: str
    version: int
    security_epoch: int
    development: bool
    slot: SlotName
    confirmed: bool


@dataclass(frozen=True)
class Offer:
    """A target as the vendor's accepted metadata names it, and the manifest that has exactly these bytes."""

    path: str
    length: int
    sha256: str
    release: Release


@dataclass(frozen=True)
class Situation:
    """policy: None when the device never had one. offers: by target path.

    expires: the first moment at which any of the accepted metadata lapses, Unix seconds.
    """

    device: Device
    state: UpdateState
    policy: SitePolicy | None
    offers: Mapping[str, Offer]
    time: TimeKnowledge
    expires: int


@dataclass(frozen=True)
class _Said:
    """reason: fixed, for programs. sentence: for the audit log."""

    reason: Reason
    sentence: str


@dataclass(frozen=True)
class Install(_Said):
    """Put `offer` into `slot`. approval: None when the site follows its vendor.

    fresh: the time is known and no metadata has lapsed; otherwise freshness is unproven.
    """

    offer: Offer
    approval: Approval | None
    slot: SlotName
    confirm: Literal["online", "offline"]
    fresh: bool


@dataclass(frozen=True)
class Wait(_Said):
    """Not now. until: Unix seconds by the clock that was used, or None when something else than time must change."""

    until: int | None


@dataclass(frozen=True)
class Hold(_Said):
    """The site wants nothing installed."""


@dataclass(frozen=True)
class Refuse(_Said):
    """Something that is signed is not for this device, or is no longer."""


@dataclass(frozen=True)
class UpToDate(_Said):
    """What may be installed is running."""


Decision = Install | Wait | Hold | Refuse | UpToDate


def targets_wanted(policy: SitePolicy | None) -> tuple[str, ...]:
    """The vendor's targets that `decide` needs an Offer for, where the vendor has them."""
    if policy is None or policy.mode == "hold":
        return ()
    if policy.mode == "follow-vendor":
        return (latest_path(policy.product),)
    return tuple(sorted(approval.target for approval in _firmware(policy)))


def decide(situation: Situation) -> Decision:
    """Of several versions that could be installed now, the highest; else what comes nearest, and why it is not now."""
    policy = situation.policy
    if policy is None:
        return Hold("no-policy", "the site has not said yet what may be installed")
    if (early := _policy_fault(situation, policy) or _busy(situation)) is not None:
        return early
    if policy.mode == "hold":
        return Hold("held", f"the site holds {policy.product} (policy {policy.sequence})")
    if policy.mode == "follow-vendor":
        return _judge(_Case(situation, policy, None, latest_path(policy.product)))
    cases = [_Case(situation, policy, approval, approval.target) for approval in _firmware(policy)]
    if not cases:
        return Hold("nothing-approved", f"the site approves no version of {policy.product} (policy {policy.sequence})")
    return min(((_judge(case), case) for case in cases), key=_rank)[0]


@dataclass(frozen=True)
class _Case:
    """One version that might be installed."""

    situation: Situation
    policy: SitePolicy
    approval: Approval | None
    path: str

    @property
    def version(self) -> int:
        if self.approval is not None:
            return self.approval.version
        offer = self.situation.offers.get(self.path)
        return 0 if offer is None else offer.release.version

    @property
    def now(self) -> int | None:
        return best_now(self.situation.time, clock_counts=self.policy.clock == "machine")


_Rule = Callable[[_Case, Offer], Decision | None]


def _firmware(policy: SitePolicy) -> tuple[Approval, ...]:
    """Models have the same approvals, but are no versions of the product."""
    return tuple(approval for approval in policy.approvals if approval.target.startswith("firmware/"))


def _policy_fault(situation: Situation, policy: SitePolicy) -> Refuse | None:
    device, seen = situation.device, situation.state.policy_sequence
    if policy.site != device.site:
        return Refuse("other-site", f"the policy is of site {policy.site}, this device belongs to {device.site}")
    if policy.product != device.product:
        return Refuse("policy-of-other-product", f"the policy is for {policy.product}, this is {device.product}")
    if policy.sequence < seen:
        return Refuse("replayed-policy", f"policy {policy.sequence} is older than policy {seen}, which was seen here")
    return None


def _busy(situation: Situation) -> Wait | None:
    if (trial := situation.state.trial) is not None:
        return Wait("under-way", f"version {trial.version} is on its way", None)
    if not situation.device.confirmed:  # the other slot is the only one that is known to be good
        return Wait("unconfirmed", f"running version {situation.device.version} is not confirmed yet", None)
    return None


def _rank(judged: tuple[Decision, _Case]) -> tuple[int, int, int]:
    decision, case = judged
    if isinstance(decision, Install):
        return (0, 0, -case.version)
    if isinstance(decision, Wait):
        return (1, 2**63 if decision.until is None else decision.until, -case.version)
    if isinstance(decision, Refuse) and decision.reason != "not-newer":
        return (2, 0, -case.version)
    return (3, 0, -case.version)


def _judge(case: _Case) -> Decision:
    offer = case.situation.offers.get(case.path)
    if offer is None:
        return Wait("not-at-vendor", f"the vendor's repository has no {case.path}", None)
    rules: tuple[_Rule, ...] = (_both_name_it, _is_for_this_device, _is_newer, _may_follow, _ring_is_due, _time_is_due)
    for rule in rules:
        if (decision := rule(case, offer)) is not None:
            return decision
    return _install(case, offer)


def _install(case: _Case, offer: Offer) -> Install:
    situation, policy, approval, now = case.situation, case.policy, case.approval, case.now
    fresh = now is not None and now < situation.expires
    why = (
        f"as the vendor says (policy {policy.sequence})"
        if approval is None
        else f"approved by {', '.join(approval.approvers)} (ticket {approval.ticket}, policy {policy.sequence})"
    )
    return Install(
        reason="followed" if approval is None else "approved",
        sentence=f"install version {offer.release.version}, {why}" + ("" if fresh else "; freshness unproven"),
        offer=offer,
        approval=approval,
        slot="b" if situation.device.slot == "a" else "a",
        confirm=policy.confirm,
        fresh=fresh,
    )


def _both_name_it(case: _Case, offer: Offer) -> Decision | None:
    approval = case.approval
    if approval is None:
        return None
    if (offer.path, offer.sha256, offer.length) != (approval.target, approval.sha256, approval.length):
        return Refuse(
            "differs-from-approval",
            f"{case.path}: the site approved sha256 {approval.sha256} ({approval.length} bytes), "
            f"the vendor has sha256 {offer.sha256} ({offer.length} bytes)",
        )
    if offer.release.version != approval.version:
        return Refuse("other-version", f"{case.path} is version {offer.release.version}, not {approval.version}")
    return None


def _is_for_this_device(case: _Case, offer: Offer) -> Decision | None:
    release, device = offer.release, case.situation.device
    if release.product != device.product:
        return Refuse("other-product", f"{case.path} is for product {release.product}, this is {device.product}")
    if release.architecture != device.architecture:
        return Refuse("other-architecture", f"{case.path} is for {release.architecture}, this is {device.architecture}")
    if release.profile != device.profile:
        return Refuse("other-profile", f"{case.path} is for profile {release.profile}, this is {device.profile}")
    if release.development and not device.development:
        return Refuse("development", f"{case.path} is a development build, this device runs a release")
    return None


def _is_newer(case: _Case, offer: Offer) -> Decision | None:
    version, running = offer.release.version, case.situation.device.version
    if version == running:
        return UpToDate("running", f"version {running} is running")
    return Refuse("not-newer", f"version {version} is below the running {running}") if version < running else None


def _may_follow(case: _Case, offer: Offer) -> Decision | None:
    release, device, state = offer.release, case.situation.device, case.situation.state
    epoch = max(state.security_epoch, device.security_epoch)
    if release.security_epoch < epoch:
        return Refuse("epoch", f"version {release.version} has security epoch {release.security_epoch}, below {epoch}")
    if device.version < release.oldest:
        return Refuse(
            "oldest", f"version {release.version} needs version {release.oldest} first, {device.version} is running"
        )
    since = case.policy.sequence if case.approval is None else case.approval.sequence
    for refused in state.refused:
        if refused.release == offer.sha256 and since <= refused.policy_sequence:
            return Refuse(
                "fell-back",
                f"version {release.version} fell back here under policy {refused.policy_sequence}: {refused.reason}",
            )
    return None


def _ring_is_due(case: _Case, offer: Offer) -> Decision | None:
    if case.approval is None:
        return None
    device, due = case.situation.device, case.approval.rings
    mine = rings_of(case.policy.rings, site=device.site, device=device.name, groups=device.groups)
    if not set(mine).isdisjoint(due):
        return None
    allowed, actual = ", ".join(due) or "no ring", f"in {', '.join(mine)}" if mine else "in no ring"
    return Wait("ring", f"version {offer.release.version} is for {allowed}; this device is {actual}", None)


def _time_is_due(case: _Case, offer: Offer) -> Decision | None:
    approval, policy, now = case.approval, case.policy, case.now
    windows = policy.windows if approval is None else approval.windows
    begin, end = (0, 0) if approval is None else (approval.not_before, approval.not_after)
    what = f"version {offer.release.version}"
    at_least = case.situation.time.t_low if now is None else now
    if end and at_least > end:
        return Refuse("not-after", f"the approval of {what} ended at {end}")
    if now is None:
        in_doubt = bool(windows or end or at_least < begin)
        if in_doubt and policy.time_unknown == "wait":
            return Wait("time-unknown", f"{what} is bound to a time, and this device does not know the time", None)
        return None
    if now < begin:
        return Wait("not-before", f"{what} may be installed from {begin} on", begin)
    if not is_open(windows, policy.offsets, now):
        opens = next_open(windows, policy.offsets, now)
        return Wait("window", f"{what} waits for a maintenance window", opens)
    return None
