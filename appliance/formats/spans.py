"""Whole numbers from one to another: the addresses and ports in the keys of the ruleset's maps. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_network, summarize_address_range
from typing import Literal

Version = Literal[4, 6]


@dataclass(frozen=True, order=True)
class Span:
    """Whole numbers from `low` to `high`, both included. version: of the addresses that they are; 0 for ports."""

    low: int
    high: int
    version: int = 0

    def text(self) -> str:
        """As nft writes it: a value, a prefix or a range."""
        if self.version == 0:
            return str(self.low) if self.low == self.high else f"{self.low}-{self.high}"
        first, last = _address(self.low, self.version), _address(self.high, self.version)
        if first == last:
            return str(first)
        prefixes = list(summarize_address_range(first, last))
        return str(prefixes[0]) if len(prefixes) == 1 else f"{first}-{last}"


Field = str | Span
"""One field of a key: exactly this word, or any number of a span."""

Key = tuple[Field, ...]


def address_spans(texts: Iterable[str], version: Version) -> tuple[Span, ...]:
    """Addresses and prefixes of one family: sorted, joined where they touch."""
    networks = [ip_network(text, strict=False) for text in texts]
    return joined_spans(
        Span(int(network.network_address), int(network.broadcast_address), version)
        for network in networks
        if network.version == version
    )


def joined_spans(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The same numbers: sorted, joined where they touch."""
    found: list[Span] = []
    for span in sorted(spans):
        if found and span.low <= found[-1].high + 1:
            found[-1] = Span(found[-1].low, max(found[-1].high, span.high), span.version)
        else:
            found.append(span)
    return tuple(found)


def _address(number: int, version: int) -> IPv4Address | IPv6Address:
    return IPv4Address(number) if version == 4 else IPv6Address(number)


def keys_meet(key: Key, other: Key) -> bool:
    """Whether two keys with the same words share a packet."""
    for mine, theirs in zip(key, other, strict=True):
        if isinstance(mine, Span) and isinstance(theirs, Span) and (mine.high < theirs.low or theirs.high < mine.low):
            return False
    return True


def key_without(key: Key, other: Key) -> Iterator[Key]:
    """The boxes of `key` that are not in `other`; both have the same words."""
    if not keys_meet(key, other):
        yield key
        return
    for place, (mine, theirs) in enumerate(zip(key, other, strict=True)):
        if isinstance(mine, str) or isinstance(theirs, str):
            continue
        before, behind = key[:place], key[place + 1 :]
        if mine.low < theirs.low:
            yield (*before, Span(mine.low, theirs.low - 1, mine.version), *behind)
        if theirs.high < mine.high:
            yield (*before, Span(theirs.high + 1, mine.high, mine.version), *behind)
        shared = Span(max(mine.low, theirs.low), min(mine.high, theirs.high), mine.version)
        key = (*before, shared, *behind)
