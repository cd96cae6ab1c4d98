"""What firmware and models have in common in a decision. Pure. Spec: docs/specs/approval.md.

Each rule gives the answer that stops an installation, or None.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from appliance.formats.approval import Approval, Offsets, SitePolicy, Windows
from appliance.formats.update_state import SlotName
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
    "stored",
    "other-model",
    "no-room",
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
class Said:
    """reason: fixed, for programs. sentence: for the audit log."""

    reason: Reason
    sentence: str


@dataclass(frozen=True)
class Wait(Said):
    """Not now. until: Unix seconds by the clock that was used, or None when something else than time must change."""

    until: int | None


@dataclass(frozen=True)
class Hold(Said):
    """The site wants nothing installed."""


@dataclass(frozen=True)
class Refuse(Said):
    """Something that is signed is not for this device, or is no longer."""


@dataclass(frozen=True)
class UpToDate(Said):
    """What may be installed is running."""


@dataclass(frozen=True)
class Named:
    """A target as the vendor's accepted metadata names it. version: by its manifest. what: in words."""

    path: str
    length: int
    sha256: str
    version: int
    what: str


@dataclass(frozen=True)
class Question:
    """Whether one device may have something now. seen: the highest policy sequence that it knows of.

    expires: the first moment at which any of the accepted metadata lapses, Unix seconds.
    """

    device: Device
    policy: SitePolicy
    seen: int
    time: TimeKnowledge
    expires: int

    @property
    def now(self) -> int | None:
        """Unix seconds for windows and bounds, as far as the policy lets a clock count."""
        return best_now(self.time, clock_counts=self.policy.clock == "machine")

    @property
    def fresh(self) -> bool:
        """The time is known and no metadata has lapsed."""
        return self.now is not None and self.now < self.expires


def policy_fault(question: Question) -> Refuse | None:
    """It is not for this device, or an old one."""
    device, policy, seen = question.device, question.policy, question.seen
    if policy.site != device.site:
        return Refuse("other-site", f"the policy is of site {policy.site}, this device belongs to {device.site}")
    if policy.product != device.product:
        return Refuse("policy-of-other-product", f"the policy is for {policy.product}, this is {device.product}")
    if policy.sequence < seen:
        return Refuse("replayed-policy", f"policy {policy.sequence} is older than policy {seen}, which was seen here")
    return None


def unconfirmed(device: Device) -> Wait | None:
    """A version on trial may be left again: nothing is built on it."""
    if device.confirmed:
        return None
    return Wait("unconfirmed", f"running version {device.version} is not confirmed yet", None)


def not_at_vendor(path: str) -> Wait:
    """The site names it, the vendor does not."""
    return Wait("not-at-vendor", f"the vendor's repository has no {path}", None)


def both_name_it(approval: Approval | None, named: Named) -> Refuse | None:
    """Vendor and site mean the same bytes."""
    if approval is None:
        return None
    if (named.path, named.sha256, named.length) != (approval.target, approval.sha256, approval.length):
        return Refuse(
            "differs-from-approval",
            f"{approval.target}: the site approved sha256 {approval.sha256} ({approval.length} bytes), "
            f"the vendor has sha256 {named.sha256} ({named.length} bytes)",
        )
    if named.version != approval.version:
        return Refuse("other-version", f"{approval.target} is version {named.version}, not {approval.version}")
    return None


def ring_is_due(question: Question, approval: Approval | None, what: str) -> Wait | None:
    """The approval is for a ring that the device is in."""
    if approval is None:
        return None
    device, due = question.device, approval.rings
    mine = rings_of(question.policy.rings, site=device.site, device=device.name, groups=device.groups)
    if not set(mine).isdisjoint(due):
        return None
    allowed, actual = ", ".join(due) or "no ring", f"in {', '.join(mine)}" if mine else "in no ring"
    return Wait("ring", f"{what} is for {allowed}; this device is {actual}", None)


def time_is_due(question: Question, approval: Approval | None, what: str) -> Wait | Refuse | None:
    """Windows, and the approval's bounds."""
    policy, now = question.policy, question.now
    windows = policy.windows if approval is None else approval.windows
    begin, end = (0, 0) if approval is None else (approval.not_before, approval.not_after)
    at_least = question.time.t_low if now is None else now
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


class Work(Protocol):
    """Something that was decided and takes its time."""

    @property
    def windows(self) -> Windows:
        """Of the approval, or of the policy that follows the vendor."""

    @property
    def offsets(self) -> Offsets:
        """Of the policy, as the two that follow."""

    @property
    def clock(self) -> Literal["machine", "none"]:
        """Whether the machine's clock counts."""

    @property
    def time_unknown(self) -> Literal["wait", "install"]:
        """What is done without a time."""


def may_go_on(work: Work, time: TimeKnowledge) -> bool:
    """Whether it may be worked on now: its maintenance window is open."""
    if not work.windows:
        return True
    now = best_now(time, clock_counts=work.clock == "machine")
    return work.time_unknown == "install" if now is None else is_open(work.windows, work.offsets, now)


def by_whom(question: Question, approval: Approval | None) -> str:
    """Who lets it in, and that it may be old."""
    policy = question.policy
    who = (
        f"as the vendor says (policy {policy.sequence})"
        if approval is None
        else f"approved by {', '.join(approval.approvers)} (ticket {approval.ticket}, policy {policy.sequence})"
    )
    return who + ("" if question.fresh else "; freshness unproven")


def rank(decision: Said, version: int) -> tuple[int, int, int]:
    """Of several answers the smallest counts: the highest that can be had now, else what comes nearest."""
    if isinstance(decision, Wait):
        return (1, 2**63 if decision.until is None else decision.until, -version)
    if isinstance(decision, Refuse):
        return (3 if decision.reason == "not-newer" else 2, 0, -version)
    return (3 if isinstance(decision, Hold | UpToDate) else 0, 0, -version)
