"""Is every required unit up? Pure rules over what `systemctl show` printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from appliance.core.errors import DecodeError

PROPERTIES = ("Id", "LoadState", "ActiveState", "SubState", "Result", "NRestarts")
MAX_RESTARTS = 3


@dataclass(frozen=True)
class UnitState:
    """One service as systemd sees it. restarts: how often systemd started it anew by itself."""

    name: str
    load: str
    active: str
    sub: str
    result: str
    restarts: int


def decode_show(text: str) -> list[UnitState]:
    """Blocks of NAME=VALUE lines, one block per unit, an empty line between. Raises DecodeError."""
    states = []
    for block in text.strip().split("\n\n"):
        values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        missing = [name for name in PROPERTIES if name not in values]
        if missing:
            raise DecodeError(f"systemctl show: no {missing[0]} for a unit")
        restarts = values["NRestarts"]
        if not restarts.isdigit():
            raise DecodeError(f"systemctl show: NRestarts is `{restarts}`")
        states.append(
            UnitState(
                name=values["Id"],
                load=values["LoadState"],
                active=values["ActiveState"],
                sub=values["SubState"],
                result=values["Result"],
                restarts=int(restarts),
            )
        )
    return states


def check_units(states: Sequence[UnitState], required: Sequence[str]) -> str | None:
    """None when all are active; else the first failure, or what is still awaited, as a sentence part.

    A failure starts with "failed: ": waiting longer does not help.
    """
    by_name = {state.name: state for state in states}
    for name in required:
        state = by_name.get(name)
        if state is None or state.load != "loaded":
            return f"failed: {name} is {'unknown' if state is None else state.load}"
        if state.active == "failed":
            return f"failed: {name} ended with {state.result}"
        if state.active != "active" and state.restarts >= MAX_RESTARTS:
            return f"failed: {name} was started {state.restarts + 1} times and ended with {state.result}"
    for name in required:
        if by_name[name].active != "active":
            return f"{name} is {by_name[name].active} ({by_name[name].sub})"
    return None


def is_failure(verdict: str) -> bool:
    """Whether waiting longer does not help."""
    return verdict.startswith("failed: ")
