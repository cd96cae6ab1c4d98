"""A site's policy in words, for who signs it and for `edgeseal site status`. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from appliance.formats.approval import Approval, Ring, SitePolicy, UtcOffset, Window, decode_policy
from builder.publish.ceremony import Ceremony
from builder.publish.policy import utc
from builder.publish.windows import window_words
from builder.publish.words import Reader

_NAMED = 8  # devices of a ring that are told by name

_MODES = {
    "approve": "installs what is approved here",
    "follow-vendor": "installs what the vendor publishes last",
    "hold": "HOLD: installs nothing",
}


def policy_words(policy: SitePolicy) -> list[str]:
    """Every fact, a line each."""
    lines = [
        f"{policy.product} at site {policy.site}, policy {policy.sequence}, signed at {utc(policy.signed_at)}",
        _MODES[policy.mode] + (_windows(policy, policy.windows) if policy.mode == "follow-vendor" else ""),
        f"a trial is confirmed {'only with' if policy.confirm == 'online' else 'also without'} the broker; "
        f"{_clock(policy)}; time zone {policy.timezone}, offsets known until {_until(policy.offsets)}",
    ]
    lines += [ring_words(ring) for ring in policy.rings]
    return lines + [approval_words(policy, approval) for approval in policy.approvals]


def policy_line(data: bytes) -> str:
    """One line about a policy's bytes; `policy_words` has the rest."""
    policy = decode_policy(data)
    count = len(policy.approvals)
    return f"policy {policy.sequence} of {policy.product}, {_MODES[policy.mode]}, {count} approval{'s'[: count != 1]}"


SITE_READERS: Mapping[str, Reader] = {"approvals/": policy_line}


def ceremony_words(ceremony: Ceremony) -> list[str]:
    """Every new policy of a ceremony in full, a line for each fact."""
    found = []
    for path, data in sorted(ceremony.files.items()):
        if path.startswith("approvals/"):
            first, *rest = policy_words(decode_policy(data))
            found += ["", first, *(f"  {line}" for line in rest), ""]
    return found


def approval_words(policy: SitePolicy, approval: Approval) -> str:
    """One approval; a `+` says that it is new in this policy."""
    new = "+ " if approval.sequence == policy.sequence else ""
    what = f"{approval.target}, version {approval.version}, sha256 {approval.sha256} ({approval.length} bytes)"
    when = f"{_windows(policy, approval.windows)}{_bounds(policy, approval)}"
    return (
        f"{new}approves {what} for {', '.join(approval.rings)}{when}, "
        f"ticket {approval.ticket}, by {', '.join(approval.approvers)}, since policy {approval.sequence}"
    )


def ring_words(ring: Ring) -> str:
    """One ring."""
    return f"ring {ring.name}: {', '.join(_members(ring)) or 'nobody'}"


def local(offsets: Sequence[UtcOffset], instant: int) -> str:
    """Site-local time, with its distance from UTC."""
    seconds = next((entry.seconds for entry in reversed(offsets) if entry.since <= instant), 0)
    shown = datetime.fromtimestamp(instant, UTC) + timedelta(seconds=seconds)
    sign, minutes = ("-" if seconds < 0 else "+"), abs(seconds) // 60
    return f"{shown:%Y-%m-%d %H:%M} UTC{sign}{minutes // 60:02}:{minutes % 60:02}"


def _members(ring: Ring) -> Iterator[str]:
    if ring.percent:
        yield f"{ring.percent} % of all devices"
    yield from (f"group {group}" for group in ring.groups)
    yield from ring.devices[:_NAMED]
    if len(ring.devices) > _NAMED:
        yield f"{len(ring.devices) - _NAMED} more devices"


def _windows(policy: SitePolicy, windows: Sequence[Window]) -> str:
    words = [window_words(window) for window in windows]
    return f", in {' and '.join(words)} {policy.timezone}" if words else ", at any time"


def _bounds(policy: SitePolicy, approval: Approval) -> str:
    begin = f", from {local(policy.offsets, approval.not_before)}" if approval.not_before else ""
    return begin + (f", until {local(policy.offsets, approval.not_after)}" if approval.not_after else "")


def _clock(policy: SitePolicy) -> str:
    trust = "a device's plausible clock counts" if policy.clock == "machine" else "no device's clock counts"
    return f"{trust}, without one windows {'wait' if policy.time_unknown == 'wait' else 'are IGNORED'}"


def _until(offsets: Sequence[UtcOffset]) -> str:
    return f"{datetime.fromtimestamp(offsets[-1].since, UTC):%Y}" if len(offsets) > 1 else "further notice"
