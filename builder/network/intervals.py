"""Sets of whole numbers as intervals: ports, addresses, users. Pure.

An interval set is a tuple of (first, last), both inside it, in order, with a gap between any two.
"""

from __future__ import annotations

import ipaddress
from bisect import bisect_right
from collections.abc import Iterable

IntervalSet = tuple[tuple[int, int], ...]

EMPTY: IntervalSet = ()


def single(value: int) -> IntervalSet:
    """The set of one number."""
    return ((value, value),)


def upto(last: int) -> IntervalSet:
    """0 to `last`, both inside."""
    return ((0, last),)


def union(parts: Iterable[tuple[int, int]]) -> IntervalSet:
    """The set of all numbers in `parts`, which may overlap and stand in any order."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(parts):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return tuple(found)


def intersect(one: IntervalSet, two: IntervalSet) -> IntervalSet:
    """Numbers in both."""
    if one is two:
        return one
    found: list[tuple[int, int]] = []
    left = right = 0
    while left < len(one) and right < len(two):
        first, last = max(one[left][0], two[right][0]), min(one[left][1], two[right][1])
        if first <= last:
            found.append((first, last))
        if one[left][1] < two[right][1]:
            left += 1
        else:
            right += 1
    return tuple(found)


def subtract(one: IntervalSet, two: IntervalSet) -> IntervalSet:
    """Numbers in `one` that are not in `two`."""
    found: list[tuple[int, int]] = []
    for first, last in one:
        start = max(bisect_right(two, (first, -1)) - 1, 0)
        for begin, end in two[start:]:
            if begin > last:
                break
            if end < first:
                continue
            if begin > first:
                found.append((first, begin - 1))
            first = end + 1
        if first <= last:
            found.append((first, last))
    return tuple(found)


def contains(intervals: IntervalSet, value: int) -> bool:
    """Whether `value` is in the set."""
    index = bisect_right(intervals, value, key=lambda interval: interval[0]) - 1
    return index >= 0 and value <= intervals[index][1]


def within(one: IntervalSet, two: IntervalSet) -> bool:
    """Whether every number of `one` is in `two`."""
    return intersect(one, two) == one


def of_peers(peers: Iterable[str], version: int) -> IntervalSet:
    """Addresses of one IP version (4 or 6) among addresses and prefixes, as whole numbers."""
    networks = (ipaddress.ip_network(peer, strict=False) for peer in peers)
    return union(
        (int(network.network_address), int(network.broadcast_address))
        for network in networks
        if network.version == version
    )
