"""Decisions: never without both signatures, never down, never during a hold, and not by the order of a list."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import msgspec
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from appliance.formats.approval import WEEKDAYS, Approval, SitePolicy, Window
from appliance.formats.release import Release, latest_path
from appliance.formats.update_state import Refused, UpdateState
from appliance.update.decide import Install, Offer, Situation, decide
from appliance.update.reftime import TimeKnowledge, best_now
from appliance.update.ring import rings_of
from appliance.update.rules import Hold
from appliance.update.window import is_open, next_close
from tests.support.update_site import DEVICE, NOW, PRODUCT, approval_of, offer_of, policy_of, release

TIMES = st.integers(NOW - 40 * 86_400, NOW + 40 * 86_400)
INSTALLED = settings(suppress_health_check=[HealthCheck.filter_too_much])
"""For what is said of situations that lead to an update: most do not, and the share of those that do varies."""

RARE = st.sampled_from([False] * 9 + [True])
SELDOM = st.sampled_from([False] * 3 + [True])
WINDOWS = st.builds(
    Window,
    days=st.lists(st.sampled_from(WEEKDAYS), max_size=3, unique=True).map(tuple),
    start_min=st.integers(0, 1439),
    minutes=st.integers(1, 2880),
)
MANY = st.one_of(st.just(()), st.lists(WINDOWS, max_size=2).map(tuple))


@functools.cache
def made(version: int, **changes: Any) -> Release:
    """Made once: many examples need the same."""
    return release(version, **changes)


@functools.cache
def offered(one: Release, path: str | None = None) -> Offer:
    """Likewise."""
    return offer_of(one, path)


@st.composite
def releases(draw: st.DrawFn, version: int) -> Any:
    """Mostly what the device may install."""
    return made(
        version,
        security_epoch=draw(st.sampled_from([3, 3, 4, 2])),
        oldest=draw(st.integers(1, version)) if draw(RARE) else 1,
        development=draw(RARE),
        architecture="x86_64" if draw(RARE) else "arm64",
    )


@st.composite
def approvals_for(draw: st.DrawFn, offer: Offer) -> Approval:
    """Mostly right."""
    begin = draw(TIMES) if draw(SELDOM) else 0
    end = draw(TIMES) if draw(SELDOM) else 0
    return approval_of(
        offer,
        sequence=draw(st.integers(1, 12)),
        sha256="ab" * 32 if draw(RARE) else offer.sha256,
        length=offer.length + draw(RARE),
        rings=draw(st.sampled_from([("all",), ("canary", "hall"), ("canary",), ()])),
        windows=draw(MANY),
        not_before=begin,
        not_after=end if end >= begin else 0,
    )


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    """Any: versions 6 to 9 at the vendor, some of them approved, some of these wrongly."""
    offers = [offered(draw(releases(version))) for version in range(6, 10) if not draw(RARE)]
    latest = offered(draw(releases(draw(st.integers(6, 9)))), latest_path(PRODUCT))
    approvals = [draw(approvals_for(offer)) for offer in offers if not draw(SELDOM)]
    refused = tuple(
        Refused(release=offer.sha256, policy_sequence=draw(st.integers(1, 13)), reason="no verdict")
        for offer in offers
        if draw(RARE)
    )
    low = draw(TIMES)
    return Situation(
        device=replace(DEVICE, version=draw(st.integers(5, 8)), slot=draw(st.sampled_from(["a", "b"]))),
        state=UpdateState(
            t_low=low,
            policy_sequence=draw(st.sampled_from([11, 12, 11, 12, 13])),
            security_epoch=draw(st.sampled_from([2, 3, 4])),
            refused=refused,
        ),
        policy=policy_of(
            *approvals,
            mode=draw(st.sampled_from(["approve", "approve", "approve", "follow-vendor"])),
            clock=draw(st.sampled_from(["machine", "machine", "none"])),
            time_unknown=draw(st.sampled_from(["install", "wait"])),
            windows=draw(MANY),
        ),
        offers={offer.path: offer for offer in [*offers, latest]},
        time=TimeKnowledge(low, draw(st.one_of(st.none(), TIMES, st.integers(low, low + 86_400)))),
        expires=draw(TIMES),
    )


def install(one: Situation) -> Install:
    """The decision, where it is to install."""
    decision = decide(one)
    assume(isinstance(decision, Install))
    assert isinstance(decision, Install)
    return decision


@INSTALLED
@given(situations())
def test_what_is_installed_may_be(one: Situation) -> None:
    """Both name it, nothing falls, the policy is the newest, the ring and the time are right."""
    decision, policy = install(one), one.policy
    assert policy is not None
    assert policy.sequence >= one.state.policy_sequence
    assert one.offers[decision.offer.path] is decision.offer, "the vendor names it"
    _nothing_falls(one, decision)
    if policy.mode == "follow-vendor":
        assert decision.offer.path == latest_path(PRODUCT)
        assert decision.approval is None
    else:
        assert policy.mode == "approve"
        _site_names_it(policy, decision)
    _time_is_right(one, policy, decision)


def _nothing_falls(one: Situation, decision: Install) -> None:
    found = decision.offer.release
    assert found.version > one.device.version >= found.oldest
    assert found.security_epoch >= max(one.state.security_epoch, one.device.security_epoch)
    assert not found.development
    assert found.architecture == one.device.architecture
    assert decision.slot != one.device.slot


def _site_names_it(policy: SitePolicy, decision: Install) -> None:
    approval, offer = decision.approval, decision.offer
    assert approval in policy.approvals
    assert approval is not None
    assert (approval.target, approval.sha256, approval.length) == (offer.path, offer.sha256, offer.length)
    assert {"hall", "all"} & set(approval.rings), "press-7 is in these two"
    assert set(rings_of(policy.rings, site=policy.site, device="press-7", groups=("hall-2",))) == {"hall", "all"}


def _time_is_right(one: Situation, policy: SitePolicy, decision: Install) -> None:
    now = best_now(one.time, clock_counts=policy.clock == "machine")
    windows = policy.windows if decision.approval is None else decision.approval.windows
    if now is None:
        assert policy.time_unknown == "install" or not windows
        return
    assert is_open(windows, policy.offsets, now)
    if decision.approval is not None:
        assert decision.approval.not_before <= now
        assert not decision.approval.not_after or now <= decision.approval.not_after


@given(situations())
def test_a_hold_holds(one: Situation) -> None:
    assert one.policy is not None
    held = replace(one, policy=msgspec.structs.replace(one.policy, mode="hold"))
    decision = decide(held)
    assert not isinstance(decision, Install)
    assert isinstance(decision, Hold) or decision.reason == "replayed-policy"


@given(situations(), st.data())
def test_the_order_of_approvals_and_rings_does_not_matter(one: Situation, data: st.DataObject) -> None:
    policy = one.policy
    assert policy is not None
    shuffled = msgspec.structs.replace(
        policy,
        approvals=tuple(data.draw(st.permutations(policy.approvals))),
        windows=tuple(data.draw(st.permutations(policy.windows))),
    )
    assert decide(replace(one, policy=shuffled)) == decide(one)


@INSTALLED
@given(situations(), st.integers(0, 86_400), st.data())
def test_later_in_the_same_window_the_same_or_a_higher_version(one: Situation, ahead: int, data: st.DataObject) -> None:
    assert one.policy is not None
    policy = msgspec.structs.replace(one.policy, clock="machine")
    now = one.time.t_low + ahead
    one = replace(one, policy=policy, time=TimeKnowledge(one.time.t_low, now))
    decision = install(one)
    windows = policy.windows if decision.approval is None else decision.approval.windows
    end = 0 if decision.approval is None else decision.approval.not_after
    closes = next_close(windows, policy.offsets, now)
    last = min(at for at in (now + 10 * 86_400, end or now + 10 * 86_400, (closes or now + 10**9) - 1))
    later = data.draw(st.integers(now, last))
    again = decide(replace(one, time=TimeKnowledge(one.time.t_low, later)))
    assert isinstance(again, Install)
    assert again.offer.release.version >= decision.offer.release.version


@INSTALLED
@given(situations(), st.one_of(st.none(), st.integers(0, 2**40)))
def test_no_clock_opens_what_signatures_closed(one: Situation, wall: int | None) -> None:
    """Whatever the machine's clock says, what is installed is newer, named by both, and of no older policy."""
    decision = install(replace(one, time=TimeKnowledge(one.time.t_low, wall)))
    assert one.policy is not None
    assert one.policy.sequence >= one.state.policy_sequence
    assert decision.offer.release.version > one.device.version
    if decision.approval is not None and decision.approval.not_after:
        assert one.time.t_low <= decision.approval.not_after
