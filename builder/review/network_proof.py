"""Prove a profile's network policy: compile it, load it, take it back from the kernel, hold it against the conduits.

builder.network.prove decides; this is the way there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from appliance.formats.conduit_elements import conduit_elements
from appliance.formats.network_policy import NetworkPolicy
from builder.host.netfilter import load_and_list
from builder.host.sandbox import Sandbox
from builder.network.fillings import representatives
from builder.network.listing import Ruleset, read_listing
from builder.network.prove import Proof, prove
from builder.network.ruleset import compile_ruleset

Filled = Mapping[str, Sequence[str]]
_EVERY_PIECE = "every slot filled, each piece of its bounds"


@dataclass(frozen=True)
class Subject:
    """What is proven. name: of the profile. uids: user of each service. ruleset: instead of the compiled one."""

    policy: NetworkPolicy
    name: str
    uids: Mapping[str, int]
    ruleset: bytes | None = None

    @property
    def text(self) -> bytes:
        """The ruleset with no slot filled."""
        return compile_ruleset(self.policy, name=self.name, uids=self.uids) if self.ruleset is None else self.ruleset


@dataclass(frozen=True)
class Case:
    """One filling of the slots and what came of it. what: in words."""

    what: str
    filled: Filled
    proof: Proof


def prove_filled(subject: Subject, filled: Filled, *, tools: Sandbox, what: str) -> Case:
    """With exactly these slots filled; what no packet of this site uses is not called dead.

    Raises InputError when the kernel refuses the ruleset, or for unknown parts.
    """
    return _case(subject, take_back(subject, filled, tools=tools), filled, what, waiting=True)


def prove_always(subject: Subject, *, tools: Sandbox) -> tuple[Case, ...]:
    """For every filling inside the bounds of the slots: with none filled, and with addresses that speak for all."""
    ruleset = take_back(subject, {}, tools=tools)
    if not subject.policy.slots:
        return (_case(subject, ruleset, {}, "there are no slots", waiting=False),)
    filled = representatives(subject.policy, ruleset)
    return (
        _case(subject, ruleset, {}, "no slot filled", waiting=True),
        _case(subject, take_back(subject, filled, tools=tools), filled, _EVERY_PIECE, waiting=False),
    )


def _case(subject: Subject, ruleset: Ruleset, filled: Filled, what: str, *, waiting: bool) -> Case:
    return Case(what, filled, prove(ruleset, subject.policy, uids=subject.uids, filled=filled, waiting=waiting))


def take_back(subject: Subject, filled: Filled, *, tools: Sandbox) -> Ruleset:
    """The ruleset as the kernel has it, with the elements of the filled slots added as the device adds them."""
    text = subject.text + filling(subject.policy, filled)
    listing = load_and_list(text, tools=tools, name=f"the ruleset of {subject.name}")
    return read_listing(listing.text, listing.objects)


def filling(policy: NetworkPolicy, filled: Filled) -> bytes:
    """nft commands that turn the ruleset with no slot filled into the one with these."""
    before, after = conduit_elements(policy, {}), conduit_elements(policy, filled)
    lines = [
        f"delete element {each.table} edgeseal {each.map} {{ {each.key_text()} }}"
        for each in before
        if each not in after
    ]
    known = set(before)
    lines += [
        f"add element {each.table} edgeseal {each.map} {{ {each.text()} }}" for each in after if each not in known
    ]
    return "".join(f"{line}\n" for line in lines).encode()
