"""Which packets each conduit of a policy lets through, as boxes that can be compared between two policies. Pure.

From builder/network/classes.py, so a comparison decides by packets and not by text. Three things are left out on
purpose: answers, which follow from what opens; the device's own addresses, since another address is no other conduit;
and which addresses fill a slot: it counts with all of its bounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, get_args

import msgspec

from appliance.formats.network_policy import NetworkPolicy, Service
from builder.network.boxes import Box, Union, minus
from builder.network.classes import NO_USER, STATES, PacketClass, allowed_classes
from builder.network.intervals import IntervalSet, union, upto

_UIDS = {service: number for number, service in enumerate(get_args(Service))}
_HOOKS = ("input", "output", "forward")
_FAMILIES = ("ipv4", "ipv6", "arp")
_ADDRESSES = upto((1 << 128) - 1)
_NUMBERS = {
    "users": upto(NO_USER),
    "protocols": upto(255),
    "source": _ADDRESSES,
    "destination": _ADDRESSES,
    "source_ports": upto(65535),
    "destination_ports": upto(65535),
    "icmp_types": upto(255),
    "icmp_codes": upto(255),
    "operations": upto(65535),
    "hop_limits": upto(255),
}


class Space:
    """What two policies have in common: the numbers of their interfaces."""

    def __init__(self, policies: Iterable[NetworkPolicy]) -> None:
        self._links = sorted({"", "lo", *(link.name for policy in policies for link in policy.links)})
        self._domains: dict[str, IntervalSet] = {
            **_NUMBERS,
            "hook": upto(len(_HOOKS) - 1),
            "family": upto(len(_FAMILIES) - 1),
            "iif": upto(len(self._links) - 1),
            "oif": upto(len(self._links) - 1),
            "cgroups": upto(len(_UIDS) - 1),
            "states": upto(len(STATES) - 1),
            "header": upto(1),
        }

    def reach(self, policy: NetworkPolicy) -> dict[str, tuple[Box, ...]]:
        """conduit id → its packets. A conduit that lets nothing through is not in it."""
        links = tuple(msgspec.structs.replace(link, addresses=(), gateway=None) for link in policy.links)
        policy = msgspec.structs.replace(policy, links=links)
        found: dict[str, tuple[Box, ...]] = {}
        filled = {slot.name: slot.within for slot in policy.slots}
        for one in allowed_classes(policy, uids=_UIDS, filled=filled):
            if one.part != "answers":
                found[one.conduit] = (*found.get(one.conduit, ()), self._box(one))
        return found

    def rest(self, boxes: Sequence[Box], others: Union) -> list[Box]:
        """What is in `boxes` and in none of the `others`."""
        return [part for box in boxes for part in self._rest(box, others.nearest(box))]

    def _rest(self, box: Box, others: Sequence[Box]) -> Iterator[Box]:
        left = [box]
        for other in others:
            left = [part for one in left for part in minus(one, other, self._domains)]
        yield from left

    def _box(self, one: PacketClass) -> Box:
        box: dict[str, Any] = {name: getattr(one, name) for name in _NUMBERS}
        box["hook"] = _one(_HOOKS.index(one.hook))
        box["family"] = _one(_FAMILIES.index(one.family))
        box["iif"], box["oif"] = _one(self._links.index(one.iif)), _one(self._links.index(one.oif))
        box["states"] = union(interval for state in one.states for interval in _one(STATES.index(state)))
        box["header"] = None if one.header is None else _one(int(one.header))
        if one.cgroups is not None:
            box["cgroups"] = union(interval for name in one.cgroups for interval in _one(_UIDS[name]))
        return {name: values for name, values in box.items() if values is not None}


def _one(number: int) -> IntervalSet:
    return ((number, number),)
