"""The packets that one hook sees of one family, as fields with domains, and what a load of bytes reads of them. Pure.

A register's byte is a byte of one field, a constant, or padding that nothing compares.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from appliance.core.errors import InputError
from builder.network.bytecode import Meta, Payload
from builder.network.classes import MOST_USER, NO_USER, STATES, Family, Hook, PacketClass
from builder.network.intervals import IntervalSet, single, union, upto

STATE_BITS = {"invalid": 1, "established": 2, "related": 4, "new": 8, "untracked": 64}
"""NF_CT_STATE_BIT (include/uapi/linux/netfilter/nf_conntrack_common.h)."""
NO_PROTOCOL = 256
"""An IPv6 packet whose extension headers lead nowhere."""

_IFNAME = 16
_NFPROTO = {"ipv4": 2, "ipv6": 10, "arp": 3}
_ETHERTYPE = {"ipv4": 0x0800, "ipv6": 0x86DD, "arp": 0x0806}
_ADDRESS_BITS = {"ipv4": 32, "ipv6": 128, "arp": 32}
_LAYOUTS: dict[str, tuple[tuple[int, int, str], ...]] = {
    "ipv4": ((8, 1, "hops"), (9, 1, "protocol"), (12, 4, "source"), (16, 4, "destination")),
    "ipv6": ((7, 1, "hops"), (8, 16, "source"), (24, 16, "destination")),
    "arp": (
        (0, 2, "hardware_type"),
        (2, 2, "protocol_type"),
        (4, 1, "hardware_length"),
        (5, 1, "protocol_length"),
        (6, 2, "operation"),
        (8, 6, "sender_hardware"),
        (14, 4, "source"),
        (18, 6, "target_hardware"),
        (24, 4, "destination"),
    ),
}
"""Offset, length and field: RFC 791 section 3.1, RFC 8200 section 3, RFC 826 over Ethernet."""


@dataclass(frozen=True)
class ByteOf:
    """A byte of a field: `weight` 0 is the lowest. The register holds (byte & mask) ^ xor."""

    field: str
    weight: int
    mask: int = 0xFF
    xor: int = 0


PADDING = None
RegisterByte = ByteOf | int | None
Load = tuple[tuple[RegisterByte, ...], Mapping[str, IntervalSet]]
"""The bytes, and what the packet must be for the load not to break."""


@dataclass(frozen=True)
class Space:
    """All packets of one hook and family. services: cgroups by number, from 1; the next number is any other cgroup."""

    hook: Hook
    family: Family
    services: tuple[str, ...]

    @cached_property
    def domains(self) -> dict[str, IntervalSet]:
        """Every field and its values."""
        bits = _ADDRESS_BITS[self.family]
        found: dict[str, IntervalSet] = {
            "iif": single(0) if self.hook == "output" else ((1, (1 << 8 * _IFNAME) - 1),),
            "oif": single(0) if self.hook == "input" else ((1, (1 << 8 * _IFNAME) - 1),),
            "source": upto((1 << bits) - 1),
            "destination": upto((1 << bits) - 1),
            "state": union((STATE_BITS[state], STATE_BITS[state]) for state in STATES),
        }
        if self.family == "arp":
            lengths = {field: length for _, length, field in _LAYOUTS["arp"] if field not in found}
            found |= {field: upto((1 << 8 * length) - 1) for field, length in lengths.items()}
            return found | {"state": single(STATE_BITS["untracked"])}
        found |= {
            "user": union(((0, MOST_USER), (NO_USER, NO_USER))),
            "cgroup": upto(len(self.services) + 1),
            "protocol": upto(255 if self.family == "ipv4" else NO_PROTOCOL),
            "hops": upto(255),
            "header": upto(1),
            "first": upto(0xFFFF),
            "second": upto(0xFFFF),
        }
        return found | {f"transport+{offset}": upto(255) for offset in range(4, 64)}

    def meta(self, load: Meta) -> Load:
        """What `meta` reads."""
        if load.key == "nfproto":
            return (_NFPROTO[self.family], *_pad(3)), {}
        if load.key == "protocol":
            return (*_ETHERTYPE[self.family].to_bytes(2, "big"), *_pad(2)), {}
        if load.key in ("iifname", "oifname"):
            return tuple(_bytes(load.key.removesuffix("name"), _IFNAME)), {}
        if self.family == "arp":
            raise InputError(f"`meta {load.key}` of an ARP packet is not known")
        if load.key == "l4proto":
            return (ByteOf("protocol", 0), *_pad(3)), {"protocol": upto(255)}
        return tuple(reversed(tuple(_bytes("user", 4)))), {"user": upto(MOST_USER)}

    def state(self) -> Load:
        """What `ct state` reads."""
        if self.family == "arp":
            raise InputError("`ct state` of an ARP packet is not known")
        return (ByteOf("state", 0), 0, 0, 0), {}

    def cgroup(self) -> Load:
        """What `socket cgroupv2` reads: the number of the service."""
        if self.family == "arp":
            raise InputError("`socket cgroupv2` of an ARP packet is not known")
        return (ByteOf("cgroup", 0), *([0] * 7)), {"cgroup": ((1, len(self.services) + 1),)}

    def payload(self, load: Payload) -> Load:
        """What a load from a header reads; whole registers, the rest is padding."""
        offsets = range(load.offset, load.offset + load.length)
        padding = _pad(-load.length % 4)
        if load.base == "network":
            known = dict(_network_bytes(self.family))
            if missing := [offset for offset in offsets if offset not in known]:
                raise InputError(f"byte {missing[0]} of the {self.family} header is not known")
            return (*(known[offset] for offset in offsets), *padding), {}
        if self.family == "arp" or offsets[-1] >= 64:
            raise InputError(f"byte {offsets[-1]} of the transport header of {self.family} is not known")
        guard = {"header": single(1), "protocol": upto(255)}
        return (*(_transport_byte(offset) for offset in offsets), *padding), guard

    def box(self, allowed: PacketClass) -> dict[str, IntervalSet]:
        """A packet class of this hook and family as a box."""
        found: dict[str, IntervalSet | None] = {
            "iif": single(interface_number(allowed.iif)),
            "oif": single(interface_number(allowed.oif)),
            "source": allowed.source,
            "destination": allowed.destination,
            "state": union((STATE_BITS[state], STATE_BITS[state]) for state in allowed.states),
        }
        if self.family == "arp":
            ethernet = {"hardware_type": 1, "protocol_type": 0x0800, "hardware_length": 6, "protocol_length": 4}
            found |= {"operation": allowed.operations, **{name: single(value) for name, value in ethernet.items()}}
        else:
            found |= {
                "user": allowed.users,
                "cgroup": None if allowed.cgroups is None else union(map(self._cgroup, allowed.cgroups)),
                "protocol": allowed.protocols,
                "hops": allowed.hop_limits,
                "header": None if allowed.header is None else single(int(allowed.header)),
                "first": allowed.source_ports or _types(allowed.icmp_types),
                "second": allowed.destination_ports,
            }
        if allowed.icmp_codes is not None:
            raise InputError("a packet class with ICMP codes is not known")
        return {
            field: values for field, values in found.items() if values is not None and values != self.domains[field]
        }

    def _cgroup(self, name: str) -> tuple[int, int]:
        number = self.services.index(name) + 1
        return number, number


def interface_number(name: str) -> int:
    """The 16 bytes of an interface's name as one number."""
    return int.from_bytes(name.encode().ljust(_IFNAME, b"\0"), "big")


def interface_name(number: int) -> str:
    """The other way round; bytes that are no letters are shown as such."""
    return number.to_bytes(_IFNAME, "big").rstrip(b"\0").decode("ascii", "backslashreplace")


def _pad(length: int) -> Sequence[RegisterByte]:
    return (PADDING,) * length


def _bytes(field: str, length: int) -> Iterator[ByteOf]:
    return (ByteOf(field, weight) for weight in reversed(range(length)))


def _network_bytes(family: str) -> Iterator[tuple[int, ByteOf]]:
    for offset, length, field in _LAYOUTS[family]:
        for position, byte in enumerate(_bytes(field, length)):
            yield offset + position, byte


def _transport_byte(offset: int) -> ByteOf:
    """Ports, or ICMP's type, code and checksum, are two fields of 16 bits; every byte behind them is its own."""
    if offset < 4:
        return ByteOf("first" if offset < 2 else "second", 1 - offset % 2)
    return ByteOf(f"transport+{offset}", 0)


def _types(types: IntervalSet | None) -> IntervalSet | None:
    return None if types is None else tuple((first << 8, last << 8 | 0xFF) for first, last in types)
