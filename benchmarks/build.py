"""`make bench`: how long a build takes, step by step, cold and warm, and what each compressor costs.

cold: pool filled, no step result. warm: one file of ours changed. Every time is given as a ratio to a baseline of the
same run too, because seconds are the machine's and its neighbours'. docs/reference/benchmarks.md explains.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import baseline
from benchmarks.compressors import Compressed, compress_initrd, compress_root
from benchmarks.place import Place, Step, working_place

TARGETS = {"cold": 35.0, "warm": 8.0}
"""Seconds for the whole build on two quiet cores (issue 2)."""


@dataclass(frozen=True)
class Run:
    """One build. unit: seconds that hashing took just before it."""

    unit: float
    steps: list[Step]


def main(argv: Sequence[str] | None = None) -> int:
    """argv: without the program's name. Returns the exit code."""
    arguments = _parse(argv)
    with working_place(arguments.profile) as place:
        result = measure(place, arguments.profile, runs=arguments.runs, compressors=not arguments.only_build)
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        _show(result)
    return 0


def measure(place: Place, profile: str, *, runs: int, compressors: bool) -> dict[str, Any]:
    """Everything, as plain data."""
    load = os.getloadavg()[0]
    rates = {"hashing": baseline.hashing(), "unpacking": baseline.unpacking()}
    kinds = {"cold": place.forget, "warm": place.change_one_file}
    found = {kind: _repeat(place, profile, prepare, runs) for kind, prepare in kinds.items()}
    return {
        "profile": profile,
        "cpus": len(os.sched_getaffinity(0)),
        "load_before": load,
        "baseline_seconds": rates,
        "build": {kind: _rows(built) for kind, built in found.items()},
        "targets_seconds": TARGETS,
        "initrd": [asdict(row) for row in compress_initrd(place)] if compressors else [],
        "root": [asdict(row) for row in compress_root(place)] if compressors else [],
    }


def _repeat(place: Place, profile: str, prepare: Callable[[], None], runs: int) -> list[Run]:
    found = []
    for _ in range(runs):
        prepare()
        found.append(Run(baseline.hashing(), place.build(profile)))
    return found


def _rows(runs: list[Run]) -> list[dict[str, Any]]:
    """The fastest and the median of each step: the fastest is the one that neighbours disturbed least."""
    rows = []
    for title in dict.fromkeys(step.title for run in runs for step in run.steps):
        found = [(step.seconds, step.seconds / run.unit) for run in runs for step in run.steps if step.title == title]
        times = [seconds for seconds, _ratio in found]
        rows.append(
            {
                "step": title,
                "seconds": min(times),
                "median_seconds": statistics.median(times),
                "ratio": min(ratio for _seconds, ratio in found),
            }
        )
    return rows


def _show(result: dict[str, Any]) -> None:
    console = Console()
    rates = result["baseline_seconds"]
    console.print(
        f"{result['profile']} on {result['cpus']} cores, load {result['load_before']:.1f} before; "
        f"1 GiB hashed in {rates['hashing']:.2f} s, 32 MiB of xz unpacked in {rates['unpacking']:.2f} s"
    )
    for kind, rows in result["build"].items():
        table = Table(title=f"{kind} (target {TARGETS[kind]:.0f} s)", title_justify="left")
        for heading in ("step", "s", "median s", "x hashing"):
            table.add_column(heading, justify="left" if heading == "step" else "right")
        for row in rows:
            table.add_row(row["step"], *(f"{row[key]:.2f}" for key in ("seconds", "median_seconds", "ratio")))
        console.print(table)
    for part in ("initrd", "root"):
        if result[part]:
            console.print(_compressor_table(part, [Compressed(**row) for row in result[part]], rates["hashing"]))


def _compressor_table(part: str, rows: list[Compressed], unit: float) -> Table:
    table = Table(title=f"compressors, {part}", title_justify="left")
    for heading in ("choice", "MB", "s", "x hashing"):
        table.add_column(heading, justify="left" if heading == "choice" else "right")
    for row in rows:
        table.add_row(row.choice, f"{row.size / 1e6:.2f}", f"{row.seconds:.2f}", f"{row.seconds / unit:.1f}")
    return table


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.build", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("profile", nargs="?", default="virtual-x86_64", help="the profile to build")
    parser.add_argument("--runs", type=int, default=2, metavar="N", help="how often to build, each cold and warm")
    parser.add_argument("--only-build", action="store_true", help="leave the compressors out")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
