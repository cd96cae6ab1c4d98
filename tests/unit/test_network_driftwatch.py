"""When the live ruleset is compared, what is told, and what happens when it cannot be put right."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from appliance.core.errors import EdgesealError
from appliance.network.driftwatch import BURST, LONGEST_S, NOT_LOADED, SETTLE_S, Clocks, DriftWatch
from appliance.network.keeper import CLOSED, Keeper
from appliance.network.sockets import Committer

CHECK_S = 60.0
DIGEST = "d" * 64
US, THEM = Committer(7, "python3"), Committer(812, "nft")
FOREIGN = "table ip foreign {\n}\n"
SEALED = "table inet edgeseal {\n\tset cg_uplink {\n\t\ttype cgroupsv2\n%s\t}\n}\n"


@dataclass
class World:
    """A kernel whose transactions are numbered and told of, the cgroup tree, two clocks and an audit log."""

    text: str = ""
    number: int = 0
    news: list[Committer] = field(default_factory=list)
    told: list[tuple[str, dict[str, str | int | bool]]] = field(default_factory=list)
    uplink: bool = False
    refuses: str = ""
    now: float = 1000.0
    used: float = 0.0
    cost: float = 0.01
    fights: bool = False
    listings: int = 0

    # ---- as the kernel

    def load(self, commands: str) -> None:
        if self.refuses and self.refuses in commands:
            raise EdgesealError("cannot load the ruleset: no")
        elements = '\t\telements = { "up" }\n' if '"up"' in commands else ""
        self.commit("table inet edgeseal_closed {\n}\n" if commands == CLOSED else SEALED % elements, by=US)
        if self.fights:
            self.commit(self.text + FOREIGN)

    def commit(self, text: str, *, by: Committer = THEM) -> None:
        self.text, self.number = text, self.number + 1
        self.news.append(by)

    def listing(self) -> str:
        self.listings += 1
        self.used += self.cost
        self.now += self.cost
        return self.text

    def generation(self) -> int:
        return self.number

    def fileno(self) -> int:
        raise AssertionError

    def changes(self) -> list[Committer]:
        news, self.news = self.news, []
        return news

    # ---- as the audit log

    def tell(self, kind: str, result: str = "success", **fields: str | int | bool) -> None:
        self.told.append((kind, {"result": result, **fields}))

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.told]


def watch(world: World) -> DriftWatch:
    keeper = Keeper(world, world, lambda name: "up" if name == "uplink" and world.uplink else None, "sealed", "")
    clocks = Clocks(steady=lambda: world.now, work=lambda: world.used)
    return DriftWatch(keeper, world, world, DIGEST, check_s=CHECK_S, clocks=clocks, own_pid=US.pid)


def started(world: World) -> DriftWatch:
    world.text = SEALED % ""
    made = watch(world)
    made.start()
    assert world.told == []
    return made


def turn(world: World, made: DriftWatch) -> None:
    """As the service's loop does: wait for news or for the time."""
    awake = bool(made.watched(world.now)) and bool(world.news)
    if not awake:
        world.now += made.wait_s(world.now)
    made.round(awake=awake)


def test_a_change_is_put_right_and_told_with_who_made_it() -> None:
    world = World()
    made = started(world)
    world.commit(world.text + FOREIGN)
    turn(world, made)
    assert world.text == SEALED % ""
    assert world.told == [
        (
            "ruleset-drift",
            {
                "result": "failure",
                "differences": "table ip foreign added",
                "count": 1,
                "by": "nft (process 812)",
                "untold": 0,
            },
        ),
        ("ruleset-restored", {"result": "success", "milliseconds": 20}),
    ]
    assert made.restored == 1


def test_without_news_it_compares_once_a_minute() -> None:
    world = World()
    made = started(world)
    before, listings = world.now, world.listings
    for _ in range(3):
        turn(world, made)
    assert world.listings == listings + 3
    assert world.now - before == pytest.approx(3 * CHECK_S, abs=1)
    assert world.told == []


def test_a_change_without_news_is_found_all_the_same() -> None:
    world = World()
    made = started(world)
    world.commit(world.text + FOREIGN)
    world.news.clear()
    turn(world, made)
    assert world.told[0][1]["by"] == "a process that is not known"


def test_news_about_nothing_new_costs_no_listing() -> None:
    world = World()
    made = started(world)
    listings = world.listings
    world.news.append(THEM)
    turn(world, made)
    assert world.listings == listings


def test_whose_transaction_was_found_in_order_is_not_named_later() -> None:
    world = World()
    made = started(world)
    world.news.append(Committer(1, "systemd"))
    turn(world, made)
    world.commit(world.text + FOREIGN)
    turn(world, made)
    assert world.told[0][1]["by"] == "nft (process 812)"


def test_a_units_control_group_has_time_to_arrive() -> None:
    world = World()
    made = started(world)
    world.uplink = True
    world.commit(world.text)
    turn(world, made)
    assert world.told == []
    world.commit(SEALED % '\t\telements = { "up" }\n')
    turn(world, made)
    world.now += 2 * SETTLE_S
    made.round(awake=False)
    assert world.told == []


def test_a_control_group_that_does_not_come_is_put_in() -> None:
    world = World()
    made = started(world)
    world.uplink = True
    world.commit(world.text)
    turn(world, made)
    before = world.now
    turn(world, made)
    assert world.now - before == pytest.approx(SETTLE_S, abs=0.1)
    assert world.told[0][1]["differences"] == 'set inet edgeseal cg_uplink: element removed: "up"'
    assert '"up"' in world.text


def test_it_was_not_in_force_when_it_started() -> None:
    world = World()
    watch(world).start()
    assert world.told == [("ruleset-load-failed", {"result": "failure", "sha256": DIGEST, "reason": NOT_LOADED})]
    assert world.text == SEALED % ""


def test_what_was_changed_before_it_started() -> None:
    world = World(text=SEALED % "" + FOREIGN)
    watch(world).start()
    assert world.kinds == ["ruleset-drift", "ruleset-restored"]
    assert world.told[0][1]["by"] == "a process that is not known"


def test_a_ruleset_that_is_refused_at_the_start_closes_the_device() -> None:
    world = World(refuses="sealed")
    with pytest.raises(EdgesealError, match=r"^cannot load the ruleset: no$"):
        watch(world).start()
    assert "edgeseal_closed" in world.text
    assert world.told[0][1]["reason"] == "cannot load the ruleset: no"


def test_a_ruleset_that_is_refused_later_closes_the_device() -> None:
    world = World()
    made = started(world)
    world.refuses = "sealed"
    world.commit(world.text + FOREIGN)
    with pytest.raises(EdgesealError):
        turn(world, made)
    assert "edgeseal_closed" in world.text
    assert world.kinds == ["ruleset-load-failed"]


def test_when_not_even_that_is_possible_it_is_told() -> None:
    world = World(refuses="flush ruleset")
    with pytest.raises(EdgesealError):
        watch(world).start()
    reason = "cannot load the ruleset: no; the device cannot be closed: cannot load the ruleset: no"
    assert world.told[0][1]["reason"] == reason


def test_who_fights_is_put_right_at_a_pace_and_told_within_a_budget() -> None:
    world = World(cost=0.1)
    made = started(world)
    world.fights = True
    world.commit(world.text + FOREIGN)
    begin, used = world.now, world.used
    while world.now < begin + 600:
        before = world.now
        turn(world, made)
        assert world.now - before <= LONGEST_S + 1
    assert world.used - used < 0.12 * 600 + 4
    assert made.restored > 100
    assert world.kinds.count("ruleset-drift") <= BURST + 10
    assert "ruleset-restored" not in world.kinds
    world.fights = False
    for _ in range(5):
        turn(world, made)
    assert world.text == SEALED % ""


def test_what_had_no_room_is_counted() -> None:
    world = World(cost=0.0)
    made = started(world)
    for _ in range(BURST + 5):
        world.commit(world.text + FOREIGN)
        turn(world, made)
    world.now += 61
    world.commit(world.text + FOREIGN)
    turn(world, made)
    drifts = [fields for kind, fields in world.told if kind == "ruleset-drift"]
    assert [fields["untold"] for fields in drifts] == [0] * BURST + [5]
