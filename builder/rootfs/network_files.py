"""What systemd-networkd and udev are told of the links. Pure.

Nothing is brought up that the policy does not name, and nothing is configured by what comes over the network. Each
file belongs to one link; systemd.link(5), systemd.netdev(5), systemd.network(5).
"""

from __future__ import annotations

from collections.abc import Sequence

from appliance.formats.network_policy import Link, NetworkPolicy, Vlan
from builder.rootfs.entries import File, RootPlan, text

_DIRECTORY = "usr/lib/systemd/network"
FORWARDING = "usr/lib/sysctl.d/95-edgeseal-forwarding.conf"


def network_files(policy: NetworkPolicy) -> RootPlan:
    """The links of `policy`, and forwarding where its component is a network device."""
    plan: RootPlan = {}
    for link in policy.links:
        carried = [other.name for other in policy.links if other.vlan and other.vlan.parent == link.name]
        stem = f"{_DIRECTORY}/10-{link.name}"
        if link.vlan is None:
            plan[f"{stem}.link"] = _link_file(link)
        else:
            plan[f"{stem}.netdev"] = _netdev_file(link.name, link.vlan)
        plan[f"{stem}.network"] = _network_file(link, carried)
    if policy.component_type == "network":
        plan[FORWARDING] = text(
            "# The component forwards between zones; which flows, the ruleset says.",
            "net.ipv4.conf.all.forwarding = 1",
        )
    return plan


def _link_file(link: Link) -> File:
    return text(
        "[Match]",
        f"Driver={link.driver}",
        *([f"Path={link.place}"] if link.place else []),
        "",
        "[Link]",
        f"Name={link.name}",
        "MACAddressPolicy=none",
    )


def _netdev_file(name: str, vlan: Vlan) -> File:
    return text("[NetDev]", f"Name={name}", "Kind=vlan", "", "[VLAN]", f"Id={vlan.tag}")


def _network_file(link: Link, carried: Sequence[str]) -> File:
    """carried: the VLANs on this link."""
    return text(
        "[Match]",
        f"Name={link.name}",
        "",
        "[Network]",
        *(f"VLAN={name}" for name in carried),
        *(f"Address={address}" for address in link.addresses),
        *([f"Gateway={link.gateway}"] if link.gateway else []),
        "DHCP=no",
        "IPv6AcceptRA=no",
        "LinkLocalAddressing=no",
        "EmitLLDP=no",
        "LLDP=no",
        "LLMNR=no",
        "MulticastDNS=no",
        "",
        "[Link]",
        "RequiredForOnline=no",
    )
