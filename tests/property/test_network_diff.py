"""Differences of policies that nobody thought of: none with itself, and whatever is wider is seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.formats.network_policy import Conduit, NetworkPolicy, Rate, Slot
from builder.network.diff import differences
from tests.support.policies import conduit, tiny

replace = msgspec.structs.replace
PROTECTIONS = [("none", "none"), ("signed-content", "signatures"), ("tls-1.3", "server-tls"), ("tls-1.3", "mutual-tls")]

_hosts = st.integers(1, 120).map(lambda host: f"192.168.20.{host}")
_ports = st.lists(st.integers(1000, 1100), min_size=1, max_size=4, unique=True).map(tuple)
_rates = st.builds(
    Rate,
    packets=st.integers(10, 1000),
    burst=st.integers(10, 1000),
    new=st.integers(1, 100),
    connections=st.integers(1, 100),
)


@st.composite
def conduits(draw: st.DrawFn, name: str) -> Conduit:
    ends = draw(st.sampled_from([("device", "site"), ("site", "device")]))
    encryption, authentication = draw(st.sampled_from(PROTECTIONS))
    peers = (
        {"slot": "hosts"} if draw(st.booleans()) else {"peers": tuple(draw(st.sets(_hosts, min_size=1, max_size=3)))}
    )
    return conduit(
        name,
        *ends,
        draw(st.sampled_from(["tcp", "udp"])),
        service=draw(st.sampled_from(["uplink", "update", "inference"])),
        ports=draw(_ports),
        rate=draw(_rates),
        encryption=encryption,
        authentication=authentication,
        **peers,
    )


@st.composite
def policies(draw: st.DrawFn) -> NetworkPolicy:
    slot = Slot(name="hosts", within=("192.168.20.128/28",), most=draw(st.integers(1, 8)), purpose="hosts")
    count = draw(st.integers(1, 4))
    return replace(
        tiny(), slots=(slot,), conduits=tuple(draw(conduits(f"conduit-{number}")) for number in range(count))
    )


Widening = Callable[[NetworkPolicy, Conduit], NetworkPolicy]


def _with(policy: NetworkPolicy, old: Conduit, **more: Any) -> NetworkPolicy:
    wider = replace(old, **more)
    return replace(policy, conduits=tuple(wider if one is old else one for one in policy.conduits))


def _rated(name: str) -> Widening:
    return lambda policy, one: _with(policy, one, rate=replace(one.rate, **{name: getattr(one.rate, name) + 1}))


def _slot(policy: NetworkPolicy, **more: Any) -> NetworkPolicy:
    return replace(policy, slots=(replace(policy.slots[0], **more),))


WIDENINGS: dict[str, Widening] = {
    "a port more": lambda policy, one: _with(policy, one, ports=(*one.ports, 9999)),
    "a range of ports": lambda policy, one: _with(policy, one, ports=(*one.ports, "2000-2010")),
    "a prefix more": lambda policy, one: _with(policy, one, slot=None, peers=("192.168.20.0/24",)),
    "packets": _rated("packets"),
    "burst": _rated("burst"),
    "new": _rated("new"),
    "connections": _rated("connections"),
    "a host more in the slot": lambda policy, _: _slot(policy, most=policy.slots[0].most + 1),
    "wider bounds of the slot": lambda policy, _: _slot(policy, within=("192.168.20.128/27",)),
    "a conduit more": lambda policy, one: replace(
        policy, conduits=(*policy.conduits, replace(one, id="x", ports=(22,)))
    ),
    "a lower SL-T of the device": lambda policy, _: replace(policy, security_level=1),
    "a lower SL-T of a zone": lambda policy, _: replace(policy, zones=(replace(policy.zones[0], security_level=1),)),
}


def _protects(one: Conduit) -> int:
    return PROTECTIONS.index((one.encryption, one.authentication))


@given(policies())
@settings(max_examples=20)
def test_no_difference_with_itself(policy: NetworkPolicy) -> None:
    assert differences(policy, policy) == ()


@given(policies(), st.data())
@settings(max_examples=60)
def test_whatever_is_wider_is_seen(policy: NetworkPolicy, data: st.DataObject) -> None:
    one = data.draw(st.sampled_from(policy.conduits))
    choices = sorted(WIDENINGS)
    what = data.draw(st.sampled_from(choices))
    assert any(change.widens for change in differences(policy, WIDENINGS[what](policy, one))), what


@given(policies(), st.data())
@settings(max_examples=30)
def test_weaker_protection_is_seen_and_stronger_one_is_welcome(policy: NetworkPolicy, data: st.DataObject) -> None:
    one = data.draw(st.sampled_from(policy.conduits))
    encryption, authentication = data.draw(st.sampled_from(PROTECTIONS))
    other = _with(policy, one, encryption=encryption, authentication=authentication)
    changed = next(two for two in other.conduits if two.id == one.id)
    widens = any(change.widens for change in differences(policy, other))
    assert widens or _protects(changed) >= _protects(one)
    assert not widens or _protects(changed) != _protects(one)


@given(policies())
@settings(max_examples=20)
def test_a_conduit_less_never_widens(policy: NetworkPolicy) -> None:
    assert not any(change.widens for change in differences(policy, replace(policy, conduits=policy.conduits[1:])))


@given(policies())
@settings(max_examples=20)
def test_names_decide_nothing(policy: NetworkPolicy) -> None:
    renamed = replace(policy, conduits=tuple(replace(one, id=f"new-{one.id}") for one in policy.conduits))
    assert not any(change.kind in ("opened", "closed") for change in differences(policy, renamed))
