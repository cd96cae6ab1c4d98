"""Policy and site network: any value survives, any bytes are refused by our own error, nothing fills beyond bounds."""

from __future__ import annotations

from ipaddress import IPv4Network, ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from appliance.core.errors import DecodeError, InputError
from appliance.formats.network_policy import (
    NetworkPolicy,
    Slot,
    decode_network_policy,
    encode_network_policy,
)
from appliance.formats.site_network import SiteNetwork, decode_site_network, encode_site_network, fill
from tests.support.policies import everything, tiny

NAMES = st.sampled_from(["broker", "mirror", "time"])
PREFIXES = st.builds(
    lambda address, length: str(IPv4Network((address, length), strict=False)),
    st.integers(0x0A000000, 0x0A000FFF),
    st.integers(20, 32),
)
SLOTS = st.lists(
    st.builds(
        lambda name, within, most: Slot(name=name, within=tuple(within), most=most, purpose="a peer"),
        NAMES,
        st.lists(PREFIXES, min_size=1, max_size=3),
        st.integers(1, 4),
    ),
    max_size=3,
    unique_by=lambda slot: slot.name,
)
ADDRESSES = st.integers(0x0A000000, 0x0A0010FF).map(lambda number: str(ip_address(number))) | st.from_regex(
    r"[0-9a-f.:]{1,20}", fullmatch=True
)
SITES = st.builds(
    lambda slots: SiteNetwork(schema=1, slots={name: tuple(found) for name, found in slots.items()}),
    st.dictionaries(NAMES, st.lists(ADDRESSES, max_size=5), max_size=3),
)
POLICIES = (tiny(), everything())
EXAMPLE = encode_network_policy(tiny())


@given(SITES)
def test_a_site_survives(site: SiteNetwork) -> None:
    assert decode_site_network(encode_site_network(site)) == site


@given(st.sampled_from(POLICIES))
def test_a_policy_survives(policy: NetworkPolicy) -> None:
    assert decode_network_policy(encode_network_policy(policy)) == policy


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes(data: bytes) -> None:
    for decode in (decode_network_policy, decode_site_network):
        try:
            decode(data)
        except DecodeError:
            continue
        raise AssertionError("nobody writes that by chance")


@given(st.integers(0, len(EXAMPLE)), st.binary(max_size=4), st.integers(0, 6))
def test_any_edit_of_a_policy(position: int, inserted: bytes, deleted: int) -> None:
    edited = EXAMPLE[:position] + inserted + EXAMPLE[position + deleted :]
    try:
        policy = decode_network_policy(edited)
    except DecodeError:
        return
    assert encode_network_policy(policy) == edited


@given(SLOTS, SITES)
def test_what_fills_a_slot_is_within_its_bounds(slots: list[Slot], site: SiteNetwork) -> None:
    policy = NetworkPolicy(security_level=2, links=(), zones=(), slots=tuple(slots), conduits=())
    try:
        filled = fill(policy, site)
    except InputError as error:
        assert error.hint
        return
    assert set(filled) == set(site.slots)
    for slot in slots:
        addresses = filled.get(slot.name, ())
        assert len(addresses) == len(set(addresses)) <= slot.most
        assert all(any(ip_address(one) in ip_network(bound) for bound in slot.within) for one in addresses)
