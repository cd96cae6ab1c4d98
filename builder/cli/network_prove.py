"""edgeseal network prove: a compiled ruleset, taken back from the kernel, against the conduits of its profile.

`PROVE` is the command; builder/cli/network.py lists it with its siblings. Reference: docs/reference/network-prove.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from appliance.core.errors import InputError, Place
from appliance.formats.network_policy import NetworkPolicy
from appliance.formats.site_network import fill
from builder.cli.command import Command
from builder.host.progress import step
from builder.host.toolstree import tools_tree
from builder.network.comparison import Finding
from builder.profile.load import load_profile
from builder.profile.site_network import load_site_network
from builder.review.network_proof import Case, Subject, prove_always, prove_filled
from builder.rootfs.files import SERVICE_UIDS

_COLUMNS = ("slots", "packet classes", "regions accepted", "conduits reachable", "rules", "elements")


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("profile", metavar="PROFILE", help="a profile, by name or by path")
    parser.add_argument("--site", type=Path, metavar="FILE", help="prove one filling of the slots, not all of them")
    parser.add_argument(
        "--ruleset", type=Path, metavar="FILE", help="prove this file, not what the profile compiles to"
    )


def _execute(arguments: argparse.Namespace) -> dict[str, Any]:
    profile = load_profile(arguments.profile)
    subject = Subject(profile.network, profile.name, SERVICE_UIDS, _read(arguments.ruleset))
    tools = tools_tree()
    begun = time.monotonic()
    with step(f"prove the network policy of {profile.name}"):
        if arguments.site is None:
            cases: Sequence[Case] = prove_always(subject, tools=tools)
        else:
            filled = fill(profile.network, load_site_network(arguments.site, profile.network))
            cases = (prove_filled(subject, filled, tools=tools, what=f"as in {arguments.site}"),)
    return {
        "profile": profile.name,
        "ruleset": None if arguments.ruleset is None else str(arguments.ruleset),
        "holds": all(case.proof.holds for case in cases),
        "seconds": round(time.monotonic() - begun, 3),
        "cases": [case_data(case, profile.network) for case in cases],
    }


def _read(path: Path | None) -> bytes | None:
    try:
        return None if path is None else path.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"cannot read the ruleset: {reason}", place=Place(str(path)), hint="give a file") from error


def case_data(case: Case, policy: NetworkPolicy) -> dict[str, Any]:
    """One filling and its proof, as plain data. closed: conduits that nothing passes, for want of a filled slot."""
    proof = case.proof
    waiting = {each.id for each in policy.conduits if each.slot is not None and each.slot not in case.filled}
    return {
        "slots": case.what,
        "filled": {slot: list(addresses) for slot, addresses in case.filled.items()},
        "classes": proof.classes,
        "regions": proof.accepted,
        "conduits": list(proof.conduits),
        "closed": sorted(waiting),
        "rules": proof.rules,
        "elements": proof.elements,
        "findings": [_finding_data(each) for each in proof.findings],
    }


def _finding_data(finding: Finding) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "text": finding.text,
        "rule": finding.rule,
        "packet": None if finding.packet is None else str(finding.packet),
    }


def _render(result: Mapping[str, Any]) -> str:
    rows = [_COLUMNS, *(_row(case) for case in result["cases"])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    lines = ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for finding in _distinct(result["cases"]):
        lines += ["", f"{finding['kind']}: {finding['text']}"]
    what = result["ruleset"] or f"the ruleset of {result['profile']}"
    verdict = "accepts what the conduits allow, and nothing else" if result["holds"] else "is not what the conduits say"
    return "\n".join((*lines, "", f"{what} {verdict} ({result['seconds']:.1f} s)"))


def _row(case: Mapping[str, Any]) -> tuple[str, ...]:
    conduits = str(len(case["conduits"]))
    if case["closed"]:
        conduits += f", {len(case['closed'])} closed"
    return (
        case["slots"],
        str(case["classes"]),
        str(case["regions"]),
        conduits,
        str(case["rules"]),
        str(case["elements"]),
    )


def _distinct(cases: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """What is wrong in every filling is told once."""
    return list({finding["text"]: finding for case in cases for finding in case["findings"]}.values())


PROVE = Command(
    path=("network", "prove"),
    help="prove that the ruleset accepts what the conduits allow and nothing else; exits 1 with a counter-example",
    arguments=_arguments,
    execute=_execute,
    render=_render,
    exit_code=lambda result: 0 if result["holds"] else 1,
)
