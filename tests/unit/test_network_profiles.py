"""What the policies of the shipped profiles promise, what else a policy may say, and what systemd-networkd is told."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.formats.network_policy import decode_network_policy
from builder.profile.document import decode_document
from builder.profile.load import load_profile, profile_names
from builder.profile.rules_network import RULES
from builder.profile.types import Profile
from builder.rootfs.entries import File, RootPlan
from builder.rootfs.files import Sealed, profile_files
from builder.rootfs.network_files import FORWARDING, network_files
from tests.support.policies import everything

DIRECTORY = "usr/lib/systemd/network"
DOCUMENT = decode_document((Path(__file__).parent / "data" / "line-3.yaml").read_bytes(), file="line-3.yaml").value
CLOSED = [
    "DHCP=no",
    "IPv6AcceptRA=no",
    "LinkLocalAddressing=no",
    "EmitLLDP=no",
    "LLDP=no",
    "LLMNR=no",
    "MulticastDNS=no",
]


def lines(plan: RootPlan, path: str) -> list[str]:
    entry = plan[path]
    assert isinstance(entry, File)
    return entry.read().decode().splitlines()


def faults(change: Callable[[Any], object]) -> list[str]:
    """What the rules say of line-3, changed."""
    value = copy.deepcopy(DOCUMENT)
    change(value)
    profile = msgspec.convert(value, Profile)
    return [found.message for rule in RULES for found in rule(profile)]


# ---- what the shipped profiles promise


def test_nobody_begins_a_connection_to_the_camera() -> None:
    inbound = [one for one in load_profile("smart-camera").network.conduits if one.from_zone != "device"]
    assert [(one.protocol, one.messages) for one in inbound] == [("arp", ("request", "reply"))]


def test_the_gateway_keeps_its_cell_on_a_wire_of_its_own() -> None:
    policy = load_profile("npu-gateway").network
    links = {link.name: link for link in policy.links}
    wires = {kind: {zone.link for zone in policy.zones if zone.kind == kind} for kind in ("ot-cell", "site")}
    assert len(wires["ot-cell"]) == len(wires["site"]) == 1
    (cell,), (site,) = wires["ot-cell"], wires["site"]
    assert links[cell].driver != links[site].driver
    assert links[cell].vlan is links[site].vlan is None


def test_the_cameras_of_the_industrial_pc_cannot_see_each_other() -> None:
    policy = load_profile("industrial-pc").network
    cameras = {zone.id: zone.link for zone in policy.zones if zone.kind == "camera"}
    assert len(cameras) == len(set(cameras.values())) >= 3
    assert policy.component_type == "embedded"
    assert all("device" in (one.from_zone, one.to_zone) for one in policy.conduits)


@pytest.mark.parametrize("name", profile_names())
def test_every_peer_of_a_board_is_a_slot(name: str) -> None:
    policy = load_profile(name).network
    named = {one.id for one in policy.conduits if one.protocol == "tcp" and one.slot is None}
    assert named == ({"vendor-repository", "site-repository"} if name.startswith("virtual-") else set())


@pytest.mark.parametrize("name", profile_names())
def test_the_image_holds_the_policy(name: str) -> None:
    profile = load_profile(name)
    plan = profile_files(profile, Sealed(recovery_pem=b"PEM", ipe_policy=b"CMS", development=True))
    sealed = plan["usr/lib/edgeseal/network.json"]
    assert isinstance(sealed, File)
    assert decode_network_policy(sealed.read()) == profile.network


# ---- what else a policy may say


def conduit(value: Any, name: str) -> Any:
    return next(one for one in value["network"]["conduits"] if one["id"] == name)


def vlan(value: Any) -> None:
    value["hardware"]["modules"].append("8021q")
    value["network"]["links"][1] |= {"addresses": []}
    value["network"]["links"].append(
        {"name": "cell31", "vlan": {"parent": "cell0", "tag": 31}, "addresses": ["198.51.100.10/24"]}
    )
    value["network"]["zones"][1]["link"] = "cell31"


def forwarding(value: Any) -> None:
    value["network"]["component_type"] = "network"
    through = conduit(value, "releases") | {"id": "through", "from": "cell", "to": "site", "targets": ["192.0.2.1"]}
    del through["service"]
    value["network"]["conduits"].append(through)


def loopback(value: Any) -> None:
    inner = conduit(value, "releases") | {"id": "inner", "from": "loopback", "to": "loopback", "listener": "uplink"}
    del inner["peers"]
    value["network"]["conduits"].append(inner)


def sticks_only(value: Any) -> None:
    value["hardware"]["usb_classes"] = ["08"]
    value["hardware"]["modules"] += ["usb_storage", "sd_mod"]
    del value["network"]["slots"]
    keep = [one for one in value["network"]["conduits"] if one["service"] != "update"]
    value["network"]["conduits"] = keep


def two_ports_of_one_driver(value: Any) -> None:
    first, second = value["network"]["links"]
    first |= {"place": "pci-0000:02:00.0"}
    second |= {"driver": "igc", "place": "pci-0000:03:00.0"}


def three_zones(value: Any) -> None:
    """The same port of two hosts of one link that are in different zones."""
    value["network"]["zones"][1]["prefixes"] = ["198.51.100.0/25"]
    dmz = value["network"]["zones"][1] | {"id": "dmz", "prefixes": ["198.51.100.128/25"], "kind": "vendor-dmz"}
    value["network"]["zones"].append(dmz)
    for name in ("arp-to-cell", "arp-from-cell"):
        conduit(value, name)["peers"] = ["198.51.100.0/25"]
        other = conduit(value, name) | {"id": name.replace("cell", "dmz"), "peers": ["198.51.100.128/25"]}
        other |= {key: "dmz" for key in ("from", "to") if other[key] == "cell"}
        value["network"]["conduits"].append(other)
    other = conduit(value, "releases") | {"id": "more", "to": "dmz", "peers": ["198.51.100.130"]}
    value["network"]["conduits"].append(other)


@pytest.mark.parametrize(
    "change",
    [vlan, forwarding, loopback, sticks_only, two_ports_of_one_driver, three_zones],
    ids=lambda one: one.__name__,
)
def test_a_policy_may_also_have(change: Callable[[Any], object]) -> None:
    assert faults(change) == []


def test_without_the_conduit_that_forwards_it_is_no_network_component() -> None:
    def change(value: Any) -> None:
        forwarding(value)
        value["network"]["conduits"].pop()

    assert faults(change) == [
        "network.component_type: `network`, but no conduit joins two zones: the kernel would forward for nothing"
    ]


def test_forwarding_needs_both_ends_and_no_service() -> None:
    def change(value: Any) -> None:
        forwarding(value)
        value["network"]["conduits"][-1] |= {"targets": [], "service": "update"}

    assert faults(change) == [
        "network.conduits[7].service: `update`, but both ends are zones: no service of the device takes part",
        "network.conduits[7].targets: none: who answers?",
    ]


# ---- what systemd-networkd is told


def test_a_port_is_found_by_driver_and_place() -> None:
    plan = network_files(load_profile("industrial-pc").network)
    assert lines(plan, f"{DIRECTORY}/10-uplink0.link")[:3] == ["[Match]", "Driver=igc", "Path=pci-0000:02:00.0"]
    assert lines(plan, f"{DIRECTORY}/10-cameras0.link")[:3] == ["[Match]", "Driver=igc", "Path=pci-0000:03:00.0"]
    assert "Path=" not in "".join(
        lines(network_files(load_profile("smart-camera").network), f"{DIRECTORY}/10-uplink0.link")
    )


def test_a_trunk_carries_its_vlans_and_nothing_else() -> None:
    plan = network_files(load_profile("industrial-pc").network)
    trunk = lines(plan, f"{DIRECTORY}/10-cameras0.network")
    assert [line for line in trunk if line.startswith(("VLAN=", "Address="))] == [
        "VLAN=camera1",
        "VLAN=camera2",
        "VLAN=camera3",
    ]
    assert lines(plan, f"{DIRECTORY}/10-camera2.netdev") == [
        "[NetDev]",
        "Name=camera2",
        "Kind=vlan",
        "",
        "[VLAN]",
        "Id=102",
    ]
    assert f"{DIRECTORY}/10-camera2.link" not in plan
    assert "Address=10.31.2.1/24" in lines(plan, f"{DIRECTORY}/10-camera2.network")


@pytest.mark.parametrize("name", profile_names())
def test_nothing_that_comes_over_the_network_configures_a_link(name: str) -> None:
    policy = load_profile(name).network
    plan = network_files(policy)
    networks = [path for path in plan if path.endswith(".network")]
    assert networks == [f"{DIRECTORY}/10-{link.name}.network" for link in policy.links]
    for path in networks:
        assert set(CLOSED) <= set(lines(plan, path))


def test_only_a_network_component_forwards() -> None:
    assert lines(network_files(everything()), FORWARDING)[-1] == "net.ipv4.conf.all.forwarding = 1"
    for name in profile_names():
        assert FORWARDING not in network_files(load_profile(name).network)
