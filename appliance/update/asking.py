"""Ask both repositories once: what the site says, and of that what the vendor has. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from appliance.core.errors import DecodeError
from appliance.formats.approval import MAX_APPROVALS_BYTES, SitePolicy, decode_policy, policy_path
from appliance.formats.release import MAX_RELEASE_BYTES, decode_release
from appliance.update.client import Freshness, TargetInfo
from appliance.update.decide import Offer, targets_wanted
from appliance.update.reftime import raise_mark


class Repository(Protocol):
    """What is used of a TrustedRepository."""

    def refresh(self, reference_time: int) -> Freshness:
        """See TrustedRepository."""

    def target(self, path: str) -> TargetInfo | None:
        """See TrustedRepository."""

    def fetch(self, target: TargetInfo, *, at_most: int) -> bytes:
        """See TrustedRepository."""


@dataclass(frozen=True)
class Answers:
    """policy: None when the site has none for this product. offers: by target path. manifests: their bytes, likewise.

    t_low: raised by what was accepted. expires: when the first of the accepted metadata lapses, Unix seconds.
    unreadable: sentences about signed targets that this version does not understand; they are left out of `offers`.
    """

    policy: SitePolicy | None
    offers: Mapping[str, Offer]
    manifests: Mapping[str, bytes]
    t_low: int
    expires: int
    unreadable: tuple[str, ...]


def ask(vendor: Repository, site: Repository, *, product: str, t_low: int) -> Answers:
    """The site first: its time may show that the vendor's metadata is stale.

    Raises RefusedError, TransportError as TrustedRepository does; DecodeError for a policy of a form that is unknown.
    """
    expires = site.refresh(t_low).expires
    policy = _policy(site, product)
    mark = t_low if policy is None else raise_mark(t_low, policy.signed_at)
    expires = min(expires, vendor.refresh(mark).expires)
    offers: dict[str, Offer] = {}
    manifests: dict[str, bytes] = {}
    unreadable = []
    for path in targets_wanted(policy):
        target = vendor.target(path)
        if target is None:
            continue
        manifest = vendor.fetch(target, at_most=MAX_RELEASE_BYTES)
        try:
            release = decode_release(manifest)
        except DecodeError as error:  # signed, but made for a later updater: the others still count
            unreadable.append(f"{path}: {error}")
            continue
        offers[path] = Offer(path=path, length=target.length, sha256=target.sha256, release=release)
        manifests[path] = manifest
    mark = raise_mark(mark, *(offer.release.built for offer in offers.values()))
    return Answers(policy, offers, manifests, mark, expires, tuple(unreadable))


def _policy(site: Repository, product: str) -> SitePolicy | None:
    target = site.target(policy_path(product))
    return None if target is None else decode_policy(site.fetch(target, at_most=MAX_APPROVALS_BYTES))
