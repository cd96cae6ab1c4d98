"""The compiled ruleset: closed wherever no conduit opens it, flat, and the same bytes every time."""

from __future__ import annotations

import re

import msgspec
import pytest

from appliance.core.errors import InputError
from appliance.formats.network_policy import NetworkPolicy
from builder.network.ruleset import compile_ruleset
from tests.support.policies import UIDS, everything, synthetic, tiny

replace = msgspec.structs.replace


def lines_of(policy: NetworkPolicy) -> list[str]:
    return [line.strip() for line in compile_ruleset(policy, name="x", uids=UIDS).decode().splitlines()]


def chains_of(policy: NetworkPolicy) -> dict[str, list[str]]:
    """name → rules; the chains of the table arp begin with `arp/`."""
    chains: dict[str, list[str]] = {}
    table, name = "", None
    for line in lines_of(policy):
        if line == "table arp edgeseal {":
            table = "arp/"
        if match := re.match(r"chain (\S+) \{", line):
            name = table + match[1]
            chains[name] = []
        elif line == "}":
            name = None
        elif name is not None and not line.startswith("#"):
            chains[name].append(line)
    return chains


@pytest.mark.parametrize("policy", [tiny(), everything(), synthetic(4, 12)], ids=["tiny", "everything", "synthetic"])
def test_every_base_chain_drops_and_only_conduits_accept(policy: NetworkPolicy) -> None:
    chains = chains_of(policy)
    bases = {name: rules[0] for name, rules in chains.items() if rules and rules[0].startswith("type filter")}
    assert sorted(bases) == ["arp/input", "arp/output", "forward", "input", "output"]
    assert all(first.endswith("priority filter; policy drop;") for first in bases.values())
    own = {f"{letter}_{one.id}" for one in policy.conduits for letter in "cbal"}
    accepting = {name for name, rules in chains.items() if any("accept" in rule for rule in rules)}
    assert {name.removeprefix("arp/") for name in accepting} <= own


def test_every_chain_of_a_conduit_ends_with_a_verdict() -> None:
    """Maps go to them with `goto`: what fell out at their end would be judged by nobody."""
    for name, rules in chains_of(everything()).items():
        if re.match(r"(arp/)?[cbalrnx]_", name):
            assert re.search(r"(accept|drop|goto \S+)$", rules[-1]), name


def test_no_policy_makes_evaluation_longer() -> None:
    """2,000 conduits have more elements and chains of their own, and not one rule more on the way to them."""

    def ways(policy: NetworkPolicy) -> dict[str, list[str]]:
        return {name: rules for name, rules in chains_of(policy).items() if not re.match(r"(arp/)?[cbalrn]_", name)}

    assert ways(synthetic(8, 24)) == ways(synthetic(8, 2000))


def test_the_same_bytes_again() -> None:
    first = compile_ruleset(everything(), name="x", uids=UIDS)
    assert first == compile_ruleset(everything(), name="x", uids=dict(reversed(UIDS.items())))


def test_no_lookup_of_a_range_has_an_interface_in_its_key() -> None:
    """A field of 16 bytes makes such a lookup many times slower: links are told apart before, by an exact one."""
    policy = everything()
    types = [line for line in lines_of(policy) if line.startswith("type ") and " hook " not in line]
    assert types and not [line for line in types if "ifname" in line]
    chains = chains_of(policy)
    for base, selector in (("input", "iifname"), ("output", "oifname"), ("forward", "iifname")):
        assert chains[base][1].startswith(f"{selector} vmap {{ ")
        links = ("uplink0", "cell10", "cell20", "camera0")
        assert [link in chains[base][1] for link in (*links, "trunk0")] == [True] * len(links) + [False]


def test_each_link_believes_its_own_sources() -> None:
    chains = chains_of(everything())
    assert chains["from_cell10"] == [
        "ip saddr != @sources4_cell10 goto x_in-spoofed",
        "ip saddr @self4 goto x_in-spoofed",
        "meta nfproto ipv6 goto x_in-spoofed",
    ]
    assert chains["to_cell10"] == [
        "ip saddr != @own4_cell10 goto x_out-spoofed",
        "meta nfproto ipv6 goto x_out-spoofed",
        "goto out_state",
    ]
    assert chains["arp/in_cell10"][0] == "arp saddr ip @self4 goto x_arp-in-spoofed"
    assert chains["in_cell10"][0] == chains["fwd_cell10"][0] == "jump from_cell10"


def test_a_link_without_an_address_sends_and_hears_by_any() -> None:
    """Where the address is not known before: the zone's prefixes are the bounds, and there is nothing to compare."""
    link, *others = tiny().links
    chains = chains_of(replace(tiny(), links=(replace(link, addresses=(), gateway=None), *others)))
    assert chains["to_uplink0"] == ["meta nfproto ipv6 goto x_out-spoofed", "goto out_state"]
    assert not [rule for rule in chains["in_uplink0"] if "daddr" in rule]
    assert chains["arp/in_uplink0"][0].startswith("arp htype 1 ")
    assert "arp/x_arp-in-spoofed" not in chains


def test_an_unfilled_slot_opens_nothing() -> None:
    policy = everything()
    of_slots = {f"goto c_{one.id}" for one in policy.conduits if one.slot is not None}
    assert of_slots
    assert not [line for line in lines_of(policy) if any(line.rstrip(",").endswith(goto) for goto in of_slots)]


def test_a_host_does_not_forward() -> None:
    chain = chains_of(tiny())["forward"]
    assert chain[1:] == ["goto x_fwd-no-conduit"]


def test_limits_of_a_conduit() -> None:
    chains = chains_of(tiny())
    assert chains["c_broker"] == [
        "limit rate over 200/second burst 100 packets goto r_broker",
        "ct state new limit rate over 10/second burst 10 packets goto r_broker",
        "ct state new ct count over 4 goto n_broker",
        "counter accept",
    ]
    assert chains["b_broker"] == ["limit rate over 200/second burst 100 packets goto r_broker", "counter accept"]
    assert chains["r_broker"] == [
        'limit rate 5/second burst 20 packets log prefix "edgeseal rate-broker " group 3 snaplen 96',
        "counter drop",
    ]
    assert chains["arp/c_arp-to-site"] == [
        "limit rate over 10/second burst 100 packets goto r_arp-to-site",
        "counter accept",
    ]


def test_the_reason_of_the_longest_conduit_fits() -> None:
    """The kernel cuts a prefix at 127 bytes."""
    named = replace(tiny().conduits[0], id="x" * 63)
    text = "\n".join(lines_of(replace(tiny(), conduits=(named,))))
    assert max(len(prefix) for prefix in re.findall(r'prefix "([^"]*)"', text)) <= 127


@pytest.mark.parametrize(
    ("uids", "message"),
    [
        ({"update": 704}, "the service `uplink` has a conduit, but no user"),
        ({**UIDS, "update": 702, "inference": 704}, "the services `update` and `uplink` have one user, 702"),
    ],
)
def test_refusals(uids: dict[str, int], message: str) -> None:
    conduits = tiny().conduits
    policy = replace(tiny(), conduits=(*conduits, replace(conduits[0], id="second", service="update", ports=(443,))))
    with pytest.raises(InputError) as refused:
        compile_ruleset(policy, name="x", uids=uids)
    assert str(refused.value) == message
