"""A device, a release and a site's policy that fit each other, for tests of the update's decisions and formats."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from appliance.formats.approval import Approval, Ring, SitePolicy, UtcOffset
from appliance.formats.release import Content, Delta, Release, Root, encode_release, release_path
from appliance.formats.update_state import UpdateState
from appliance.update.decide import Offer, Situation
from appliance.update.reftime import TimeKnowledge
from appliance.update.rules import Device

PRODUCT = "label-check"
SITE = "plant-4"
NOW = 1_782_900_000  # Wednesday 2026-07-01 10:00 UTC
WINTER, SUMMER, WINTER_AGAIN = 0, 1_774_746_000, 1_792_890_000
BERLIN = (
    UtcOffset(since=WINTER, seconds=3600),
    UtcOffset(since=SUMMER, seconds=7200),
    UtcOffset(since=WINTER_AGAIN, seconds=3600),
)

DEVICE = Device(
    site=SITE,
    name="press-7",  # percentile 65
    groups=("hall-2",),
    product=PRODUCT,
    profile="npu-gateway",
    architecture="arm64",
    version=7,
    security_epoch=3,
    development=False,
    slot="a",
    confirmed=True,
)


def content(name: str) -> Content:
    """A content file of that name."""
    return Content(sha256=hashlib.sha256(name.encode()).hexdigest(), size=len(name))


def release(version: int = 8, **changes: Any) -> Release:
    """A release that DEVICE may install."""
    made = Release(
        product=PRODUCT,
        profile="npu-gateway",
        architecture="arm64",
        version=version,
        security_epoch=3,
        built=NOW - 10 * 86_400,
        development=False,
        root=Root(
            size=4096 * 16,
            hash_size=4096 * 2,
            root_hash="11" * 32,
            salt="22" * 32,
            uuid="2d6c1bd2-5a0c-4b9f-9d2e-6a6d0a5d7f10",
        ),
        delta=Delta(
            groups=content(f"groups {version}"),
            leaves=content(f"leaves {version}"),
            frames=content(f"frames {version}"),
        ),
        uki=content(f"uki {version}"),
    )
    return msgspec.structs.replace(made, **changes)


def offer_of(one: Release, path: str | None = None) -> Offer:
    """As the vendor's metadata names it."""
    data = encode_release(one)
    return Offer(
        path=release_path(PRODUCT, one.version) if path is None else path,
        length=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        release=one,
    )


def approval_of(offer: Offer, **changes: Any) -> Approval:
    """For the ring `all`, from policy 12 on."""
    made = Approval(
        sequence=12,
        target=release_path(PRODUCT, offer.release.version),
        sha256=offer.sha256,
        length=offer.length,
        version=offer.release.version,
        rings=("all",),
        ticket="CHG-1001",
        approvers=("a.meyer", "k.sato"),
    )
    return msgspec.structs.replace(made, **changes)


def policy_of(*approvals: Approval, **changes: Any) -> SitePolicy:
    """Policy 12 of plant-4 with the rings canary (press-1), hall (group hall-2) and all."""
    made = SitePolicy(
        site=SITE,
        product=PRODUCT,
        sequence=12,
        signed_at=NOW - 3600,
        mode="approve",
        timezone="Europe/Berlin",
        offsets=BERLIN,
        rings=(
            Ring(name="canary", devices=("press-1",)),
            Ring(name="hall", groups=("hall-2",)),
            Ring(name="all", percent=100),
        ),
        approvals=approvals,
    )
    return msgspec.structs.replace(made, **changes)


def situation(policy: SitePolicy | None, *offers: Offer, **changes: Any) -> Situation:
    """DEVICE at NOW, with a clock that is right and metadata that is fresh."""
    made: dict[str, Any] = {
        "device": DEVICE,
        "state": UpdateState(t_low=NOW - 3600, policy_sequence=11, security_epoch=3),
        "policy": policy,
        "offers": {offer.path: offer for offer in offers},
        "time": TimeKnowledge(t_low=NOW - 3600, wall=NOW),
        "expires": NOW + 86_400,
    }
    return Situation(**(made | changes))
