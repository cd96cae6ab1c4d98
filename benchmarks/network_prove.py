"""`python -m benchmarks.network_prove`: what a proof of a network policy costs, and how that grows with the policy.

Each size is proven in a process of its own, so that its peak of memory is its own. Seconds are the machine's and its
neighbours': the time on a processor, nft's included, stands beside those on the clock, and a ratio to a baseline of the
same run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from appliance.formats.network_policy import NetworkPolicy
from benchmarks import baseline
from builder.host.netfilter import load_and_list
from builder.host.toolstree import tools_tree
from builder.network.listing import read_listing
from builder.network.prove import prove
from builder.profile.load import load_profile, profile_names
from builder.review.network_proof import Subject, prove_always
from builder.rootfs.files import SERVICE_UIDS
from tests.support.policies import arp, synthetic

SIZES = ((4, 10), (8, 50), (16, 100), (32, 500), (64, 1000), (64, 2000))
"""Zones and conduits; address resolution of every zone comes on top."""
_STEPS = ("compile", "load", "read", "prove")
FLOORS = {"seconds": 60.0, "megabytes": 1024.0, "profile_seconds": 2.0}
"""For 64 zones and 2,000 conduits, and for each shipped profile (issue 4), on a quiet core: processor time is held."""


def main(argv: Sequence[str] | None = None) -> int:
    """argv: without the program's name. Returns the exit code: 1 when a floor is not held."""
    arguments = _parse(argv)
    if arguments.one:
        print(json.dumps(measure_size(*arguments.one)))
        return 0
    if arguments.one_profile:
        print(json.dumps(measure_profile(arguments.one_profile)))
        return 0
    result = measure(arguments.most)
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        _show(result)
    return 0 if _is_held(result) else 1


def measure(most: int) -> dict[str, Any]:
    """Everything, as plain data. most: conduits of the largest size."""
    unit = baseline.hashing()
    sizes = [_in_child("--one", str(zones), str(conduits)) for zones, conduits in SIZES if conduits <= most]
    profiles = [_fastest("--one-profile", name) for name in profile_names()]
    for row in (*sizes, *profiles):
        row["ratio"] = row["seconds"] / unit
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "load_before": os.getloadavg()[0],
        "baseline_seconds": unit,
        "sizes": sizes,
        "profiles": profiles,
        "floors": FLOORS,
    }


def measure_size(zones: int, conduits: int) -> dict[str, Any]:
    """One synthetic policy, step by step, in this process."""
    policy = grown(zones, conduits)
    marks, begun = [time.perf_counter()], _processor()
    text = Subject(policy, "synthetic", SERVICE_UIDS).text
    marks.append(time.perf_counter())
    listing = load_and_list(text, tools=tools_tree(), name="the synthetic ruleset")
    marks.append(time.perf_counter())
    ruleset = read_listing(listing.text, listing.objects)
    marks.append(time.perf_counter())
    proof = prove(ruleset, policy, uids=SERVICE_UIDS, filled={})
    marks.append(time.perf_counter())
    if not proof.holds:
        raise RuntimeError(f"the synthetic policy is not proven: {proof.findings[0].text}")
    taken = (after - before for before, after in itertools.pairwise(marks))
    steps = dict(zip(_STEPS, taken, strict=True))
    return {
        "zones": zones,
        "conduits": conduits,
        "classes": proof.classes,
        "rules": proof.rules,
        "seconds": marks[-1] - marks[0],
        "processor": _processor() - begun,
        "steps": steps,
        "megabytes": _peak_megabytes(),
    }


def measure_profile(name: str) -> dict[str, Any]:
    """A shipped profile: read and checked, compiled, proven for every filling of its slots."""
    begun, used = time.perf_counter(), _processor()
    profile = load_profile(name)
    cases = prove_always(Subject(profile.network, profile.name, SERVICE_UIDS), tools=tools_tree())
    seconds, used = time.perf_counter() - begun, _processor() - used
    if not all(case.proof.holds for case in cases):
        raise RuntimeError(f"{name} is not proven")
    rules = cases[-1].proof.rules
    return {"profile": name, "seconds": seconds, "processor": used, "rules": rules, "megabytes": _peak_megabytes()}


def grown(zones: int, conduits: int) -> NetworkPolicy:
    """The synthetic policy of the tests, with address resolution for every zone."""
    policy = synthetic(zones, conduits)
    links = {link.name: link for link in policy.links}
    resolved = [each for zone in policy.zones if zone.link in links for each in arp(zone.id, *zone.prefixes)]
    return msgspec.structs.replace(policy, conduits=(*policy.conduits, *resolved))


def _peak_megabytes() -> float:
    """This process and the largest program that it ran, which is nft."""
    return sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024


def _processor() -> float:
    """Seconds on a processor so far, of this process and the programs that it ran."""
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in found)


def _in_child(*words: str) -> dict[str, Any]:
    print(f"{' '.join(words).removeprefix('--')} …", file=sys.stderr)
    command = [sys.executable, "-m", "benchmarks.network_prove", *words]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found


def _fastest(*words: str) -> dict[str, Any]:
    """Of three runs: the one that neighbours disturbed least."""
    return min((_in_child(*words) for _ in range(3)), key=lambda row: row["seconds"])


def _is_held(result: dict[str, Any]) -> bool:
    largest = result["sizes"][-1]
    return (
        largest["processor"] < FLOORS["seconds"]
        and largest["megabytes"] < FLOORS["megabytes"]
        and all(row["processor"] < FLOORS["profile_seconds"] for row in result["profiles"])
    )


def _show(result: dict[str, Any]) -> None:
    console = Console(width=120)
    console.print(
        f"{result['cpus']} CPUs, load {result['load_before']:.1f} before; hashing 1 GiB takes "
        f"{result['baseline_seconds']:.2f} s, which is the ratio's 1",
        highlight=False,
    )
    table = Table("zones", "conduits", "classes", "rules", *(f"{name} s" for name in _STEPS), "CPU s", "ratio", "MB")
    for row in result["sizes"]:
        steps = [f"{row['steps'][name]:.2f}" for name in _STEPS]
        counts = [str(row[name]) for name in ("zones", "conduits", "classes", "rules")]
        table.add_row(*counts, *steps, f"{row['processor']:.1f}", f"{row['ratio']:.1f}", f"{row['megabytes']:.0f}")
    console.print(table)
    table = Table("profile", "rules", "check, compile, prove s", "CPU s", "ratio", "MB")
    for row in result["profiles"]:
        cells = (f"{row['seconds']:.2f}", f"{row['processor']:.2f}", f"{row['ratio']:.1f}", f"{row['megabytes']:.0f}")
        table.add_row(row["profile"], str(row["rules"]), *cells)
    console.print(table)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.network_prove", description=__doc__)
    parser.add_argument("--most", type=int, default=2000, metavar="N", help="leave out policies with more conduits")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--one", type=int, nargs=2, metavar=("ZONES", "CONDUITS"), help=argparse.SUPPRESS)
    parser.add_argument("--one-profile", metavar="NAME", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
