"""The addresses that the site gave, as commands for the packet filter. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from appliance.formats.conduit_elements import Element, conduit_elements
from appliance.formats.network_policy import NetworkPolicy


def slot_commands(policy: NetworkPolicy, filled: Mapping[str, Sequence[str]]) -> str:
    """What has to be added to the sealed ruleset, where every slot is empty; nothing when none is filled.

    filled: slot name → addresses inside its bounds.
    """
    sealed, wanted = conduit_elements(policy, {}), conduit_elements(policy, filled)
    kept = {_place(element) for element in sealed} & {_place(element) for element in wanted}
    # a key that gives way to an address of a slot goes first: keys never overlap
    gone = [
        f"delete element {_map(element)} {{ {element.key_text()} }}"
        for element in sealed
        if _place(element) not in kept
    ]
    come = [f"add element {_map(element)} {{ {element.text()} }}" for element in wanted if _place(element) not in kept]
    return "\n".join((*gone, *come))


def _map(element: Element) -> str:
    return f"{element.table} edgeseal {element.map}"


def _place(element: Element) -> tuple[str, str, str]:
    return element.table, element.map, element.text()
