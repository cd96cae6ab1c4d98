"""The proof of every shipped profile, with the ruleset taken back from this machine's kernel; and broken twins."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.core.errors import InputError
from builder.cli.main import main
from builder.host.netfilter import load_and_list
from builder.host.toolstree import tools_tree
from builder.network.comparison import Finding
from builder.network.evaluate import verdict
from builder.network.listing import bind_cgroups, read_listing
from builder.profile.load import load_profile, profile_names
from builder.review.network_proof import Subject, prove_always, prove_filled, take_back
from builder.rootfs.files import SERVICE_UIDS
from tests.support.policies import UIDS, everything, tiny
from tests.support.proof_packets import (
    DATA,
    cgroup_numbers,
    corner_packets,
    explored,
    spaces_of,
    symbolic_verdict,
)

EVERYTHING = Subject(everything(), "everything", UIDS)
FILLED = {"broker": ("192.168.20.5", "192.168.20.7"), "broker-v6": ("2001:db8:20::77",)}


# ---- what holds


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_accepts_what_its_conduits_allow_and_nothing_else(name: str) -> None:
    policy = load_profile(name).network
    cases = prove_always(Subject(policy, name, SERVICE_UIDS), tools=tools_tree())
    assert [finding.text for case in cases for finding in case.proof.findings] == []
    assert cases[-1].proof.conduits == tuple(sorted(conduit.id for conduit in policy.conduits))
    open_ones = {conduit.id for conduit in policy.conduits if conduit.slot is None}
    assert set(cases[0].proof.conduits) == open_ones


def test_so_does_a_policy_with_everything_in_it() -> None:
    for case in prove_always(EVERYTHING, tools=tools_tree()):
        assert [finding.text for finding in case.proof.findings] == []
    case = prove_filled(EVERYTHING, FILLED, tools=tools_tree(), what="filled")
    assert case.proof.holds
    assert len(case.proof.conduits) == len(everything().conduits)


def test_regions_and_single_packets_agree_about_a_real_ruleset() -> None:
    ruleset = bind_cgroups(take_back(EVERYTHING, FILLED, tools=tools_tree()), sorted(UIDS))
    accepted = 0
    for space in spaces_of(ruleset, sorted(UIDS)):
        outcomes = explored(ruleset, space)
        for number, packet in enumerate(corner_packets(outcomes, space, 300, seed=11)):
            over = number % 5 == 0
            found = verdict(ruleset, packet, cgroups=cgroup_numbers(space), over=over).verdict
            assert symbolic_verdict(outcomes, packet, space, over=over) == found, str(packet)
            accepted += found == "accept"
    assert accepted > 50


def test_the_kernel_gives_back_what_the_readers_are_tested_with() -> None:
    listing = load_and_list((DATA / "expressions.nft").read_bytes(), tools=tools_tree(), name="the expressions")
    stored = read_listing(
        (DATA / "expressions.listing.txt").read_text(), (DATA / "expressions.listing.json").read_text()
    )
    assert read_listing(listing.text, listing.objects) == stored


def test_what_the_kernel_refuses_is_an_input_error_with_its_words() -> None:
    with pytest.raises(InputError) as caught:
        load_and_list(b"table inet t { chain c { frobnicate } }", tools=tools_tree(), name="a ruleset")
    words = r"cannot load a ruleset into a network namespace: \S+ exited 1: /dev/stdin:1:\S+ Error: syntax error, .*"
    assert re.fullmatch(words, caught.value.message)
    assert caught.value.hint == (
        "the line that nft does not take is in its own words above; is the kernel's nf_tables there?"
    )


# ---- broken twins

TINY = Subject(tiny(), "tiny", UIDS)
Edit = Callable[[str], str]


def replaced(old: str, new: str) -> Edit:
    def edit(text: str) -> str:
        assert old in text, f"the compiled ruleset has no `{old}`"
        return text.replace(old, new, 1)

    return edit


def added(text: str) -> Edit:
    return lambda ruleset: ruleset + text


def into(chain: str, rule: str) -> Edit:
    """A rule in front of all others of a chain of the table inet."""

    def edit(text: str) -> str:
        found = re.search(rf"\n\tchain {chain} \{{\n(\t\ttype [^\n]*\n)?", text)
        assert found is not None, f"the compiled ruleset has no chain {chain}"
        return f"{text[: found.end()]}\t\t{rule}\n{text[found.end() :]}"

    return edit


def before(line: str, rule: str) -> Edit:
    """A rule in front of the one that stands in `line`."""
    return replaced(f"\t\t{line}\n", f"\t\t{rule}\n\t\t{line}\n")


STATES_IN = "ct state vmap { established : jump in_uplink0_established }"
IPV4_ONLY: tuple[Edit, ...] = (
    lambda text: text.replace("table inet edgeseal", "table ip edgeseal"),
    lambda text: re.sub(r"\n\t\t(ip6 |meta nfproto ipv6 )[^\n]*", "", text),
)


def without_ipv6(text: str) -> str:
    for edit in IPV4_ONLY:
        text = edit(text)
    return text


TWINS: tuple[tuple[str, Subject, Edit, str, str], ...] = (
    (
        "a port more",
        TINY,
        replaced("192.168.20.5 . 6 . 8883", "192.168.20.5 . 6 . 8883-8884"),
        "accepted",
        "input on uplink0: tcp from 192.168.20.5 port 8884 to 192.168.20.10 port 40000, state established, no cgroup "
        "is accepted by `inet b_broker: counter packets 0 bytes 0 accept`, no conduit allows it",
    ),
    (
        "an address more",
        TINY,
        replaced("192.168.20.5 . 6 . 8883", "192.168.20.4/31 . 6 . 8883"),
        "accepted",
        "input on uplink0: tcp from 192.168.20.4 port 8883 to 192.168.20.10 port 40000, state established, no cgroup "
        "is accepted by `inet b_broker: counter packets 0 bytes 0 accept`, no conduit allows it",
    ),
    (
        "a rule for a technician",
        TINY,
        before(STATES_IN, "tcp dport 22 accept"),
        "accepted",
        "input on uplink0: tcp from 192.168.20.0 port 40000 to 192.168.20.10 port 22, state new, no cgroup is accepted "
        "by `inet in_uplink0: tcp dport 22 accept`, no conduit allows it",
    ),
    (
        "a port without a protocol, which is the checksum of an ICMPv6 packet over IPv4 as well",
        TINY,
        before(STATES_IN, "iifname uplink0 ip saddr 192.168.20.5 meta l4proto != { 6, 17 } th dport 8883 accept"),
        "accepted",
        "input on uplink0: icmpv6 over IPv4 type 156 code 64 from 192.168.20.5 to 192.168.20.10, state new, no cgroup "
        'is accepted by `inet in_uplink0: iifname "uplink0" ip saddr 192.168.20.5 meta l4proto != { tcp, udp } th '
        "dport 8883 accept`, no conduit allows it",
    ),
    (
        "ICMPv6 in IPv4: the protocol alone says nothing of the family",
        TINY,
        before(STATES_IN, "iifname uplink0 meta l4proto 58 accept"),
        "accepted",
        "input on uplink0: icmpv6 over IPv4 type 156 code 64 from 192.168.20.0 to 192.168.20.10, state new, no cgroup "
        'is accepted by `inet in_uplink0: iifname "uplink0" meta l4proto ipv6-icmp accept`, no conduit allows it',
    ),
    (
        "every user of the cgroup",
        TINY,
        into("out_new", "socket cgroupv2 level 2 @cg_uplink goto f_uplink"),
        "accepted",
        "output on uplink0: tcp from 192.168.20.10 port 40000 to 192.168.20.5 port 8883, state new, no user, cgroup of "
        "uplink is accepted by `inet c_broker: counter packets 0 bytes 0 accept`, no conduit allows it",
    ),
    (
        "the user without the cgroup",
        TINY,
        into("u_uplink", "goto f_uplink"),
        "accepted",
        "output on uplink0: tcp from 192.168.20.10 port 40000 to 192.168.20.5 port 8883, state new, user 702, no "
        "cgroup "
        "is accepted by `inet c_broker: counter packets 0 bytes 0 accept`, no conduit allows it",
    ),
    (
        "a rule in front that drops",
        TINY,
        into("f_uplink", "ip daddr 192.168.20.5 tcp dport 8883 ct state established drop"),
        "refused",
        "output on uplink0: tcp from 192.168.20.10 port 40000 to 192.168.20.5 port 8883, state established, no user, "
        "cgroup of uplink is dropped by `inet f_uplink: ip daddr 192.168.20.5 tcp dport 8883 ct state established "
        "drop`, "
        "conduit broker allows it",
    ),
    (
        "a forgotten answer",
        TINY,
        replaced(STATES_IN, "counter"),
        "refused",
        "input on uplink0: tcp from 192.168.20.5 port 8883 to 192.168.20.10 port 40000, state established, no "
        "cgroup is dropped by `inet x_in-no-conduit: counter packets 0 bytes 0 drop`, conduit broker allows it",
    ),
    (
        "IPv6 forgotten",
        TINY,
        without_ipv6,
        "hook",
        "no chain of the family inet hooks into output: everything passes there",
    ),
    (
        "the same, as a packet",
        TINY,
        without_ipv6,
        "accepted",
        "output on uplink0: tcp from 2001:db8::1 port 40000 to 2001:db8::2 port 40000, state new, no user, no cgroup "
        "is accepted by the policy of the chain, or no chain at all, no conduit allows it",
    ),
    (
        "no limit of new connections",
        TINY,
        replaced("ct state new limit rate over 10/second burst 10 packets goto r_broker", "counter"),
        "limit",
        "output on uplink0: tcp from 192.168.20.10 port 40000 to 192.168.20.5 port 8883, state new, user 702, "
        "cgroup of "
        "uplink is accepted within 200/second burst 100 and connections 4, its conduit has 10/second burst 10 and "
        "200/second burst 100 and connections 4",
    ),
    (
        "a limit that lets through what is over it",
        TINY,
        replaced("limit rate over 200/second", "limit rate 200/second"),
        "limit",
        "output on uplink0: tcp from 192.168.20.10 port 40000 to 192.168.20.5 port 8883, state new, user 702, "
        "cgroup of "
        "uplink is accepted over 200/second burst 100",
    ),
    (
        "a policy that accepts",
        TINY,
        replaced("hook forward priority filter; policy drop;", "hook forward priority filter; policy accept;"),
        "hook",
        "the chain inet edgeseal forward has the policy accept: it must be drop",
    ),
    (
        "a policy that accepts what no rule decides about",
        TINY,
        lambda text: replaced("goto x_fwd-no-conduit\n\t}", "counter\n\t}")(
            replaced("hook forward priority filter; policy drop;", "hook forward priority filter; policy accept;")(text)
        ),
        "accepted",
        "forward from uplink0 to uplink0: tcp from 192.0.2.1 port 40000 to 192.0.2.2 port 40000, state new is accepted "
        "by the policy of the chain, or no chain at all, no conduit allows it",
    ),
    (
        "an end without a reason",
        TINY,
        replaced("goto x_fwd-no-conduit\n\t}", "counter\n\t}"),
        "silent",
        "forward from uplink0 to uplink0: tcp from 192.0.2.1 port 40000 to 192.0.2.2 port 40000, state new is dropped "
        "by the policy, no rule says why",
    ),
    (
        "a chain at an earlier priority",
        TINY,
        added("table inet other { chain early { type filter hook input priority -10; accept; }; }\n"),
        "hook",
        "the chain inet other early hooks into input (type filter, priority -10): nothing else may hook in",
    ),
    (
        "a second table",
        TINY,
        added("table ip nat { chain post { type nat hook postrouting priority 100; policy drop; }; }\n"),
        "hook",
        "the chain ip nat post hooks into postrouting (type nat, priority 100): nothing else may hook in",
    ),
    (
        "a rule behind the one that takes all",
        TINY,
        replaced("goto x_out-no-conduit\n\t}", "goto x_out-no-conduit\n\t\tip daddr 192.0.2.1 accept\n\t}"),
        "shadowed",
        "the rule `inet out_state: ip daddr 192.0.2.1 accept` is shadowed: rules before it decide about every packet "
        "that it would match",
    ),
    (
        "two rules in the wrong order",
        TINY,
        into("in_uplink0_established", "ct state new accept"),
        "dead",
        "the rule `inet in_uplink0_established: ct state new accept` is dead: no packet that enters its chain matches "
        "it",
    ),
    (
        "a chain that nothing leads to",
        TINY,
        added("add chain inet edgeseal spare\nadd rule inet edgeseal spare drop\n"),
        "dead",
        "the rule `inet spare: drop` is dead: no packet enters its chain",
    ),
    (
        "an element for a source that is not believed",
        TINY,
        added("add element inet edgeseal in_uplink0_answers_4 { 192.0.2.1 . 6 . 8883 : goto b_broker }\n"),
        "dead",
        "the element `192.0.2.1 . 6 . 8883 : goto b_broker` of in_uplink0_answers_4 is dead: no packet that is looked "
        "up matches it",
    ),
)


@pytest.mark.parametrize(("what", "subject", "edit", "kind", "text"), TWINS, ids=[row[0] for row in TWINS])
def test_a_broken_twin_fails_with_its_counter_example(
    what: str, subject: Subject, edit: Edit, kind: str, text: str
) -> None:
    broken = Subject(subject.policy, subject.name, subject.uids, edit(subject.text.decode()).encode())
    (case,) = prove_always(broken, tools=tools_tree())
    assert (kind, text) in [(finding.kind, finding.text) for finding in case.proof.findings]
    confirm(broken, case.proof.findings)


def confirm(subject: Subject, findings: tuple[Finding, ...]) -> None:
    """The evaluator takes each counter-example through the broken ruleset, and comes to the same verdict."""
    services = sorted(subject.uids)
    ruleset = bind_cgroups(take_back(subject, {}, tools=tools_tree()), services)
    cgroups = {name: number for number, name in enumerate((*services, "other"), 1)}
    for finding in findings:
        if finding.packet is not None and finding.kind in ("accepted", "refused"):
            found = verdict(ruleset, finding.packet, cgroups=cgroups)
            assert found.verdict == ("accept" if finding.kind == "accepted" else "drop"), finding.text


# ---- the command


def test_prove_shows_a_table_and_exits_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["network", "prove", "virtual-x86_64", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["holds"]
    assert [case["closed"] for case in result["cases"]] == [["broker"], []]
    assert main(["network", "prove", "virtual-x86_64"]) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[0].split("  ")[0] == "slots"
    assert "the ruleset of virtual-x86_64 accepts what the conduits allow, and nothing else" in shown


def test_prove_of_one_site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = tmp_path / "site.yaml"
    site.write_text("schema: 1\nslots:\n  broker: [10.0.2.100]\n")
    assert main(["network", "prove", "virtual-x86_64", "--site", str(site), "--json"]) == 0
    (case,) = json.loads(capsys.readouterr().out)["cases"]
    assert case["filled"] == {"broker": ["10.0.2.100"]}
    assert case["closed"] == []


def test_prove_of_an_edited_file_exits_with_1_and_its_counter_example(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = load_profile("virtual-x86_64")
    text = Subject(profile.network, profile.name, SERVICE_UIDS).text.decode()
    edited = tmp_path / "edited.nft"
    edited.write_text(into("out_new", "meta skuid 704 udp dport 8883 accept")(text))
    assert main(["network", "prove", "virtual-x86_64", "--ruleset", str(edited)]) == 1
    assert (
        "accepted: output on uplink0: udp from 10.0.2.15 port 40000 to 192.0.2.2 port 8883, state new, user 704, "
        "no cgroup is accepted by `inet out_new: meta skuid 704 udp dport 8883 accept`, no conduit allows it"
    ) in capsys.readouterr().out


def test_prove_of_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "none.nft"
    assert main(["network", "prove", "virtual-x86_64", "--ruleset", str(missing)]) == 2
    assert f"{missing}: cannot read the ruleset: no such file or directory" in capsys.readouterr().err
