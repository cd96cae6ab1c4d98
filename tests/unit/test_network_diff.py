"""What a change of policy means: by packets, field by field, and whether a pipeline has to stop."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from appliance.formats.network_policy import Conduit, NetworkPolicy, Rate, Slot
from builder.network.diff import Change, difference_data, difference_text, differences
from tests.support.policies import conduit, everything, synthetic, tiny, zone

replace = msgspec.structs.replace
Row = tuple[str, NetworkPolicy, NetworkPolicy, list[tuple[str, str, bool, tuple[str, ...]]]]


def base() -> NetworkPolicy:
    """One conduit to one host, and a slot that another one uses."""
    slot = Slot(name="time", within=("192.168.20.8/29",), most=2, purpose="clocks")
    clock = conduit("clock", "device", "site", "udp", service="network", ports=(123,), slot="time")
    broker = conduit(
        "broker",
        "device",
        "site",
        "tcp",
        service="uplink",
        ports=("8880-8883",),
        peers=("192.168.20.4/31",),
        encryption="tls-1.3",
        authentication="mutual-tls",
    )
    return replace(tiny(), slots=(slot,), conduits=(broker, clock))


def broker(**more: Any) -> NetworkPolicy:
    """`base`, with another broker."""
    return replace(base(), conduits=(replace(base().conduits[0], **more), *base().conduits[1:]))


def limited(**more: int) -> NetworkPolicy:
    return broker(rate=replace(base().conduits[0].rate, **more))


def slotted(**more: Any) -> NetworkPolicy:
    return replace(base(), slots=(replace(base().slots[0], **more),))


def zoned(**more: Any) -> NetworkPolicy:
    return replace(base(), zones=(replace(base().zones[0], **more),))


def with_conduits(*conduits: Conduit) -> NetworkPolicy:
    return replace(base(), conduits=conduits)


B, CLOCK = base().conduits
FACTS = ("device to site, uplink, tcp 8880-8883, tls-1.3, mutual-tls", "192.168.20.4/31")
HALF = {"rate": Rate(packets=100, burst=50, new=5, connections=2)}

ONE_FIELD: list[tuple[NetworkPolicy, str, str]] = [
    (broker(ports=("8880-8884",)), "ports: also 8884", "ports: no longer 8884"),
    (broker(peers=("192.168.20.4/30",)), "peers: also 192.168.20.6/31", "peers: no longer 192.168.20.6/31"),
    (limited(packets=201), "limit: 201 packets/s instead of 200", "limit: 200 packets/s instead of 201"),
    (limited(burst=101), "limit: 101 packets at once instead of 100", "limit: 100 packets at once instead of 101"),
    (limited(new=11), "limit: 11 new/s instead of 10", "limit: 10 new/s instead of 11"),
    (limited(connections=5), "limit: 5 connections instead of 4", "limit: 4 connections instead of 5"),
    (
        broker(encryption="signed-content"),
        "encryption: weaker, signed-content instead of tls-1.3",
        "encryption: stronger, tls-1.3 instead of signed-content",
    ),
    (
        broker(authentication="server-tls"),
        "authentication: weaker, server-tls instead of mutual-tls",
        "authentication: stronger, mutual-tls instead of server-tls",
    ),
]
"""A wider policy than `base`, the one detail of the change to it, and of the change back."""


@pytest.mark.parametrize(("wider", "there", "back"), ONE_FIELD, ids=[row[1] for row in ONE_FIELD])
def test_a_field_that_is_wider_or_narrower(wider: NetworkPolicy, there: str, back: str) -> None:
    assert differences(base(), wider) == (Change("widened", "conduit", "broker", (there,), True),)
    assert differences(wider, base()) == (Change("narrowed", "conduit", "broker", (back,), False),)


ROWS: list[Row] = [
    ("nothing", base(), base(), []),
    ("opened", with_conduits(CLOCK), base(), [("opened", "broker", True, FACTS)]),
    ("closed", base(), with_conduits(CLOCK), [("closed", "broker", False, FACTS)]),
    ("another name", base(), broker(id="mqtt"), [("renamed", "mqtt", False, ("called broker before",))]),
    (
        "another name and a port more",
        base(),
        broker(id="mqtt", ports=("8880-8884",)),
        [("widened", "mqtt", True, ("called broker before", "ports: also 8884"))],
    ),
    (
        "the same packets, written in another way",
        base(),
        broker(ports=("8880-8881", 8882, 8883), peers=("192.168.20.5", "192.168.20.4")),
        [],
    ),
    (
        "another service: no port more, and yet new packets",
        base(),
        broker(service="update"),
        [("widened", "broker", True, ("service: update instead of uplink",))],
    ),
    (
        "words only",
        base(),
        broker(owner="plant IT", review="2028-06-30"),
        [
            (
                "changed",
                "broker",
                False,
                ("owner: plant IT instead of OT security", "review: 2028-06-30 instead of 2027-06-30"),
            )
        ],
    ),
    (
        "two ways to authenticate that cannot be compared",
        broker(authentication="server-tls"),
        broker(authentication="signatures"),
        [("widened", "broker", True, ("authentication: signatures instead of server-tls",))],
    ),
    (
        "two conduits merged, with ports between them",
        with_conduits(replace(B, ports=(80,)), replace(B, id="b", ports=(83,)), CLOCK),
        with_conduits(replace(B, ports=("80-83",)), CLOCK),
        [("widened", "broker", True, ("ports: also 81-83",)), ("merged", "b", False, ("merged into broker",))],
    ),
    (
        "two conduits merged, and nothing new",
        with_conduits(replace(B, ports=(80,)), replace(B, id="b", ports=(81,)), CLOCK),
        with_conduits(replace(B, ports=("80-81",)), CLOCK),
        [("merged", "b", False, ("merged into broker",)), ("changed", "broker", False, ("ports: also 81",))],
    ),
    (
        "merged into one that protects less",
        with_conduits(replace(B, ports=(80,), encryption="none"), replace(B, id="b", ports=(81,)), CLOCK),
        with_conduits(replace(B, ports=("80-81",), encryption="none"), CLOCK),
        [
            (
                "widened",
                "broker",
                True,
                ("ports: also 81", "encryption: weaker, none instead of tls-1.3, for packets of b"),
            ),
            ("merged", "b", False, ("merged into broker",)),
        ],
    ),
    (
        "packets moved to a neighbour that protects less",
        with_conduits(replace(B, ports=(80,), encryption="none"), replace(B, id="b", ports=("81-82",)), CLOCK),
        with_conduits(replace(B, ports=("80-81",), encryption="none"), replace(B, id="b", ports=(82,)), CLOCK),
        [
            (
                "widened",
                "broker",
                True,
                ("ports: also 81", "encryption: weaker, none instead of tls-1.3, for packets of b"),
            ),
            ("narrowed", "b", False, ("ports: no longer 81",)),
        ],
    ),
    (
        "split, each part with the limits of the whole",
        with_conduits(B),
        with_conduits(replace(B, ports=("8880-8881",)), replace(B, id="b", ports=("8882-8883",))),
        [
            (
                "widened",
                "b",
                True,
                (
                    "was part of broker",
                    "limit: together 400 packets/s instead of 200, for packets of broker",
                    "limit: together 200 packets at once instead of 100, for packets of broker",
                    "limit: together 20 new/s instead of 10, for packets of broker",
                    "limit: together 8 connections instead of 4, for packets of broker",
                ),
            ),
            ("narrowed", "broker", False, ("ports: no longer 8882-8883",)),
        ],
    ),
    (
        "split, with the limits shared out",
        with_conduits(replace(B, rate=Rate(packets=200, burst=100, new=10, connections=4))),
        with_conduits(replace(B, ports=("8880-8881",), **HALF), replace(B, id="b", ports=("8882-8883",), **HALF)),
        [
            (
                "narrowed",
                "broker",
                False,
                (
                    "ports: no longer 8882-8883",
                    "limit: 100 packets/s instead of 200",
                    "limit: 50 packets at once instead of 100",
                    "limit: 5 new/s instead of 10",
                    "limit: 2 connections instead of 4",
                ),
            ),
            ("split", "b", False, ("was part of broker",)),
        ],
    ),
    (
        "closed, and yet open in part",
        with_conduits(replace(B, ports=(80,)), replace(B, id="b", ports=("81-82",))),
        with_conduits(replace(B, ports=("80-81",))),
        [
            (
                "closed",
                "b",
                False,
                (
                    "device to site, uplink, tcp 81-82, tls-1.3, mutual-tls",
                    "192.168.20.4/31",
                    "still open in part by broker",
                ),
            ),
            ("changed", "broker", False, ("ports: also 81",)),
        ],
    ),
    (
        "hosts that the site may choose from now on",
        base(),
        slotted(within=("192.168.20.0/24",)),
        [
            ("widened", "clock", True, ("peers: also 192.168.20.0/29, 192.168.20.16-192.168.20.255",)),
            ("widened", "time", True, ("bounds: also 192.168.20.0/29, 192.168.20.16-192.168.20.255",)),
        ],
    ),
    ("more hosts in a slot", base(), slotted(most=3), [("widened", "time", True, ("at most 3 instead of 2",))]),
    ("fewer hosts in a slot", slotted(most=3), base(), [("narrowed", "time", False, ("at most 2 instead of 3",))]),
    (
        "another slot that holds more",
        replace(base(), slots=(*base().slots, replace(base().slots[0], name="more", most=9))),
        replace(
            base(),
            slots=(*base().slots, replace(base().slots[0], name="more", most=9)),
            conduits=(B, replace(CLOCK, slot="more")),
        ),
        [("widened", "clock", True, ("slot: more instead of time", "at most 9 instead of 2"))],
    ),
    (
        "a zone of which less is asked",
        base(),
        zoned(security_level=1),
        [("widened", "site", True, ("SL-T 1 instead of 2",))],
    ),
    (
        "of which more is asked",
        base(),
        zoned(security_level=3),
        [("narrowed", "site", False, ("SL-T 3 instead of 2",))],
    ),
    (
        "a larger zone alone lets nothing through",
        base(),
        zoned(prefixes=("192.168.20.0/23",)),
        [("changed", "site", False, ("prefixes: also 192.168.21.0/24",))],
    ),
    (
        "a zone more, to which no conduit leads",
        base(),
        replace(base(), zones=(*base().zones, zone("lab", "uplink0", "10.0.0.0/24"))),
        [("changed", "lab", False, ("added",))],
    ),
    (
        "the device's own address is no one else's",
        base(),
        replace(base(), links=(replace(base().links[0], addresses=("192.168.20.11/24",)),)),
        [("changed", "uplink0", False, ("addresses 192.168.20.11/24 instead of addresses 192.168.20.10/24",))],
    ),
    (
        "a device that may forward, and of which less is asked",
        base(),
        replace(base(), component_type="network", security_level=1),
        [("widened", "device", True, ("SL-T 1 instead of 2", "component type network instead of embedded"))],
    ),
]


@pytest.mark.parametrize(("what", "old", "new", "expected"), ROWS, ids=[row[0] for row in ROWS])
def test_differences(what: str, old: NetworkPolicy, new: NetworkPolicy, expected: list[Any]) -> None:
    found = [(change.kind, change.id, change.widens, change.details) for change in differences(old, new)]
    assert found == expected, what


def test_nothing_in_everything() -> None:
    assert differences(everything(), everything()) == ()
    assert difference_text(difference_data(())) == "no difference"


def test_a_conduit_that_reaches_another_link_is_wider() -> None:
    policy = everything()
    zones = tuple(replace(one, link="camera0") if one.id == "cell-10" else one for one in policy.zones)
    found = {change.id: change for change in differences(policy, replace(policy, zones=zones))}
    assert found["results"].kind == "widened"
    assert found["cell-10"].details == ("link: camera0 instead of cell10",)


def test_order_and_data() -> None:
    """What widens stands first; data says what text says."""
    changes = differences(with_conduits(B), with_conduits(CLOCK, replace(B, review="2028-06-30")))
    assert [(change.kind, change.id) for change in changes] == [("opened", "clock"), ("changed", "broker")]
    data = difference_data(changes)
    assert data["widens"] is True
    assert [change["id"] for change in data["changes"]] == ["clock", "broker"]
    assert difference_text(data).splitlines()[0] == "! opened   conduit clock"
    assert difference_text(data).splitlines()[-1] == "1 of 2 changes allow more than before"


def test_a_large_policy_is_compared_in_reasonable_time() -> None:
    """Indexes, not pairs: 300 conduits against 300 renamed ones."""
    old = synthetic(8, 300)
    new = replace(old, conduits=tuple(replace(one, id=f"new-{one.id}") for one in old.conduits))
    assert {change.kind for change in differences(old, new)} == {"renamed"}
