"""Whether to fetch another version of a model, and which: one pure function. Spec: docs/specs/approval.md.

The same policy, rings, windows and bounds as for firmware. What differs: no slot and no trial; a version is for a
product, from a version of it on; and it must fit the room that models have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from appliance.formats.approval import Approval, SitePolicy
from appliance.formats.model_release import ModelRelease, latest_model_path
from appliance.formats.model_store import StoredModel
from appliance.update import rules
from appliance.update.reftime import TimeKnowledge
from appliance.update.rules import Device, Hold, Named, Question, Refuse, Said, UpToDate, Wait


@dataclass(frozen=True)
class ModelOffer:
    """A target as the vendor's accepted metadata names it, and the manifest that has exactly these bytes."""

    path: str
    length: int
    sha256: str
    release: ModelRelease

    @property
    def named(self) -> Named:
        """For the rules."""
        version = self.release.version
        return Named(self.path, self.length, self.sha256, version, f"version {version} of model {self.release.model}")

    @property
    def bytes(self) -> int:
        """What it takes on the disk."""
        return self.release.onnx.size + self.length


@dataclass(frozen=True)
class ModelSituation:
    """name: of the model. have: what is current here, or None. room: bytes that a new version may take.

    policy: None when the device never had one; seen: the highest sequence that it knows of. offers: by target path.
    expires: the first moment at which any of the accepted metadata lapses, Unix seconds.
    """

    device: Device
    name: str
    have: StoredModel | None
    room: int
    policy: SitePolicy | None
    seen: int
    offers: Mapping[str, ModelOffer]
    time: TimeKnowledge
    expires: int


@dataclass(frozen=True)
class Fetch(Said):
    """Fetch `offer`. approval: None when the site follows its vendor. fresh: its freshness is proven."""

    offer: ModelOffer
    approval: Approval | None
    fresh: bool


ModelDecision = Fetch | Wait | Hold | Refuse | UpToDate


def models_wanted(policy: SitePolicy | None, name: str) -> tuple[str, ...]:
    """The vendor's targets that `decide_model` needs an offer for, where the vendor has them."""
    if policy is None or policy.mode == "hold":
        return ()
    if policy.mode == "follow-vendor":
        return (latest_model_path(name),)
    return tuple(sorted(approval.target for approval in approvals_of(policy, name)))


def approvals_of(policy: SitePolicy, name: str) -> tuple[Approval, ...]:
    """Those of one model."""
    return tuple(approval for approval in policy.approvals if approval.target.startswith(f"models/{name}/"))


def decide_model(situation: ModelSituation) -> ModelDecision:
    """Of several versions that could be fetched now, the highest; else what comes nearest, and why it is not now."""
    policy, name = situation.policy, situation.name
    if policy is None:
        return Hold("no-policy", "the site has not said yet what may be installed")
    question = Question(situation.device, policy, situation.seen, situation.time, situation.expires)
    if (early := rules.policy_fault(question) or rules.unconfirmed(situation.device)) is not None:
        return early
    if policy.mode == "hold":
        return Hold("held", f"the site holds {policy.product} (policy {policy.sequence})")
    if policy.mode == "follow-vendor":
        return _judge(_Case(question, situation, None, latest_model_path(name)))
    approvals = approvals_of(policy, name)
    if not approvals:
        what = f"no version of model {name} for {policy.product}"
        return Hold("nothing-approved", f"the site approves {what} (policy {policy.sequence})")
    judged = [(_judge(_Case(question, situation, each, each.target)), each.version) for each in approvals]
    return min(judged, key=lambda item: rules.rank(*item))[0]


@dataclass(frozen=True)
class _Case:
    """One version that might be fetched."""

    question: Question
    situation: ModelSituation
    approval: Approval | None
    path: str


_Rule = Callable[[_Case, ModelOffer], ModelDecision | None]


def _judge(case: _Case) -> ModelDecision:
    offer = case.situation.offers.get(case.path)
    if offer is None:
        return rules.not_at_vendor(case.path)
    order: tuple[_Rule, ...] = (
        lambda case, offer: rules.both_name_it(case.approval, offer.named),
        _is_for_this_device,
        _is_newer,
        _may_run,
        lambda case, offer: rules.ring_is_due(case.question, case.approval, offer.named.what),
        _fits,
        lambda case, offer: rules.time_is_due(case.question, case.approval, offer.named.what),
    )
    for rule in order:
        if (decision := rule(case, offer)) is not None:
            return decision
    return Fetch(
        reason="followed" if case.approval is None else "approved",
        sentence=f"fetch {offer.named.what}, {rules.by_whom(case.question, case.approval)}",
        offer=offer,
        approval=case.approval,
        fresh=case.question.fresh,
    )


def _is_for_this_device(case: _Case, offer: ModelOffer) -> ModelDecision | None:
    release, device = offer.release, case.question.device
    if release.model != case.situation.name:
        return Refuse("other-model", f"{case.path} is model {release.model}, not {case.situation.name}")
    if release.for_product(device.product) is None:
        named = ", ".join(item.product for item in release.products)
        return Refuse("other-product", f"{case.path} is for product {named}, this is {device.product}")
    if release.development and not device.development:
        return Refuse("development", f"{case.path} was published with development keys, this device runs a release")
    return None


def _is_newer(case: _Case, offer: ModelOffer) -> ModelDecision | None:
    have, what = case.situation.have, offer.named.what
    if have is None or offer.release.version > have.version:
        return None
    if offer.release.version < have.version:
        return Refuse("not-newer", f"{what} is below {have.version}, which is here")
    if offer.sha256 != have.release:
        return Refuse("not-newer", f"{what} is here already, with other bytes")
    return UpToDate("stored", f"{what} is here")


def _may_run(case: _Case, offer: ModelOffer) -> ModelDecision | None:
    device, runs_on = case.question.device, offer.release.for_product(case.question.device.product)
    if runs_on is not None and device.version < runs_on.oldest:
        needs = f"version {runs_on.oldest} of {device.product} first, {device.version} is running"
        return Refuse("oldest", f"{offer.named.what} needs {needs}")
    return None


def _fits(case: _Case, offer: ModelOffer) -> ModelDecision | None:
    room = case.situation.room
    if offer.bytes <= room:
        return None
    return Refuse("no-room", f"{offer.named.what} needs {offer.bytes} bytes, {room} are left for it")
