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
from appliance.update import rules
from appliance.update.reftime import TimeKnowledge
from appliance.update.rules import Device, Hold, Named, Question, Refuse, Said, UpToDate, Wait


@dataclass(frozen=True)
class Offer:
    """A target as the vendor's accepted metadata names it, and the manifest that has exactly these bytes."""

    path: str
    length: int
    sha256: str
    release: Release

    @property
    def named(self) -> Named:
        """For the rules."""
        version = self.release.version
        return Named(self.path, self.length, self.sha256, version, f"version {version}")


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
class Install(Said):
    """Put `offer` into `slot`. approval: None when the site follows its vendor.

    fresh: the time is known and no metadata has lapsed; otherwise freshness is unproven.
    """

    offer: Offer
    approval: Approval | None
    slot: SlotName
    confirm: Literal["online", "offline"]
    fresh: bool


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
    policy, state = situation.policy, situation.state
    if policy is None:
        return Hold("no-policy", "the site has not said yet what may be installed")
    question = Question(situation.device, policy, state.policy_sequence, situation.time, situation.expires)
    if (early := rules.policy_fault(question) or _busy(situation)) is not None:
        return early
    if policy.mode == "hold":
        return Hold("held", f"the site holds {policy.product} (policy {policy.sequence})")
    if policy.mode == "follow-vendor":
        return _judge(_Case(question, situation, None, latest_path(policy.product)))
    cases = [_Case(question, situation, approval, approval.target) for approval in _firmware(policy)]
    if not cases:
        return Hold("nothing-approved", f"the site approves no version of {policy.product} (policy {policy.sequence})")
    judged = [(_judge(case), approval.version) for case, approval in zip(cases, _firmware(policy), strict=True)]
    return min(judged, key=lambda item: rules.rank(*item))[0]


@dataclass(frozen=True)
class _Case:
    """One version that might be installed."""

    question: Question
    situation: Situation
    approval: Approval | None
    path: str

    @property
    def policy(self) -> SitePolicy:
        return self.question.policy


_Rule = Callable[[_Case, Offer], Decision | None]


def _firmware(policy: SitePolicy) -> tuple[Approval, ...]:
    """Models have the same approvals, but are no versions of the product."""
    return tuple(approval for approval in policy.approvals if approval.target.startswith("firmware/"))


def _busy(situation: Situation) -> Wait | None:
    if (trial := situation.state.trial) is not None:
        return Wait("under-way", f"version {trial.version} is on its way", None)
    return rules.unconfirmed(situation.device)  # the other slot is the only one that is known to be good


def _judge(case: _Case) -> Decision:
    offer = case.situation.offers.get(case.path)
    if offer is None:
        return rules.not_at_vendor(case.path)
    order: tuple[_Rule, ...] = (
        lambda case, offer: rules.both_name_it(case.approval, offer.named),
        _is_for_this_device,
        _is_newer,
        _may_follow,
        lambda case, offer: rules.ring_is_due(case.question, case.approval, offer.named.what),
        lambda case, offer: rules.time_is_due(case.question, case.approval, offer.named.what),
    )
    for rule in order:
        if (decision := rule(case, offer)) is not None:
            return decision
    return _install(case, offer)


def _install(case: _Case, offer: Offer) -> Install:
    question, approval = case.question, case.approval
    return Install(
        reason="followed" if approval is None else "approved",
        sentence=f"install version {offer.release.version}, {rules.by_whom(question, approval)}",
        offer=offer,
        approval=approval,
        slot="b" if question.device.slot == "a" else "a",
        confirm=question.policy.confirm,
        fresh=question.fresh,
    )


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
