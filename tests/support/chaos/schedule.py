"""What goes wrong and when, from a seed. Pure: a moment is a number of acknowledged messages, not a time.

Real scheduling is not in the seed: which packet a kill hits is up to the machine.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

Toxic = Literal["cut", "half-open", "loss", "latency", "bandwidth", "reset"]
Fault = Literal["kill", "disk-full", "clock-step", "broker-restart", "broker-kill"] | Toxic

TOXICS: tuple[Toxic, ...] = ("cut", "half-open", "loss", "latency", "bandwidth", "reset")
LINK: frozenset[Fault] = frozenset((*TOXICS, "broker-restart", "broker-kill"))
"""Faults of the network and the broker; the others hit the device. Both kinds happen at the same time."""

SECONDS: dict[Fault, float] = {
    "cut": 1.0,
    "half-open": 0.5,
    "loss": 4.0,
    "latency": 5.0,
    "bandwidth": 3.0,
    "reset": 2.0,
    "disk-full": 1.0,
}
"""How long each lasts. A half-open connection stays so for ever; new ones work after that time."""

MARGIN = 0.05  # of the messages, at both ends, without a fault


@dataclass(frozen=True)
class Event:
    """at: begins when the producer has so many acknowledgements. value: seconds of a clock step, else 0."""

    at: int
    fault: Fault
    value: int = 0


@dataclass(frozen=True)
class Plan:
    """How often what happens. restarts: of a broker that keeps its sessions. broker_kills: of one that forgets all."""

    messages: int
    kills: int
    rounds: int
    restarts: int = 1
    broker_kills: int = 0
    disk_full: int = 1
    clock_steps: int = 2


def make_schedule(plan: Plan, seed: int) -> tuple[Event, ...]:
    """Events in order of their moment. Each round has every toxic once, in an order of its own."""
    dice = random.Random(seed)
    link: list[Fault] = [toxic for _ in range(plan.rounds) for toxic in dice.sample(TOXICS, len(TOXICS))]
    for fault, count in (("broker-restart", plan.restarts), ("broker-kill", plan.broker_kills)):
        for _ in range(count):
            link.insert(dice.randrange(len(link) + 1), fault)  # type: ignore[arg-type]
    device: list[Fault] = [*["kill"] * plan.kills, *["disk-full"] * plan.disk_full, *["clock-step"] * plan.clock_steps]
    dice.shuffle(device)
    events = [*_spread(link, plan.messages, dice), *_spread(device, plan.messages, dice)]
    return tuple(sorted(events, key=lambda event: event.at))


def _spread(faults: list[Fault], messages: int, dice: random.Random) -> list[Event]:
    """Evenly over the messages, each somewhere in its own part."""
    if not faults:
        return []
    begin, width = messages * MARGIN, messages * (1 - 2 * MARGIN) / len(faults)
    return [
        Event(int(begin + width * (index + dice.random())), fault, _step(dice) if fault == "clock-step" else 0)
        for index, fault in enumerate(faults)
    ]


def _step(dice: random.Random) -> int:
    """Seconds: an hour to ten years, forwards or back."""
    return dice.choice((-1, 1)) * dice.choice((3600, 86_400, 30 * 86_400, 3650 * 86_400))
