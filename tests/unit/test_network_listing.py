"""The live ruleset taken apart and compared in words."""

from __future__ import annotations

import pytest

from appliance.network.listing import differences, parse_listing

RAW = """\
inet edgeseal @cg_uplink
\telement 00000136 00000000  : 0 [end]
inet edgeseal @peers
\telement 0a000001  : 0 [end]
\telement 0a000002  : 0 [end]
inet edgeseal input 12
  [ meta load iifname => reg 1 ]
  [ immediate reg 0 drop ]
inet edgeseal input 14 12
  [ counter pkts 7 bytes 420 ]
  [ immediate reg 0 drop ]
"""
TEXT = """\
table inet edgeseal {
\tset cg_uplink {
\t\ttype cgroupsv2
\t\telements = { "system.slice/edgeseal-uplink.service" }
\t}

\tset peers {
\t\ttype ipv4_addr
\t\tflags interval
\t\telements = { 10.0.0.1, 10.0.0.2,
\t\t\t     10.0.0.3-10.0.0.9 }
\t}

\tchain input {
\t\ttype filter hook input priority 0; policy drop;
\t\tiifname "lo" drop
\t\tcounter drop
\t}

\tchain forward {
\t\ttype filter hook forward priority 0; policy drop;
\t}
}
table arp edgeseal {
\tchain input {
\t\ttype filter hook input priority 0; policy drop;
\t}
}
"""
SEALED = parse_listing(RAW + TEXT)


def test_it_is_taken_apart() -> None:
    assert set(SEALED.tables) == {"inet edgeseal", "arp edgeseal"}
    assert set(SEALED.objects) == {
        "set inet edgeseal cg_uplink",
        "set inet edgeseal peers",
        "chain inet edgeseal input",
        "chain inet edgeseal forward",
        "chain arp edgeseal input",
    }
    assert SEALED.elements("set inet edgeseal peers") == {"10.0.0.1", "10.0.0.2", "10.0.0.3-10.0.0.9"}
    assert SEALED.elements("set inet edgeseal none") == frozenset()
    assert SEALED.objects["chain inet edgeseal input"][1:] == ('iifname "lo" drop', "counter drop")
    assert SEALED.raw["inet edgeseal input"].count("rule") == 2
    assert parse_listing("") == parse_listing("\n")


def test_what_packets_and_the_kernel_number_is_no_difference() -> None:
    counted = RAW.replace("pkts 7 bytes 420", "pkts 900 bytes 1").replace("input 14 12", "input 99 98")
    swapped = counted.replace(
        "\telement 0a000001  : 0 [end]\n\telement 0a000002", "\telement 0a000002  : 0 [end]\n\telement 0a000001"
    )
    assert differences(SEALED, parse_listing(swapped + TEXT)) == ()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("table arp edgeseal {", "table arp other {", ("table arp other added", "table arp edgeseal removed")),
        (
            "table inet edgeseal {",
            "table inet edgeseal {\n\tflags dormant",
            ("table inet edgeseal: setting added: flags dormant",),
        ),
        ("\tset peers {", "\tset more {", ("set inet edgeseal more added", "set inet edgeseal peers removed")),
        (
            "10.0.0.1, 10.0.0.2",
            "10.0.0.2, 10.9.9.9",
            (
                "set inet edgeseal peers: element added: 10.9.9.9",
                "set inet edgeseal peers: element removed: 10.0.0.1",
            ),
        ),
        (
            "flags interval",
            "flags interval,timeout",
            ("set inet edgeseal peers: `flags interval,timeout` instead of `flags interval`",),
        ),
        (
            "\t\tcounter drop\n",
            "\t\tcounter accept\n",
            ("chain inet edgeseal input: `counter accept` instead of `counter drop`",),
        ),
        (
            "\t\tcounter drop\n",
            "\t\tcounter drop\n\t\taccept\n\t\tdrop\n",
            ("chain inet edgeseal input: rule added: accept", "chain inet edgeseal input: rule added: drop"),
        ),
        ('\t\tiifname "lo" drop\n', "", ('chain inet edgeseal input: rule removed: iifname "lo" drop',)),
        (
            '\t\tiifname "lo" drop\n\t\tcounter drop\n',
            '\t\tcounter drop\n\t\tiifname "lo" drop\n',
            (
                "chain inet edgeseal input: rule added: counter drop",
                "chain inet edgeseal input: rule removed: counter drop",
            ),
        ),
        (
            "hook forward priority 0; policy drop;",
            "hook forward priority 0; policy accept;",
            (
                "chain inet edgeseal forward: `type filter hook forward priority 0; policy accept;` instead of "
                "`type filter hook forward priority 0; policy drop;`",
            ),
        ),
        (
            "\t\tcounter drop\n",
            "\t\tcounter drop\n\t\tip saddr { 10.0.0.1,\n\t\t\t 10.0.0.2 } accept\n",
            ("chain inet edgeseal input: rule added: ip saddr { 10.0.0.1, 10.0.0.2 } accept",),
        ),
        (
            "\t\tcounter drop\n",
            '\t\tcounter drop\n\t\tcomment "\x1b[2J{"\n',
            ('chain inet edgeseal input: rule added: comment "?[2J{" }',),
        ),
    ],
    ids=lambda value: None if isinstance(value, tuple) else "",
)
def test_a_change_in_words(old: str, new: str, words: tuple[str, ...]) -> None:
    assert TEXT.count(old) >= 1
    assert differences(SEALED, parse_listing(RAW + TEXT.replace(old, new, 1)))[: len(words)] == words


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "[ meta load iifname",
            "[ meta load oifname",
            "inet edgeseal input: reads as before, but its bytecode is another",
        ),
        ("element 0a000001", "element 0b000001", "inet edgeseal @peers: reads as before, but its bytecode is another"),
        (
            "inet edgeseal input 14 12\n",
            "inet edgeseal input 13 12\n  [ immediate reg 0 accept ]\ninet edgeseal input 14 13\n",
            "inet edgeseal input: reads as before, but its bytecode is another",
        ),
        (
            "inet edgeseal input 12\n",
            "inet edgeseal forward 20\ninet edgeseal input 12\n",
            "inet edgeseal forward: reads as before, but its bytecode is another",
        ),
    ],
)
def test_what_does_not_show_in_the_text(old: str, new: str, words: str) -> None:
    """A rule that nft prints as nothing at all is one of them."""
    assert differences(SEALED, parse_listing(RAW.replace(old, new) + TEXT)) == (words,)


def test_sets_can_be_left_out() -> None:
    names = ["set inet edgeseal cg_uplink"]
    other = (RAW + TEXT).replace("00000136", "00000999").replace("edgeseal-uplink.service", "edgeseal-update.service")
    hidden = parse_listing(other).without_elements(names)
    assert differences(SEALED.without_elements(names), hidden) == ()
    assert differences(SEALED, parse_listing(other)) != ()
    retyped = parse_listing(other.replace("type cgroupsv2", "type mark")).without_elements(names)
    assert len(differences(SEALED.without_elements(names), retyped)) == 1
