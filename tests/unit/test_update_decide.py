"""What a device decides: one row per case, with the fixed reason and the sentence of the audit log."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, get_args

import msgspec
import pytest

from appliance.formats.approval import Window
from appliance.formats.release import latest_path
from appliance.formats.update_state import Refused, Trial, UpdateState
from appliance.update.decide import Install, decide, targets_wanted
from appliance.update.reftime import FURTHEST_AHEAD_S, TimeKnowledge
from appliance.update.rules import Hold, Reason, Refuse, UpToDate, Wait
from builder.host.paths import source_root
from tests.support.update_site import (
    DEVICE,
    NOW,
    PRODUCT,
    approval_of,
    offer_of,
    policy_of,
    release,
    situation,
)

EIGHT = offer_of(release(8))
NINE = offer_of(release(9))
SEVEN = offer_of(release(7))
SIX = offer_of(release(6))
YES = approval_of(EIGHT)
LATEST = offer_of(release(8), latest_path(PRODUCT))
NIGHT = Window(start_min=22 * 60, minutes=360)  # opens 2026-07-01 20:00 UTC
OPENS = NOW + 10 * 3600
STATE = UpdateState(t_low=NOW - 3600, policy_sequence=11, security_epoch=3)
NO_CLOCK = TimeKnowledge(t_low=NOW - 3600, wall=None)
TEXT_8 = "approved by a.meyer, k.sato (ticket CHG-1001, policy 12)"
UNPROVEN = "; freshness unproven"


@dataclass(frozen=True)
class Row:
    """situation: what `decide` is given. until: of a Wait; installs: of an Install, the version."""

    name: str
    situation: Any
    kind: type
    reason: str
    sentence: str
    until: int | None = None
    installs: int | None = None


def yes(**changes: Any) -> Any:
    return approval_of(EIGHT, **changes)


def alone(**changes: Any) -> Any:
    """Only version 8 is approved; the approval changed."""
    return situation(policy_of(yes(**changes)), EIGHT)


def of_release(**changes: Any) -> Any:
    """Only a changed version 8 is there, and approved exactly so."""
    offer = offer_of(release(8, **changes))
    return situation(policy_of(approval_of(offer)), offer)


FELL = Refused(release=EIGHT.sha256, policy_sequence=12, reason="inference has no verdict")
TRIAL = Trial(
    transaction="0123456789abcdef",
    release=NINE.sha256,
    version=9,
    security_epoch=3,
    slot="b",
    step="staged",
    confirm="online",
)

ROWS = [
    Row("both name it", situation(policy_of(YES), EIGHT), Install, "approved", f"install version 8, {TEXT_8}", None, 8),
    Row(
        "the site follows its vendor",
        situation(policy_of(mode="follow-vendor"), LATEST),
        Install,
        "followed",
        "install version 8, as the vendor says (policy 12)",
        None,
        8,
    ),
    Row("no policy", situation(None, EIGHT), Hold, "no-policy", "the site has not said yet what may be installed"),
    Row("hold", situation(policy_of(YES, mode="hold"), EIGHT), Hold, "held", "the site holds label-check (policy 12)"),
    Row(
        "nothing approved",
        situation(policy_of(), EIGHT),
        Hold,
        "nothing-approved",
        "the site approves no version of label-check (policy 12)",
    ),
    Row(
        "only a model is approved",
        situation(policy_of(yes(target="models/label-orientation/8.json")), EIGHT),
        Hold,
        "nothing-approved",
        "the site approves no version of label-check (policy 12)",
    ),
    Row(
        "a policy for another site",
        situation(policy_of(YES, site="plant-5"), EIGHT),
        Refuse,
        "other-site",
        "the policy is of site plant-5, this device belongs to plant-4",
    ),
    Row(
        "a policy for another product",
        situation(policy_of(YES, product="label-print"), EIGHT),
        Refuse,
        "policy-of-other-product",
        "the policy is for label-print, this is label-check",
    ),
    Row(
        "a replayed policy",
        situation(policy_of(YES), EIGHT, state=msgspec.structs.replace(STATE, policy_sequence=13)),
        Refuse,
        "replayed-policy",
        "policy 12 is older than policy 13, which was seen here",
    ),
    Row(
        "the same policy again",
        situation(policy_of(YES), EIGHT, state=msgspec.structs.replace(STATE, policy_sequence=12)),
        Install,
        "approved",
        f"install version 8, {TEXT_8}",
        None,
        8,
    ),
    Row(
        "an update under way",
        situation(policy_of(YES), EIGHT, state=msgspec.structs.replace(STATE, trial=TRIAL)),
        Wait,
        "under-way",
        "version 9 is on its way",
    ),
    Row(
        "the running version is on trial itself",
        situation(policy_of(YES), EIGHT, device=replace(DEVICE, confirmed=False)),
        Wait,
        "unconfirmed",
        "running version 7 is not confirmed yet",
    ),
    Row(
        "the vendor does not have it",
        situation(policy_of(YES), NINE),
        Wait,
        "not-at-vendor",
        "the vendor's repository has no firmware/label-check/8.json",
    ),
    Row(
        "another hash",
        alone(sha256="ab" * 32),
        Refuse,
        "differs-from-approval",
        f"firmware/label-check/8.json: the site approved sha256 {'ab' * 32} ({EIGHT.length} bytes), "
        f"the vendor has sha256 {EIGHT.sha256} ({EIGHT.length} bytes)",
    ),
    Row(
        "another length",
        alone(length=EIGHT.length + 1),
        Refuse,
        "differs-from-approval",
        f"firmware/label-check/8.json: the site approved sha256 {EIGHT.sha256} ({EIGHT.length + 1} bytes), "
        f"the vendor has sha256 {EIGHT.sha256} ({EIGHT.length} bytes)",
    ),
    Row(
        "a path that lies about the version",
        situation(
            policy_of(approval_of(EIGHT, target="firmware/label-check/9.json", version=9)),
            replace(EIGHT, path="firmware/label-check/9.json"),
        ),
        Refuse,
        "other-version",
        "firmware/label-check/9.json is version 8, not 9",
    ),
    Row(
        "another product in the manifest",
        of_release(product="label-print"),
        Refuse,
        "other-product",
        "firmware/label-check/8.json is for product label-print, this is label-check",
    ),
    Row(
        "another architecture",
        of_release(architecture="x86_64"),
        Refuse,
        "other-architecture",
        "firmware/label-check/8.json is for x86_64, this is arm64",
    ),
    Row(
        "another profile",
        of_release(profile="smart-camera"),
        Refuse,
        "other-profile",
        "firmware/label-check/8.json is for profile smart-camera, this is npu-gateway",
    ),
    Row(
        "a development build on a release",
        of_release(development=True),
        Refuse,
        "development",
        "firmware/label-check/8.json is a development build, this device runs a release",
    ),
    Row(
        "what is running",
        situation(policy_of(approval_of(SEVEN)), SEVEN),
        UpToDate,
        "running",
        "version 7 is running",
    ),
    Row(
        "an older version",
        situation(policy_of(approval_of(SIX)), SIX),
        Refuse,
        "not-newer",
        "version 6 is below the running 7",
    ),
    Row(
        "an older version from the vendor itself",
        situation(policy_of(mode="follow-vendor"), offer_of(release(6), latest_path(PRODUCT))),
        Refuse,
        "not-newer",
        "version 6 is below the running 7",
    ),
    Row(
        "a security epoch below the persisted one",
        situation(policy_of(YES), EIGHT, state=msgspec.structs.replace(STATE, security_epoch=4)),
        Refuse,
        "epoch",
        "version 8 has security epoch 3, below 4",
    ),
    Row(
        "a security epoch below the TPM's",
        situation(policy_of(YES), EIGHT, device=replace(DEVICE, security_epoch=5)),
        Refuse,
        "epoch",
        "version 8 has security epoch 3, below 5",
    ),
    Row(
        "a version that needs another first",
        of_release(oldest=8),
        Refuse,
        "oldest",
        "version 8 needs version 8 first, 7 is running",
    ),
    Row(
        "a version that fell back",
        situation(policy_of(YES), EIGHT, state=msgspec.structs.replace(STATE, refused=(FELL,))),
        Refuse,
        "fell-back",
        "version 8 fell back here under policy 12: inference has no verdict",
    ),
    Row(
        "a version that fell back, under a newer policy with the old approval",
        situation(policy_of(YES, sequence=13), EIGHT, state=msgspec.structs.replace(STATE, refused=(FELL,))),
        Refuse,
        "fell-back",
        "version 8 fell back here under policy 12: inference has no verdict",
    ),
    Row(
        "a version that fell back, approved anew",
        situation(
            policy_of(yes(sequence=13), sequence=13), EIGHT, state=msgspec.structs.replace(STATE, refused=(FELL,))
        ),
        Install,
        "approved",
        "install version 8, approved by a.meyer, k.sato (ticket CHG-1001, policy 13)",
        None,
        8,
    ),
    Row(
        "the vendor's latest fell back",
        situation(policy_of(mode="follow-vendor"), LATEST, state=msgspec.structs.replace(STATE, refused=(FELL,))),
        Refuse,
        "fell-back",
        "version 8 fell back here under policy 12: inference has no verdict",
    ),
    Row(
        "another ring",
        alone(rings=("canary",)),
        Wait,
        "ring",
        "version 8 is for canary; this device is in hall, all",
    ),
    Row(
        "a device in no ring",
        situation(policy_of(yes(rings=("canary",)), rings=policy_of().rings[:1]), EIGHT),
        Wait,
        "ring",
        "version 8 is for canary; this device is in no ring",
    ),
    Row(
        "an approval for nobody", alone(rings=()), Wait, "ring", "version 8 is for no ring; this device is in hall, all"
    ),
    Row("the device's group", alone(rings=("hall",)), Install, "approved", f"install version 8, {TEXT_8}", None, 8),
    Row(
        "not yet",
        alone(not_before=NOW + 60),
        Wait,
        "not-before",
        f"version 8 may be installed from {NOW + 60} on",
        NOW + 60,
    ),
    Row("at not_before", alone(not_before=NOW), Install, "approved", f"install version 8, {TEXT_8}", None, 8),
    Row("at not_after", alone(not_after=NOW), Install, "approved", f"install version 8, {TEXT_8}", None, 8),
    Row("no longer", alone(not_after=NOW - 1), Refuse, "not-after", f"the approval of version 8 ended at {NOW - 1}"),
    Row(
        "outside the window",
        alone(windows=(NIGHT,)),
        Wait,
        "window",
        "version 8 waits for a maintenance window",
        OPENS,
    ),
    Row(
        "inside the window",
        situation(policy_of(yes(windows=(NIGHT,))), EIGHT, time=TimeKnowledge(NOW, OPENS)),
        Install,
        "approved",
        f"install version 8, {TEXT_8}",
        None,
        8,
    ),
    Row(
        "the vendor's latest outside the site's windows",
        situation(policy_of(mode="follow-vendor", windows=(NIGHT,)), LATEST),
        Wait,
        "window",
        "version 8 waits for a maintenance window",
        OPENS,
    ),
    Row(
        "a window, and no clock",
        situation(policy_of(yes(windows=(NIGHT,))), EIGHT, time=NO_CLOCK),
        Wait,
        "time-unknown",
        "version 8 is bound to a time, and this device does not know the time",
    ),
    Row(
        "an end, and a clock at 1970",
        situation(policy_of(yes(not_after=NOW + 60)), EIGHT, time=TimeKnowledge(NOW - 3600, 86_400)),
        Wait,
        "time-unknown",
        "version 8 is bound to a time, and this device does not know the time",
    ),
    Row(
        "a window, and a clock at 2100",
        situation(policy_of(yes(windows=(NIGHT,))), EIGHT, time=TimeKnowledge(NOW, NOW + FURTHEST_AHEAD_S + 1)),
        Wait,
        "time-unknown",
        "version 8 is bound to a time, and this device does not know the time",
    ),
    Row(
        "a window, and a site that trusts no device's clock",
        situation(policy_of(yes(windows=(NIGHT,)), clock="none"), EIGHT, time=TimeKnowledge(NOW, OPENS)),
        Wait,
        "time-unknown",
        "version 8 is bound to a time, and this device does not know the time",
    ),
    Row(
        "a window, no clock, and a site that says install",
        situation(policy_of(yes(windows=(NIGHT,)), time_unknown="install"), EIGHT, time=NO_CLOCK),
        Install,
        "approved",
        f"install version 8, {TEXT_8}{UNPROVEN}",
        None,
        8,
    ),
    Row(
        "no clock, but signatures say that it has begun",
        situation(policy_of(yes(not_before=NOW - 3600)), EIGHT, time=NO_CLOCK),
        Install,
        "approved",
        f"install version 8, {TEXT_8}{UNPROVEN}",
        None,
        8,
    ),
    Row(
        "no clock, and signatures do not say that it has begun",
        situation(policy_of(yes(not_before=NOW)), EIGHT, time=NO_CLOCK),
        Wait,
        "time-unknown",
        "version 8 is bound to a time, and this device does not know the time",
    ),
    Row(
        "no clock, but signatures say that it has ended",
        situation(policy_of(yes(not_after=NOW - 7200), time_unknown="install"), EIGHT, time=NO_CLOCK),
        Refuse,
        "not-after",
        f"the approval of version 8 ended at {NOW - 7200}",
    ),
    Row(
        "metadata that lapsed by the clock, not by T_low",
        situation(policy_of(YES), EIGHT, expires=NOW),
        Install,
        "approved",
        f"install version 8, {TEXT_8}{UNPROVEN}",
        None,
        8,
    ),
    Row(
        "two that could be installed",
        situation(policy_of(YES, approval_of(NINE)), EIGHT, NINE),
        Install,
        "approved",
        "install version 9, approved by a.meyer, k.sato (ticket CHG-1001, policy 12)",
        None,
        9,
    ),
    Row(
        "the higher one is for another ring",
        situation(policy_of(YES, approval_of(NINE, rings=("canary",))), EIGHT, NINE),
        Install,
        "approved",
        f"install version 8, {TEXT_8}",
        None,
        8,
    ),
    Row(
        "one waits for tonight, a higher one for its ring",
        situation(policy_of(yes(windows=(NIGHT,)), approval_of(NINE, rings=("canary",))), EIGHT, NINE),
        Wait,
        "window",
        "version 8 waits for a maintenance window",
        OPENS,
    ),
    Row(
        "one is running, an older one is still approved",
        situation(policy_of(approval_of(SEVEN), approval_of(SIX)), SEVEN, SIX),
        UpToDate,
        "running",
        "version 7 is running",
    ),
    Row(
        "one is running, a higher one differs",
        situation(policy_of(approval_of(SEVEN), yes(sha256="ab" * 32)), SEVEN, EIGHT),
        Refuse,
        "differs-from-approval",
        f"firmware/label-check/8.json: the site approved sha256 {'ab' * 32} ({EIGHT.length} bytes), "
        f"the vendor has sha256 {EIGHT.sha256} ({EIGHT.length} bytes)",
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_case(row: Row) -> None:
    decision = decide(row.situation)
    assert (type(decision), decision.reason, decision.sentence) == (row.kind, row.reason, row.sentence)
    assert getattr(decision, "until", None) == row.until
    assert (decision.offer.release.version if isinstance(decision, Install) else None) == row.installs


def test_every_reason_has_a_row() -> None:
    of_models_alone = {"stored", "other-model", "no-room"}
    assert {row.reason for row in ROWS} == set(get_args(Reason)) - of_models_alone


def test_what_an_install_says() -> None:
    decision = decide(situation(policy_of(YES, confirm="offline"), EIGHT, device=replace(DEVICE, slot="b")))
    assert isinstance(decision, Install)
    assert (decision.offer, decision.approval, decision.slot) == (EIGHT, YES, "a")
    assert (decision.confirm, decision.fresh) == ("offline", True)


def test_a_development_device_takes_development_builds() -> None:
    offer = offer_of(release(8, development=True))
    decision = decide(situation(policy_of(approval_of(offer)), offer, device=replace(DEVICE, development=True)))
    assert isinstance(decision, Install)


def test_which_targets_are_asked_for() -> None:
    assert targets_wanted(None) == ()
    assert targets_wanted(policy_of(YES, mode="hold")) == ()
    assert targets_wanted(policy_of(YES, mode="follow-vendor")) == ("firmware/label-check/latest.json",)
    model = yes(target="models/label-orientation/8.json")
    assert targets_wanted(policy_of(approval_of(NINE), YES, model)) == (
        "firmware/label-check/8.json",
        "firmware/label-check/9.json",
    )


def test_the_spec_names_every_reason() -> None:
    page = (source_root() / "docs/specs/approval.md").read_text()
    table = page[page.index("| outcome | reasons |") :].split("\n\n")[0]
    assert set(re.findall(r"`([a-z-]+)`", table)) == set(get_args(Reason))
