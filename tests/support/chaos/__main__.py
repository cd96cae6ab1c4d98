"""`python -m tests.support.chaos`: one run, in network and mount namespaces of its own; prints what was counted.

Returns 1 when anything was lost, out of order, ambiguous or stood still. Needs root.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.support.chaos.loss import prepare_namespace
from tests.support.chaos.schedule import Plan
from tests.support.chaos.story import Leg, Story

_INSIDE = "EDGESEAL_CHAOS_INSIDE"


def main(argv: Sequence[str] | None = None) -> int:
    """argv: without the program's name."""
    arguments = _parse(argv)
    if os.environ.get(_INSIDE) != "1":
        words = ["unshare", "--net", "--mount", sys.executable, "-m", "tests.support.chaos", *(argv or sys.argv[1:])]
        os.execvpe(words[0], words, {**os.environ, _INSIDE: "1"})
    prepare_namespace()
    plan = Plan(
        messages=arguments.messages,
        kills=arguments.kills,
        rounds=arguments.rounds,
        restarts=arguments.restarts,
        broker_kills=arguments.broker_kills,
        disk_full=arguments.disk_full,
        clock_steps=arguments.clock_steps,
    )
    leg = Leg(
        plan=plan,
        seed=arguments.seed,
        rate=arguments.rate,
        delivery=arguments.delivery,
        subject=arguments.subject,
    )
    with tempfile.TemporaryDirectory(prefix="chaos-", dir=arguments.directory, ignore_cleanup_errors=True) as directory:
        try:
            result = Story(leg, Path(directory)).run()
        except BaseException:
            _show(Path(directory))
            raise
        if result["faults"] or result["crashes"]:
            _show(Path(directory))
    print(json.dumps(result, indent=2))
    return int(bool(result["faults"] or result["crashes"] or result["stopped"]))


def _show(directory: Path) -> None:
    """The last words of the uplink and the broker."""
    for log in ("uplink.log", "broker/mosquitto.log"):
        print(f"---- {log}\n{(directory / log).read_text()[-3000:]}", file=sys.stderr)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.support.chaos")
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=15)
    parser.add_argument("--rounds", type=int, default=1, help="of every toxic")
    parser.add_argument("--restarts", type=int, default=0, help="of the broker, in order")
    parser.add_argument("--broker-kills", type=int, default=0, help="kill -9 of a broker that keeps nothing")
    parser.add_argument("--disk-full", type=int, default=1)
    parser.add_argument("--clock-steps", type=int, default=2)
    parser.add_argument("--rate", type=float, default=500, help="messages a second, on average")
    parser.add_argument("--delivery", choices=("broker", "historian"), default="broker")
    parser.add_argument("--subject", choices=("uplink", "standin", "standin-early"), default="uplink")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory", type=Path, help="where the run's files go, and are removed")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
