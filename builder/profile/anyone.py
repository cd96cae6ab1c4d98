"""What to write instead of `any`: a policy names who, by what and how much, or it says nothing."""

from __future__ import annotations

from typing import Any

from builder.profile.problem import Path

WORDS = frozenset({"*", "all", "any", "anyone", "anything", "anywhere", "every", "everyone", "everything"})

INSTEAD = {
    "addresses": "write the device's own address on that link, like `192.0.2.10/24`",
    "from": "write the id of one zone; a flow that two zones need is two conduits",
    "listener": "write the one service that answers",
    "messages": "write the message types that are needed, like `[echo-request]`",
    "peers": "write the hosts, like `[192.0.2.5]`, or name a slot that the site fills",
    "ports": "write the ports that the peer listens on, like `[8883]` or `[8000-8010]`",
    "prefixes": "write the prefixes of the zone's network plan, like `[192.0.2.0/24]`",
    "protocol": "write `tcp`, `udp`, `icmp`, `icmpv6` or `arp`; a flow that needs two of them is two conduits",
    "service": "write the one service that needs it; two services need a conduit each",
    "targets": "write the hosts that answer, like `[192.0.2.5]`",
    "to": "write the id of one zone; a flow that two zones need is two conduits",
    "within": "write the prefixes that the site may choose from, like `[192.0.2.0/24]`",
}
"""key -> hint, for the keys where somebody may want to write `any`."""


def is_any(value: Any) -> bool:
    """Whether `value` is a word for everything."""
    return isinstance(value, str) and value.strip().casefold() in WORDS


def instead_of_any(path: Path) -> str | None:
    """What to write at `path`, when that is a place for peers, ports and the like."""
    keys = [step for step in path if isinstance(step, str)]
    if keys[:1] == ["slots"]:
        return "write the addresses of the hosts, like `[192.0.2.5]`"
    return INSTEAD.get(keys[-1]) if keys[:1] == ["network"] else None
