"""Compiled rulesets in real kernels: this machine's nft and the device's take them, again and again, slots and all."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.core.errors import InputError
from appliance.formats.conduit_elements import conduit_elements
from appliance.formats.network_policy import NetworkPolicy
from builder.cli.main import main
from builder.cli.network import COMMANDS
from builder.host.netfilter import load_and_list
from builder.host.paths import source_root
from builder.host.run import run
from builder.host.toolstree import tools_tree
from builder.network.ruleset import compile_ruleset
from builder.profile.load import load_profile, profile_names
from builder.review.network_proof import filling
from tests.support.policies import UIDS, everything, synthetic, tiny

POLICIES: dict[str, NetworkPolicy] = {
    **{name: load_profile(name).network for name in profile_names()},
    "tiny": tiny(),
    "everything": everything(),
    "64 zones and 2,000 conduits": synthetic(64, 2000),
}
FIRST = {"broker": ("192.168.20.5", "192.168.20.6"), "broker-v6": ("2001:db8:20::5",)}
SITE = source_root() / "profiles" / "sites" / "plant-4.yaml"


def ruleset_of(name: str) -> bytes:
    return compile_ruleset(POLICIES[name], name="x", uids=UIDS)


def in_namespace(path: Path, script: str) -> str:
    """Run nft commands of this machine's nft in a network namespace of their own."""
    words = ["unshare", "--net", "--", "sh", "-euc", script, "sh", str(path)]
    return run(words, reason="load a ruleset").decode()


@pytest.mark.parametrize("name", POLICIES)
def test_this_machines_nft_takes_it(name: str, tmp_path: Path) -> None:
    path = tmp_path / "nftables.conf"
    path.write_bytes(ruleset_of(name))
    tables = in_namespace(path, 'nft --file "$1"; nft list tables')
    assert tables.splitlines() == ["table inet edgeseal", "table arp edgeseal"]


@pytest.mark.parametrize("name", POLICIES)
def test_the_nft_of_the_device_takes_it(name: str) -> None:
    """Every element is there: the kernel merges and drops nothing of what the compiler wrote."""
    listing = load_and_list(ruleset_of(name), tools=tools_tree(), name=name)
    elements = conduit_elements(POLICIES[name], {})
    assert elements
    assert listing.text.count(": goto -> c_") + listing.text.count(": goto -> b_") + listing.text.count(
        ": goto -> a_"
    ) == len(elements)


def test_loading_again_replaces_it_at_once(tmp_path: Path) -> None:
    """A rule that somebody added is gone, and no rule is there twice."""
    path = tmp_path / "nftables.conf"
    path.write_bytes(ruleset_of("everything"))
    script = (
        'nft --file "$1"; nft list ruleset >"$1.before"; nft insert rule inet edgeseal input accept; '
        'nft --file "$1"; nft list ruleset | diff "$1.before" - && echo same'
    )
    assert in_namespace(path, script) == "same\n"


def test_another_address_in_a_slot_is_one_transaction(tmp_path: Path) -> None:
    """Filled, filled otherwise, emptied: what is left is what was there before."""
    policy = everything()
    rulesets = {
        "empty": ruleset_of("everything"),
        "first": filling(policy, FIRST),
        "second": filling(policy, {"broker": ("192.168.20.7",)}),
    }
    for name, content in rulesets.items():
        (tmp_path / name).write_bytes(content)
    before = set(conduit_elements(policy, FIRST)) - set(conduit_elements(policy, {}))
    undone = [f"delete element {each.table} edgeseal {each.map} {{ {each.key_text()} }}\n" for each in before]
    (tmp_path / "change").write_bytes("".join(undone).encode() + rulesets["second"])
    script = (
        'cd "$1"; nft -f empty; nft -f first; nft -f change; '
        "nft list map inet edgeseal out_uplink0_uplink_4; nft list map inet edgeseal out_lo_uplink_4"
    )
    listed = in_namespace(tmp_path, script)
    assert "192.168.20.7 . tcp . 8883 : goto c_broker" in listed
    assert "192.168.20.5" not in listed
    assert "127.0.0.1 . tcp . 8001 : goto c_models" in listed


def test_two_slots_with_one_server(tmp_path: Path) -> None:
    """Both repositories of a plant on one host and port: no key is there twice, so the kernel takes it."""
    policy = load_profile("industrial-pc").network
    filled = {"vendor-repository": ("192.168.21.6",), "site-repository": ("192.168.21.6",)}
    ruleset = compile_ruleset(policy, name="x", uids=UIDS) + filling(policy, filled)
    assert load_and_list(ruleset, tools=tools_tree(), name="both").text.count("goto -> c_site-repository") == 0


def test_check_fills_the_slots_and_loads_the_ruleset(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["network", "check", "industrial-pc", "--site", str(SITE)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "profiles/industrial-pc.yaml: 5 zones, 15 conduits, nothing wrong"
    assert "slot broker: filled with 192.168.20.5, 192.168.20.8; open: broker" in lines
    assert lines[-1].endswith("; a kernel takes it")


def test_check_without_a_sites_file_leaves_slots_closed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["network", "check", "smart-camera"]) == 0
    assert "slot broker: not filled; closed: broker" in capsys.readouterr().out


def test_check_refuses_a_sites_file_outside_its_bounds(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text("schema: 1\nslots:\n  broker: [203.0.113.5]\n")
    assert main(["network", "check", "smart-camera", "--site", str(site)]) == 2
    assert capsys.readouterr().err == (
        f"error: {site}:3: slots.broker[0]: `203.0.113.5` is outside its bounds (192.168.20.0/24)\n"
        "hint: correct it, or have the policy changed\n"
    )


def test_a_ruleset_that_the_kernel_refuses_is_an_error() -> None:
    with pytest.raises(InputError, match="cannot load x into a network namespace"):
        load_and_list(b"table inet edgeseal { chain input { goto nowhere; }; }\n", tools=tools_tree(), name="x")


def test_the_commands_are_complete() -> None:
    assert [command.path[1] for command in COMMANDS] == ["show", "diff", "check", "credential", "prove"]
