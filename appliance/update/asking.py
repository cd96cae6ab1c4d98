"""Ask both repositories: what the site says, and of that what the vendor has. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from appliance.core.errors import DecodeError
from appliance.formats.approval import MAX_APPROVALS_BYTES, SitePolicy, decode_policy, policy_path
from appliance.formats.model_release import MAX_MODEL_RELEASE_BYTES, decode_model_release
from appliance.formats.release import MAX_RELEASE_BYTES, decode_release
from appliance.update.client import Freshness, TargetInfo
from appliance.update.decide import Offer, targets_wanted
from appliance.update.decide_model import ModelOffer, models_wanted
from appliance.update.reftime import raise_mark

Manifest = TypeVar("Manifest")


class Repository(Protocol):
    """What is used of a TrustedRepository."""

    def refresh(self, reference_time: int) -> Freshness:
        """See TrustedRepository."""

    def target(self, path: str) -> TargetInfo | None:
        """See TrustedRepository."""

    def fetch(self, target: TargetInfo, *, at_most: int) -> bytes:
        """See TrustedRepository."""


@dataclass(frozen=True)
class Word:
    """What the site says, after both repositories were refreshed. policy: None when it has none for this product.

    t_low: raised by the policy. expires: when the first of the accepted metadata lapses, Unix seconds.
    """

    policy: SitePolicy | None
    t_low: int
    expires: int


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


@dataclass(frozen=True)
class ModelAnswers:
    """Of one model, as in Answers. No time in it: who signs a model says nothing about when that was."""

    offers: Mapping[str, ModelOffer]
    manifests: Mapping[str, bytes]
    unreadable: tuple[str, ...]


def meet(vendor: Repository, site: Repository, *, product: str, t_low: int) -> Word:
    """The site first: its time may show that the vendor's metadata is stale.

    Raises RefusedError, TransportError as TrustedRepository does; DecodeError for a policy of a form that is unknown.
    """
    expires = site.refresh(t_low).expires
    policy = _policy(site, product)
    mark = t_low if policy is None else raise_mark(t_low, policy.signed_at)
    return Word(policy, mark, min(expires, vendor.refresh(mark).expires))


def ask(vendor: Repository, site: Repository, *, product: str, t_low: int) -> Answers:
    """About firmware. Raises as `meet` and `ask_vendor` do."""
    return ask_vendor(vendor, meet(vendor, site, product=product, t_low=t_low))


def ask_vendor(vendor: Repository, word: Word) -> Answers:
    """What the vendor has of the firmware that the site names. Raises RefusedError, TransportError."""
    found, unreadable = _read(vendor, targets_wanted(word.policy), decode_release, at_most=MAX_RELEASE_BYTES)
    offers = {
        target.path: Offer(path=target.path, length=target.length, sha256=target.sha256, release=release)
        for target, _, release in found
    }
    mark = raise_mark(word.t_low, *(offer.release.built for offer in offers.values()))
    manifests = {target.path: data for target, data, _ in found}
    return Answers(word.policy, offers, manifests, mark, word.expires, unreadable)


def ask_model(vendor: Repository, word: Word, name: str) -> ModelAnswers:
    """What the vendor has of one model that the site names. Raises RefusedError, TransportError."""
    paths = models_wanted(word.policy, name)
    found, unreadable = _read(vendor, paths, decode_model_release, at_most=MAX_MODEL_RELEASE_BYTES)
    offers = {
        target.path: ModelOffer(path=target.path, length=target.length, sha256=target.sha256, release=release)
        for target, _, release in found
    }
    return ModelAnswers(offers, {target.path: data for target, data, _ in found}, unreadable)


def _read(
    vendor: Repository, paths: Sequence[str], decode: Callable[[bytes], Manifest], *, at_most: int
) -> tuple[list[tuple[TargetInfo, bytes, Manifest]], tuple[str, ...]]:
    """Those of `paths` that the vendor has; and sentences about those that are signed and not understood."""
    found, unreadable = [], []
    for target in _named(vendor, paths):
        data = vendor.fetch(target, at_most=at_most)
        try:
            found.append((target, data, decode(data)))
        except DecodeError as error:  # signed, but made for a later updater: the others still count
            unreadable.append(f"{target.path}: {error}")
    return found, tuple(unreadable)


def _named(vendor: Repository, paths: Sequence[str]) -> Iterator[TargetInfo]:
    for path in paths:
        target = vendor.target(path)
        if target is not None:
            yield target


def _policy(site: Repository, product: str) -> SitePolicy | None:
    target = site.target(policy_path(product))
    return None if target is None else decode_policy(site.fetch(target, at_most=MAX_APPROVALS_BYTES))
