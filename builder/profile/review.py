"""Whose approval has ended. Pure: the day is an argument, and no rule of a profile asks for it."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

from appliance.formats.network_policy import NetworkPolicy
from builder.profile.problem import Finding
from builder.profile.rules import finding


def overdue_findings(policy: NetworkPolicy, *, today: datetime.date) -> Iterator[Finding]:
    """A finding for each conduit whose last day of approval lies before `today`.

    policy: one that the rules accept. A warning wherever a profile is looked at; an error of a release.
    """
    for number, conduit in enumerate(policy.conduits):
        if datetime.date.fromisoformat(conduit.review) < today:
            message = f"`{conduit.review}` has passed, the conduit `{conduit.id}` is approved no longer"
            hint = f"have it reviewed by its owner ({conduit.owner}), and write the day until which it is approved"
            yield finding(("network", "conduits", number, "review"), message, hint)
