"""What must hold between the keys of a profile. Pure: no file, no clock, no network."""

from __future__ import annotations

from collections.abc import Iterator

from builder.profile import rules_board, rules_disk, rules_network, rules_software, rules_uplink
from builder.profile.problem import Finding
from builder.profile.rules import Rule, finding
from builder.profile.types import Profile

RULES: tuple[Rule, ...] = (
    *rules_board.RULES,
    *rules_software.RULES,
    *rules_network.RULES,
    *rules_uplink.RULES,
    *rules_disk.RULES,
)


def profile_findings(profile: Profile, *, stem: str) -> Iterator[Finding]:
    """Everything that is wrong with a profile of the right shape.

    stem: the name of its file without `.yaml`.
    """
    if profile.name != stem:
        hint = f"rename the file to {profile.name}.yaml, or write `name: {stem}`"
        yield finding(("name",), f"`{profile.name}` in a file called {stem}.yaml", hint)
    for rule in RULES:
        yield from rule(profile)
