"""`python -m benchmarks.uplink`: what the uplink takes in, gives out, loses, writes and weighs, beside its peers.

All deliver the same verdicts to the same broker on this machine, over mutual TLS 1.3; producers have 256 messages under
way. Everything is measured in this run, except for one line that says so. A floor is a ratio to a peer, or a size.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.uplink_own import drain_single, measure, wire_single
from benchmarks.uplink_peers import bridge, mqttjs, paho
from benchmarks.uplink_site import Figures, Site, site

ELSEWHERE = Figures(
    "mosquitto 2.1 bridge, sqlite",
    durable=True,
    in_rate=2257,
    drain=5633,
    lost=0,
    note="measured elsewhere: 2.1 is in no Debian release; flush_period 0, sync full",
)


ROUNDS = 3
TURN = 20_000
_RATES = ("in/s", "out/s", "out/s batched")
_TITLES = ("", "fsync", *_RATES, "lost by kill -9", "start s", "MB", "peak MB", "written B", "note")


@dataclass(frozen=True)
class Floor:
    """value must be at least (or at most) bound."""

    what: str
    value: float
    bound: float
    at_most: bool = False

    @property
    def holds(self) -> bool:
        """Whether it does."""
        return self.value <= self.bound if self.at_most else self.value >= self.bound


def main(argv: Sequence[str] | None = None) -> int:
    """argv: without the program's name. Returns 1 when a floor does not hold."""
    arguments = _parse(argv)
    before = os.getloadavg()[0]
    with site() as place:
        own = _told(measure(place, messages=arguments.messages, backlog=arguments.backlog))
        single = wire_single(place)
        own, raw = _by_turns(place, own, min(arguments.messages, TURN))
        default = bridge(place, durable=False, messages=arguments.messages, backlog=arguments.backlog)
        peers = [
            _told(default),
            _told(bridge(place, durable=True, messages=min(arguments.messages, arguments.slow))),
            _told(mqttjs(place, sync=False, messages=arguments.messages)),
            _told(mqttjs(place, sync=True, messages=min(arguments.messages, TURN))),
        ]
    floors = judge(own, peers, raw)
    result = {
        "load": [before, os.getloadavg()[0]],
        "figures": [asdict(one) for one in (own, *peers, raw, ELSEWHERE)],
        "wire_bytes": {"batched": own.wire, "one by one": single},
        "floors": [asdict(floor) | {"holds": floor.holds} for floor in floors],
    }
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        _show([own, *peers, raw, ELSEWHERE], floors, single, result["load"])  # type: ignore[arg-type]
    return int(not all(floor.holds for floor in floors))


def _by_turns(place: Site, own: Figures, messages: int) -> tuple[Figures, Figures]:
    """The two that are held against each other closely, one after the other, ROUNDS times; the best of each counts."""
    rates, raws = [], []
    for number in range(ROUNDS):
        rates.append(drain_single(place, messages, f"own-single-{number}"))
        raws.append(paho(place, messages=messages))
    return replace(own, drain=max(rates)), _told(max(raws, key=lambda one: one.drain or 0.0))


def judge(own: Figures, peers: Sequence[Figures], raw: Figures) -> list[Floor]:
    """The floors of the issue. A durable peer waits for the disk and lost nothing; one was measured elsewhere."""
    durable = [peer for peer in (*peers, ELSEWHERE) if peer.durable and peer.lost == 0]
    best_in = max(durable, key=lambda peer: peer.in_rate or 0.0)
    best_out = max(durable, key=lambda peer: peer.drain or 0.0)
    assert own.in_rate and own.drain and own.drain_batched and raw.drain and best_in.in_rate and best_out.drain
    return [
        Floor(f"in, times the best durable peer ({best_in.name})", own.in_rate / best_in.in_rate, 2.0),
        Floor(f"drain, times the best durable peer ({best_out.name})", own.drain_batched / best_out.drain, 1.3),
        Floor("drain one by one, times raw paho", own.drain / raw.drain, 0.8),
        Floor("messages lost by kill -9", float(own.lost or 0), 0.0, at_most=True),
        Floor(f"MB at the most, {own.backlog_rows:,} waiting and draining", own.peak_mb or 1e9, 40.0, at_most=True),
        Floor(f"seconds to start, {own.backlog_rows:,} waiting", own.start_s or 1e9, 1.0, at_most=True),
    ]


def _told(figures: Figures) -> Figures:
    print(f"{figures.name}: done", file=sys.stderr)
    return figures


def _show(figures: Sequence[Figures], floors: Sequence[Floor], single: float, load: Sequence[float]) -> None:
    table = Table(title=f"load {load[0]:.1f} before, {load[1]:.1f} after", title_justify="left")
    for title in _TITLES:
        table.add_column(title, justify="left" if title in ("", "fsync", "note") else "right")
    for one in figures:
        lost = "–" if one.lost is None else f"{one.lost:,}" + (f" of {one.accepted:,}" if one.accepted else "")
        cells = (one.in_rate, one.drain, one.drain_batched)
        sizes = (one.resident_mb, one.peak_mb, one.written)
        start = "–" if one.start_s is None else f"{one.start_s:.2f}"
        table.add_row(
            one.name, "yes" if one.durable else "no", *map(_whole, cells), lost, start, *map(_whole, sizes), one.note
        )
    console = Console(width=200)
    console.print(table)
    own = figures[0]
    if own.wire:
        saved = f"{single / own.wire:.1f} times less"
        console.print(f"bytes on the wire for a verdict: {single:.0f} one by one, {own.wire:.0f} in batches, {saved}")
    for floor in floors:
        sign = "at most" if floor.at_most else "at least"
        verdict = "holds" if floor.holds else "DOES NOT HOLD"
        console.print(f"{floor.what}: {floor.value:.2f}, {sign} {floor.bound:g}: {verdict}", highlight=False)


def _whole(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _parse(argv: Sequence[str] | None) -> Any:
    summary = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.uplink", description=summary)
    parser.add_argument("--messages", type=int, default=50_000, help="of each rate")
    parser.add_argument("--slow", type=int, default=2000, help="for the bridge that saves every change")
    parser.add_argument("--backlog", type=int, default=1_000_000, help="messages that wait at a start")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
