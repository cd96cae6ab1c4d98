"""Addresses and prefixes of a policy: what is wrong with one, and what lies in what. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, collapse_addresses, ip_interface, ip_network

from builder.profile.anyone import instead_of_any
from builder.profile.problem import Finding, Path
from builder.profile.rules import finding

SHORTEST_PREFIX = 8
"""The widest prefix that still says something: no plan has more than 10.0.0.0/8."""

_NO_HOSTS = {
    IPv4Network("224.0.0.0/4"): "is a multicast address",
    IPv4Network("127.0.0.0/8"): "is a loopback address",
    IPv4Network("0.0.0.0/8"): "is not the address of a host",
    IPv4Network("240.0.0.0/4"): "is not the address of a host",
}
_IPV6 = "is IPv6, which the device's kernel has switched off (ipv6.disable=1)"


def network(text: str) -> IPv4Network | None:
    """A prefix, or an address as a prefix of one; None for what `prefix_finding` refuses."""
    try:
        found = ip_network(text)
    except ValueError:
        return None
    return found if isinstance(found, IPv4Network) and _fault(found) is None else None


def networks(texts: Iterable[str]) -> list[IPv4Network]:
    """Those of `texts` that are right."""
    return [found for text in texts if (found := network(text)) is not None]


def interface(text: str) -> IPv4Interface | None:
    """An interface's address; None for what `interface_fault` refuses."""
    try:
        found = ip_interface(text)
    except ValueError:
        return None
    return found if isinstance(found, IPv4Interface) and _interface_fault(found) is None else None


def interfaces(texts: Iterable[str]) -> list[IPv4Interface]:
    """Those of `texts` that are right."""
    return [found for text in texts if (found := interface(text)) is not None]


def prefix_findings(path: Path, texts: Sequence[str]) -> Iterator[Finding]:
    """Each of the list at `path` is a prefix or an address that hosts can have, and no two have one in common."""
    seen: list[tuple[int, IPv4Network]] = []
    for number, text in enumerate(texts):
        found = network(text)
        if found is None:
            yield _refused((*path, number), text)
            continue
        for earlier, other in seen:
            if found == other:
                yield finding((*path, number), f"`{text}` stands twice", "remove one of the two")
            elif found.overlaps(other):
                message = f"`{text}` overlaps `{texts[earlier]}` of the same list"
                yield finding((*path, number), message, "remove the one that the other contains")
        seen.append((number, found))


def interface_fault(text: str) -> str | None:
    """Why `text` cannot be the address of a link."""
    try:
        found = ip_interface(text)
    except ValueError:
        return "is not an IPv4 address and prefix length"
    return _interface_fault(found) if isinstance(found, IPv4Interface) else _IPV6


def address_fault(text: str) -> str | None:
    """Why `text` cannot be the address of one host."""
    try:
        found = ip_network(text)
    except ValueError:
        return "is not an IPv4 address"
    return _fault(found) if isinstance(found, IPv4Network) else _IPV6


def contains(prefixes: Iterable[IPv4Network], inner: IPv4Network) -> bool:
    """Whether every address of `inner` is in one of `prefixes`."""
    return any(inner.subnet_of(outer) for outer in collapse_addresses(prefixes))


def is_no_host(address: IPv4Address, link: IPv4Network) -> bool:
    """The network's own address and its broadcast address."""
    return link.prefixlen < 31 and address in (link.network_address, link.broadcast_address)


def _refused(path: Path, text: str) -> Finding:
    try:
        found = ip_network(text, strict=False)
    except ValueError:
        return finding(path, f"`{text}` is not an IPv4 address or prefix", "write it like 192.0.2.5 or 192.0.2.0/24")
    if not isinstance(found, IPv4Network):
        return finding(path, f"`{text}` {_IPV6}", "write the IPv4 address or prefix")
    if found.prefixlen < SHORTEST_PREFIX:
        what = "is every address" if found.prefixlen == 0 else "is so wide that it names nobody"
        return finding(path, f"`{text}` {what}", instead_of_any(path) or "write a longer prefix")
    if fault := _fault(found):
        return finding(path, f"`{text}` {fault}", "write the addresses of hosts")
    host = text.split("/")[0]
    return finding(path, f"`{text}` names a host and a prefix", f"write `{host}` for the host, or `{found}` for all")


def _fault(found: IPv4Network) -> str | None:
    if found.prefixlen < SHORTEST_PREFIX:
        return "is so wide that it names nobody"
    return next((fault for special, fault in _NO_HOSTS.items() if found.overlaps(special)), None)


def _interface_fault(found: IPv4Interface) -> str | None:
    if fault := _fault(IPv4Network(found.ip)):
        return fault
    if found.network.prefixlen < SHORTEST_PREFIX:
        return "has a prefix that is too wide for a link"
    return f"is not a host of {found.network}" if is_no_host(found.ip, found.network) else None
