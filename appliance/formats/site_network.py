"""What the site fills the slots of a network policy with. Spec: docs/specs/site-network.md (v1).

Arrives as the systemd credential `edgeseal.network`, canonical JSON. A slot that is not in it stays closed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address, ip_interface, ip_network
from typing import Annotated, Literal

import msgspec

from appliance.core.canonical import canonical_json
from appliance.core.errors import DecodeError, InputError
from appliance.formats.device import FrozenStruct, Identifier
from appliance.formats.network_policy import Address, NetworkPolicy, Slot

SITE_NETWORK_CREDENTIAL = "edgeseal.network"
MAXIMUM_BYTES = 64 * 1024

_FAMILY = {"ipv4": (IPv4Address, "IPv4"), "ipv6": (IPv6Address, "IPv6")}


class SiteNetwork(FrozenStruct, frozen=True, kw_only=True):
    """The addresses that only the site knows."""

    schema: Annotated[Literal[1], msgspec.Meta(description="Version of this format.")]
    slots: Annotated[
        dict[Identifier, tuple[Address, ...]], msgspec.Meta(description="Slot of the policy: addresses of hosts.")
    ]


@dataclass(frozen=True)
class SlotFault:
    """Why an address cannot fill a slot. position: in the list of the slot; None for the slot as a whole."""

    slot: str
    position: int | None
    message: str
    hint: str


def encode_site_network(site: SiteNetwork) -> bytes:
    """The canonical bytes of `site`."""
    return canonical_json(msgspec.to_builtins(site))


def decode_site_network(data: bytes) -> SiteNetwork:
    """Raises DecodeError on anything but the canonical bytes of a SiteNetwork, at most MAXIMUM_BYTES of them."""
    if len(data) > MAXIMUM_BYTES:
        raise DecodeError(f"site network: larger than {MAXIMUM_BYTES} bytes")
    try:
        site = msgspec.json.decode(data, type=SiteNetwork)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DecodeError(f"site network: {error}") from error
    if encode_site_network(site) != data:
        raise DecodeError("site network: not in canonical form")
    return site


def fill(policy: NetworkPolicy, site: SiteNetwork) -> Mapping[str, tuple[str, ...]]:
    """slot -> addresses, for the slots that the site fills, in the order of the policy.

    Raises InputError for the first thing that `slot_faults` finds: nothing is filled then.
    """
    for fault in slot_faults(policy, site):
        raise InputError(f"site network: slot `{fault.slot}`: {fault.message}", hint=fault.hint)
    return {slot.name: site.slots[slot.name] for slot in policy.slots if slot.name in site.slots}


def slot_faults(policy: NetworkPolicy, site: SiteNetwork) -> Iterator[SlotFault]:
    """Everything by which `site` leaves the bounds of `policy`, in the order of the site's slots."""
    slots = {slot.name: slot for slot in policy.slots}
    for name, addresses in site.slots.items():
        if name not in slots:
            yield SlotFault(name, None, "the policy has no such slot", f"slots there: {', '.join(slots) or 'none'}")
        elif not addresses:
            yield SlotFault(name, None, "no address", "remove the line: a slot that is not filled stays closed")
        else:
            yield from _list_faults(policy, slots[name], addresses)


def _list_faults(policy: NetworkPolicy, slot: Slot, addresses: tuple[str, ...]) -> Iterator[SlotFault]:
    if len(addresses) > slot.most:
        hint = "keep those that are needed, or have the policy changed"
        yield SlotFault(slot.name, None, f"{len(addresses)} addresses, at most {slot.most} are allowed", hint)
    for position, text in enumerate(addresses):
        if text in addresses[:position]:
            yield SlotFault(slot.name, position, f"`{text}` stands twice", "remove one of the two")
        elif fault := _address_fault(policy, slot, text):
            yield SlotFault(slot.name, position, *fault)


def _address_fault(policy: NetworkPolicy, slot: Slot, text: str) -> tuple[str, str] | None:
    """(message, hint)."""
    kind, family = _FAMILY[slot.type]
    try:
        address = ip_address(text)
    except ValueError:
        return f"`{text}` is not an {family} address", "write the address of one host, without a prefix length"
    if not isinstance(address, kind):
        return f"`{text}` is not an {family} address", f"the slot is for {family} addresses of hosts"
    if str(address) != text:
        return f"`{text}` is not written in the canonical way", f"write `{address}`"
    if not any(address in ip_network(bound) for bound in slot.within):
        return f"`{text}` is outside its bounds ({', '.join(slot.within)})", "correct it, or have the policy changed"
    own = [ip_interface(one) for link in policy.links for one in link.addresses]
    if any(address == one.ip for one in own):
        return f"`{text}` is the device's own address", "write the address of the other side"
    networks = [one.network for one in own]
    if any(address in net and _is_no_host(address, net) for net in networks if isinstance(net, IPv4Network)):
        return (
            f"`{text}` is not the address of a host",
            "the first and the last address of a link's prefix have no host",
        )
    return None


def _is_no_host(address: IPv4Address | IPv6Address, net: IPv4Network) -> bool:
    return net.prefixlen < 31 and address in (net.network_address, net.broadcast_address)
