"""What `edgeseal network check` finds beyond the rules of a profile. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from appliance.formats.network_policy import NetworkPolicy


def ruleset_data(ruleset: bytes, *, loaded: bool) -> dict[str, Any]:
    """What is said about a compiled ruleset. loaded: a kernel took it."""
    return {"bytes": len(ruleset), "sha256": hashlib.sha256(ruleset).hexdigest(), "loaded": loaded}


def slots_data(policy: NetworkPolicy, filled: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """Each slot with what fills it and which conduits wait for it."""
    return [
        {
            "slot": slot.name,
            "addresses": list(filled.get(slot.name, ())),
            "conduits": [conduit.id for conduit in policy.conduits if conduit.slot == slot.name],
        }
        for slot in policy.slots
    ]


def check_text(data: dict[str, Any]) -> str:
    """For a terminal. Conduits whose approval has ended are told beside it, as warnings."""
    lines = [f"{data['file']}: {data['zones']} zones, {data['conduits']} conduits, nothing wrong"]
    for slot in data["slots"]:
        filled = f"filled with {', '.join(slot['addresses'])}" if slot["addresses"] else "not filled"
        state = "open" if slot["addresses"] else "closed"
        lines.append(f"slot {slot['slot']}: {filled}; {state}: {', '.join(slot['conduits']) or 'no conduit'}")
    ruleset = data["ruleset"]
    how = "a kernel takes it" if ruleset["loaded"] else "not loaded: this machine lends no network namespace"
    lines.append(f"ruleset: {ruleset['bytes']} bytes, sha256 {ruleset['sha256'][:16]}…; {how}")
    return "\n".join(lines)
