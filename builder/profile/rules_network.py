"""Rules about the network as a whole: what the image needs for it, what each service and each packet needs."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.formats.network_policy import DEVICE_ZONE
from builder.profile import rules_conduits, rules_flows, rules_links, rules_neighbours, rules_zones
from builder.profile.problem import Finding, Path
from builder.profile.rules import Rule, finding, normal_module
from builder.profile.rules_board import MASS_STORAGE
from builder.profile.rules_conduits import CONDUITS
from builder.profile.types import Profile

RULESET_MODULES = {
    "nf_tables": "the ruleset could not be loaded",
    "nft_connlimit": "no conduit could limit its connections",
    "nft_ct": "no conduit could know its answers",
    "nft_limit": "no conduit could limit its packets",
    "nft_log": "drops could not be logged",
    "nft_socket": "no conduit could know its service",
    "nfnetlink_log": "drops could not be logged",
}
"""Kernel module -> what is not possible without it."""
VLAN_MODULE = "8021q"


def modules_for_the_ruleset(profile: Profile) -> Iterator[Finding]:
    """A ruleset that cannot be loaded leaves the device closed for ever."""
    has = {normal_module(name) for name in profile.hardware.modules}
    path: Path = ("hardware", "modules")
    for name, consequence in RULESET_MODULES.items():
        if name not in has:
            yield finding(path, f"`{name}` is missing: {consequence}", f"add `- {name}`")
    if VLAN_MODULE not in has and any(link.vlan for link in profile.network.links):
        yield finding(path, f"`{VLAN_MODULE}` is missing: no VLAN could be made", f"add `- {VLAN_MODULE}`")


def services_have_their_conduits(profile: Profile) -> Iterator[Finding]:
    """Without a conduit no verdict leaves; without one or a stick no release arrives. Both speak TCP."""
    conduits = profile.network.conduits
    for number, conduit in enumerate(conduits):
        path: Path = (*CONDUITS, number)
        if conduit.service in _SPEAKS and conduit.protocol == "udp":
            message = f"`udp`, but the {conduit.service} speaks {_SPEAKS[conduit.service]}"
            yield finding((*path, "protocol"), message, "write `protocol: tcp`")
        if conduit.service == "uplink" and (conduit.encryption, conduit.authentication) != _MUTUAL_TLS:
            message = "the uplink speaks MQTT over mutual TLS and nothing else"
            yield finding(path, message, "write `encryption: tls-1.3` and `authentication: mutual-tls`")
    begun = {conduit.service for conduit in conduits if conduit.from_zone == DEVICE_ZONE}
    if "uplink" not in begun:
        message = "none for the service `uplink`: no verdict could leave the device"
        yield finding(CONDUITS, message, "add one from `device` to the broker's zone and port")
    if "update" not in begun and MASS_STORAGE not in profile.hardware.usb_classes:
        message = "none for the service `update`: no release could reach the device"
        hint = (
            f'add one from `device` to each repository, or let sticks in with hardware.usb_classes: ["{MASS_STORAGE}"]'
        )
        yield finding(CONDUITS, message, hint)


_SPEAKS = {"uplink": "MQTT over TLS", "update": "HTTP"}
_MUTUAL_TLS = ("tls-1.3", "mutual-tls")


def protection_is_said_consistently(profile: Profile) -> Iterator[Finding]:
    """How both know each other implies what protects the content; ARP and ICMP have neither."""
    for number, conduit in enumerate(profile.network.conduits):
        path: Path = (*CONDUITS, number)
        if conduit.protocol not in ("tcp", "udp"):
            for key, is_ in (("encryption", conduit.encryption), ("authentication", conduit.authentication)):
                if is_ != "none":
                    message = f"`{is_}`, but {conduit.protocol} protects nothing"
                    yield finding((*path, key), message, f"write `{key}: none`")
        elif conduit.service != "uplink" and conduit.authentication not in _GO_TOGETHER[conduit.encryption]:
            message = f"`{conduit.authentication}` does not go with `encryption: {conduit.encryption}`"
            hint = f"with it goes: {' or '.join(_GO_TOGETHER[conduit.encryption])}"
            yield finding((*path, "authentication"), message, hint)


_GO_TOGETHER = {
    "tls-1.3": ("mutual-tls", "server-tls", "signatures"),
    "signed-content": ("signatures",),
    "none": ("none",),
}


RULES: tuple[Rule, ...] = (
    modules_for_the_ruleset,
    *rules_links.RULES,
    *rules_zones.RULES,
    *rules_conduits.RULES,
    *rules_flows.RULES,
    services_have_their_conduits,
    protection_is_said_consistently,
    *rules_neighbours.RULES,
)
