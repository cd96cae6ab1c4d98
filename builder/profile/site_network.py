"""The site's file in YAML, for people: read, held against a profile's policy, and made the device's credential."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from appliance.core.errors import InputError, Place
from appliance.formats.network_policy import NetworkPolicy
from appliance.formats.site_network import SiteNetwork, slot_faults
from builder.profile.document import decode_document
from builder.profile.problem import Finding, Problem, ProfileError, did_you_mean
from builder.profile.rules import finding
from builder.profile.shape import shape_findings


def load_site_network(path: Path, policy: NetworkPolicy) -> SiteNetwork:
    """The site's file at `path`, which fits the slots of `policy`. Raises InputError, with every problem of it."""
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        hint = "give a file like profiles/sites/plant-4.yaml"
        raise InputError(f"cannot read the site's file: {reason}", place=Place(str(path)), hint=hint) from error
    return decode_site_file(data, policy, file=str(path))


def decode_site_file(data: bytes, policy: NetworkPolicy, *, file: str) -> SiteNetwork:
    """The pure part. file: its name for places. Raises ProfileError."""
    document = decode_document(data, file=file)
    findings = list(shape_findings(document.value, SiteNetwork))
    if not findings and not document.problems:
        site = msgspec.convert(document.value, SiteNetwork)
        findings = list(_slot_findings(policy, site))
        if not findings:
            return site
    problems = [
        *document.problems,
        *(Problem(document.place(found.path), found.message, found.hint) for found in findings),
    ]
    raise ProfileError(sorted(problems, key=lambda problem: problem.place.line or 0))


def _slot_findings(policy: NetworkPolicy, site: SiteNetwork) -> Iterator[Finding]:
    names = [slot.name for slot in policy.slots]
    for fault in slot_faults(policy, site):
        position = () if fault.position is None else (fault.position,)
        hint = fault.hint if fault.slot in names else did_you_mean(fault.slot, names, otherwise=fault.hint)
        yield finding(("slots", fault.slot, *position), fault.message, hint)
