"""What a device decides about a model: one row per case, with the fixed reason and the sentence of the audit log."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.formats.approval import Approval, Window
from appliance.formats.model_card import ModelCard
from appliance.formats.model_release import (
    ModelRelease,
    RunsOn,
    encode_model_release,
    latest_model_path,
    model_path,
)
from appliance.formats.model_store import StoredModel
from appliance.formats.release import Content
from appliance.update.decide_model import Fetch, ModelOffer, ModelSituation, decide_model, models_wanted
from appliance.update.reftime import FURTHEST_AHEAD_S, TimeKnowledge
from appliance.update.rules import Hold, Reason, Refuse, UpToDate, Wait
from tests.support.update_site import DEVICE, NOW, PRODUCT, policy_of

NAME = "labels"
ROOM = 10_000
NIGHT = Window(start_min=22 * 60, minutes=360)  # opens 2026-07-01 20:00 UTC
OPENS = NOW + 10 * 3600
NO_CLOCK = TimeKnowledge(t_low=NOW - 3600, wall=None)


def model(version: int = 3, **changes: Any) -> ModelRelease:
    content = Content(sha256=hashlib.sha256(f"{version}".encode()).hexdigest(), size=5000)
    card = ModelCard(
        name=NAME,
        sha256=content.sha256,
        bytes=content.size,
        labels=("a", "b"),
        input_name="x",
        source="x",
        licence="MIT",
    )
    made = ModelRelease(
        model=NAME,
        version=version,
        development=False,
        built=NOW,
        products=(RunsOn(product=PRODUCT, oldest=7),),
        onnx=content,
        card=card,
    )
    return msgspec.structs.replace(made, **changes)


def offer(release: ModelRelease, path: str | None = None) -> ModelOffer:
    data = encode_model_release(release)
    place = path or model_path(NAME, release.version)
    return ModelOffer(path=place, length=len(data), sha256=hashlib.sha256(data).hexdigest(), release=release)


THREE, FOUR = offer(model(3)), offer(model(4))
LATEST = offer(model(3), latest_model_path(NAME))


def yes(found: ModelOffer = THREE, **changes: Any) -> Approval:
    made = Approval(
        sequence=12,
        target=found.path,
        sha256=found.sha256,
        length=found.length,
        version=found.release.version,
        rings=("all",),
        ticket="CHG-7",
        approvers=("a.meyer", "k.sato"),
    )
    return msgspec.structs.replace(made, **changes)


def situation(policy: Any, *offers: ModelOffer, **changes: Any) -> ModelSituation:
    made = ModelSituation(
        device=DEVICE,
        name=NAME,
        have=None,
        room=ROOM,
        policy=policy,
        seen=11,
        offers={each.path: each for each in offers},
        time=TimeKnowledge(t_low=NOW - 3600, wall=NOW),
        expires=NOW + 86_400,
    )
    return replace(made, **changes)


def alone(**changes: Any) -> ModelSituation:
    """Only version 3 is approved; the approval changed."""
    return situation(policy_of(yes(**changes)), THREE)


def of_model(**changes: Any) -> ModelSituation:
    """Only a changed version 3 is there, and approved exactly so."""
    found = offer(model(3, **changes))
    return situation(policy_of(yes(found)), found)


def have(version: int, found: ModelOffer = THREE) -> StoredModel:
    return StoredModel(version=version, release=found.sha256, policy_sequence=9)


BOTH = policy_of(yes(), yes(FOUR))
GOOD = situation(policy_of(yes()), THREE)
WHAT = f"version 3 of model {NAME}"
BY = "approved by a.meyer, k.sato (ticket CHG-7, policy 12)"
OTHER = offer(model(3, built=0))
NEEDS = f"{THREE.bytes} bytes"


@dataclass(frozen=True)
class Row:
    """until: of a Wait; fetches: of a Fetch, the version."""

    name: str
    given: ModelSituation
    kind: type
    reason: str
    sentence: str
    until: int | None = None
    fetches: int | None = None


ROWS = [
    Row("both name it", GOOD, Fetch, "approved", f"fetch {WHAT}, {BY}", None, 3),
    Row(
        "the site follows its vendor",
        situation(policy_of(mode="follow-vendor"), LATEST),
        Fetch,
        "followed",
        f"fetch {WHAT}, as the vendor says (policy 12)",
        None,
        3,
    ),
    Row(
        "the higher of two",
        situation(BOTH, THREE, FOUR),
        Fetch,
        "approved",
        f"fetch {WHAT.replace('3', '4')}, {BY}",
        None,
        4,
    ),
    Row("the higher is not there", situation(BOTH, THREE), Fetch, "approved", f"fetch {WHAT}, {BY}", None, 3),
    Row("no policy", replace(GOOD, policy=None), Hold, "no-policy", "the site has not said yet what may be installed"),
    Row("hold", situation(policy_of(yes(), mode="hold"), THREE), Hold, "held", f"the site holds {PRODUCT} (policy 12)"),
    Row(
        "nothing approved",
        situation(policy_of(), THREE),
        Hold,
        "nothing-approved",
        f"the site approves no version of model {NAME} for {PRODUCT} (policy 12)",
    ),
    Row(
        "only firmware of that version is approved",
        situation(policy_of(yes(target=f"firmware/{PRODUCT}/3.json")), THREE),
        Hold,
        "nothing-approved",
        f"the site approves no version of model {NAME} for {PRODUCT} (policy 12)",
    ),
    Row(
        "only a model whose name begins so is approved",
        situation(policy_of(yes(target=f"models/{NAME}-two/3.json")), THREE),
        Hold,
        "nothing-approved",
        f"the site approves no version of model {NAME} for {PRODUCT} (policy 12)",
    ),
    Row(
        "a policy for another site",
        situation(policy_of(yes(), site="plant-5"), THREE),
        Refuse,
        "other-site",
        "the policy is of site plant-5, this device belongs to plant-4",
    ),
    Row(
        "a policy for another product",
        situation(policy_of(yes(), product="label-print"), THREE),
        Refuse,
        "policy-of-other-product",
        f"the policy is for label-print, this is {PRODUCT}",
    ),
    Row(
        "a replayed policy",
        replace(GOOD, seen=13),
        Refuse,
        "replayed-policy",
        "policy 12 is older than policy 13, which was seen here",
    ),
    Row(
        "firmware on trial",
        replace(GOOD, device=replace(DEVICE, confirmed=False)),
        Wait,
        "unconfirmed",
        "running version 7 is not confirmed yet",
    ),
    Row(
        "not at the vendor",
        situation(policy_of(yes())),
        Wait,
        "not-at-vendor",
        f"the vendor's repository has no models/{NAME}/3.json",
    ),
    Row(
        "other bytes",
        alone(sha256="ab" * 32),
        Refuse,
        "differs-from-approval",
        f"models/{NAME}/3.json: the site approved sha256 {'ab' * 32} ({THREE.length} bytes), "
        f"the vendor has sha256 {THREE.sha256} ({THREE.length} bytes)",
    ),
    Row(
        "another length",
        alone(length=1),
        Refuse,
        "differs-from-approval",
        f"models/{NAME}/3.json: the site approved sha256 {THREE.sha256} (1 bytes), "
        f"the vendor has sha256 {THREE.sha256} ({THREE.length} bytes)",
    ),
    Row(
        "another version under the path",
        situation(policy_of(yes(offer(model(5), THREE.path), version=3)), offer(model(5), THREE.path)),
        Refuse,
        "other-version",
        f"models/{NAME}/3.json is version 5, not 3",
    ),
    Row(
        "another model under the path",
        replace(
            of_model(model="doors", card=msgspec.structs.replace(model().card, name="doors")),
        ),
        Refuse,
        "other-model",
        f"models/{NAME}/3.json is model doors, not {NAME}",
    ),
    Row(
        "for another product",
        of_model(products=(RunsOn(product="a"), RunsOn(product="b"))),
        Refuse,
        "other-product",
        f"models/{NAME}/3.json is for product a, b, this is {PRODUCT}",
    ),
    Row(
        "published with development keys",
        of_model(development=True),
        Refuse,
        "development",
        f"models/{NAME}/3.json was published with development keys, this device runs a release",
    ),
    Row(
        "the same on a development device",
        replace(of_model(development=True), device=replace(DEVICE, development=True)),
        Fetch,
        "approved",
        f"fetch {WHAT}, {BY}",
        None,
        3,
    ),
    Row("it is here", replace(GOOD, have=have(3)), UpToDate, "stored", f"{WHAT} is here"),
    Row(
        "it is here with other bytes",
        replace(GOOD, have=have(3, OTHER)),
        Refuse,
        "not-newer",
        f"{WHAT} is here already, with other bytes",
    ),
    Row("a newer one is here", replace(GOOD, have=have(4)), Refuse, "not-newer", f"{WHAT} is below 4, which is here"),
    Row(
        "needs newer firmware",
        of_model(products=(RunsOn(product=PRODUCT, oldest=8),)),
        Refuse,
        "oldest",
        f"{WHAT} needs version 8 of {PRODUCT} first, 7 is running",
    ),
    Row(
        "another ring",
        situation(policy_of(yes(rings=("canary",))), THREE),
        Wait,
        "ring",
        f"{WHAT} is for canary; this device is in hall, all",
    ),
    Row(
        "no room",
        replace(GOOD, room=THREE.bytes - 1),
        Refuse,
        "no-room",
        f"{WHAT} needs {NEEDS}, {THREE.bytes - 1} are left for it",
    ),
    Row("just enough room", replace(GOOD, room=THREE.bytes), Fetch, "approved", f"fetch {WHAT}, {BY}", None, 3),
    Row(
        "the window is closed", alone(windows=(NIGHT,)), Wait, "window", f"{WHAT} waits for a maintenance window", OPENS
    ),
    Row(
        "too early",
        alone(not_before=NOW + 60),
        Wait,
        "not-before",
        f"{WHAT} may be installed from {NOW + 60} on",
        NOW + 60,
    ),
    Row("too late", alone(not_after=NOW - 1), Refuse, "not-after", f"the approval of {WHAT} ended at {NOW - 1}"),
    Row(
        "no clock, and a window",
        replace(alone(windows=(NIGHT,)), time=NO_CLOCK),
        Wait,
        "time-unknown",
        f"{WHAT} is bound to a time, and this device does not know the time",
    ),
    Row(
        "no clock, and nothing bound to a time",
        replace(GOOD, time=NO_CLOCK),
        Fetch,
        "approved",
        f"fetch {WHAT}, {BY}; freshness unproven",
        None,
        3,
    ),
    Row(
        "metadata that may have lapsed",
        replace(GOOD, expires=NOW),
        Fetch,
        "approved",
        f"fetch {WHAT}, {BY}; freshness unproven",
        None,
        3,
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_decisions(row: Row) -> None:
    decision = decide_model(row.given)
    assert (type(decision), decision.reason, decision.sentence) == (row.kind, row.reason, row.sentence)
    if isinstance(decision, Wait):
        assert decision.until == row.until
    if isinstance(decision, Fetch):
        assert decision.offer.release.version == row.fetches


def test_every_reason_has_a_row() -> None:
    of_firmware_alone = {"under-way", "running", "epoch", "fell-back", "other-profile", "other-architecture"}
    assert {row.reason for row in ROWS} == set(get_args(Reason)) - of_firmware_alone


def test_what_is_asked_of_the_vendor() -> None:
    firmware = yes(target=f"firmware/{PRODUCT}/3.json")
    assert models_wanted(None, NAME) == ()
    assert models_wanted(policy_of(yes(), mode="hold"), NAME) == ()
    assert models_wanted(policy_of(mode="follow-vendor"), NAME) == (f"models/{NAME}/latest.json",)
    assert models_wanted(policy_of(yes(FOUR), yes(), firmware), NAME) == (
        f"models/{NAME}/3.json",
        f"models/{NAME}/4.json",
    )
    assert models_wanted(policy_of(yes()), "doors") == ()


@given(
    versions=st.sets(st.integers(1, 20), max_size=5),
    here=st.integers(0, 20),
    rings=st.lists(st.sampled_from(["all", "canary"]), min_size=5, max_size=5),
    wall=st.none() | st.integers(0, NOW + 2 * FURTHEST_AHEAD_S),
    room=st.integers(0, 12_000),
)
def test_what_is_fetched_is_always_higher_named_by_both_and_fits(
    versions: set[int], here: int, rings: list[str], wall: int | None, room: int
) -> None:
    offers = [offer(model(version)) for version in sorted(versions)]
    approvals = [yes(each, rings=(ring,)) for each, ring in zip(offers, rings, strict=False)]
    given_ = situation(
        policy_of(*approvals),
        *offers,
        have=have(here) if here else None,
        time=TimeKnowledge(NOW - 3600, wall),
        room=room,
    )
    decision = decide_model(given_)
    assert decide_model(given_) == decision
    fits = [
        each.release.version
        for each, ring in zip(offers, rings, strict=False)
        if ring == "all" and each.release.version > here and each.bytes <= room
    ]
    assert isinstance(decision, Fetch) == bool(fits)
    if isinstance(decision, Fetch):
        assert decision.offer.release.version == max(fits)
