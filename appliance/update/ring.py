"""Who belongs to a ring. Spec: docs/specs/approval.md."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from appliance.formats.approval import Ring


def percentile(site: str, device: str) -> int:
    """0 to 99, for ever the same for a device of a site, and the same on every machine."""
    return int.from_bytes(hashlib.sha256(f"{site}/{device}".encode()).digest()[:8], "big") % 100


def in_ring(ring: Ring, *, site: str, device: str, groups: Iterable[str]) -> bool:
    """device: the site's name of it. groups: those that the site put it into."""
    if device in ring.devices or not set(groups).isdisjoint(ring.groups):
        return True
    return percentile(site, device) < ring.percent


def rings_of(rings: Iterable[Ring], *, site: str, device: str, groups: Iterable[str]) -> tuple[str, ...]:
    """The names of the rings that the device is in, in their order."""
    known = tuple(groups)
    return tuple(ring.name for ring in rings if in_ring(ring, site=site, device=device, groups=known))
