"""edgeseal-network's rules: how often something is told, what is counted, when the ruleset is put right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from appliance.core.errors import EdgesealError
from appliance.network.budget import Budget, Pace
from appliance.network.driftwatch import TEXT, in_words
from appliance.network.drops import MOST_KINDS, Drops, Kind, Told
from appliance.network.keeper import ALONE_TRIES, CLOSED, TRIES, Finding, Keeper
from appliance.network.packet import Flow
from appliance.network.slots import slot_commands
from tests.support.policies import everything

# ---- how often


def test_a_budget_gives_a_burst_and_then_one_at_a_time() -> None:
    budget = Budget(burst=3, every_s=60.0)
    assert [budget.take(0.0) for _ in range(5)] == [True, True, True, False, False]
    assert not budget.take(59.0)
    assert budget.take(60.5)
    assert not budget.take(61.0)
    assert [budget.take(10_000.0) for _ in range(4)] == [True, True, True, False]


def test_a_clock_that_goes_back_gives_nothing() -> None:
    budget = Budget(burst=1, every_s=1.0)
    assert budget.take(100.0)
    assert not budget.take(50.0)


def test_a_pace_lets_work_go_at_once_and_then_a_share_of_the_time() -> None:
    pace = Pace(credit_s=1.0, share=0.1, longest_s=5.0)
    for _ in range(10):
        assert pace.wait_s(0.0) == 0.0
        pace.worked(0.1, now=0.0)
    pace.worked(0.2, now=0.0)
    assert pace.wait_s(0.0) == pytest.approx(2.0)
    assert pace.wait_s(1.0) == pytest.approx(1.0)
    assert pace.wait_s(2.5) == 0.0


def test_no_pause_is_longer_than_that() -> None:
    pace = Pace(credit_s=1.0, share=0.1, longest_s=5.0)
    pace.worked(600.0, now=0.0)
    assert pace.wait_s(0.0) == pytest.approx(5.0)


def test_who_keeps_it_busy_gets_its_share_of_a_minute() -> None:
    pace, now, worked = Pace(credit_s=1.0, share=0.1, longest_s=5.0), 0.0, 0.0
    while now < 60.0:
        now += pace.wait_s(now)
        now, worked = now + 0.05, worked + 0.05
        pace.worked(0.05, now=now)
    assert 6.0 < worked < 8.0  # a tenth, and the credit


# ---- drops


def kind(port: int, reason: str = "in-no-conduit") -> Kind:
    return Kind(reason, "uplink0", Flow("tcp", "10.0.2.5", "10.0.2.15", port))


def test_equal_drops_are_one_entry_the_most_frequent_first() -> None:
    drops = Drops(burst=10, every_s=60.0)
    for port in (22, 80, 80, 443, 80, 22):
        drops.add(kind(port))
    assert drops.waiting
    assert drops.take(0.0) == [Told(kind(80), 3, 0), Told(kind(22), 2, 0), Told(kind(443), 1, 0)]
    assert not drops.waiting
    assert drops.take(1.0) == []
    assert drops.seen == 6


def test_what_the_budget_has_no_room_for_is_counted_into_the_next_entry() -> None:
    drops = Drops(burst=2, every_s=60.0)
    for port in range(1, 6):
        drops.add(kind(port))
    assert [told.untold for told in drops.take(0.0)] == [0, 0]
    drops.add(kind(9))
    assert drops.take(1.0) == []
    drops.lost(100)
    drops.add(kind(10))
    assert drops.take(61.0) == [Told(kind(10), 1, 3 + 1 + 100)]
    assert drops.seen == 5 + 1 + 100 + 1


def test_memory_is_bounded() -> None:
    drops = Drops(burst=1, every_s=60.0)
    for port in range(MOST_KINDS + 50):
        drops.add(kind(port))
    [told] = drops.take(0.0)
    assert told.untold == 50
    drops.add(kind(1))
    assert drops.take(600.0)[0].untold == MOST_KINDS - 1


# ---- words


def test_as_many_differences_as_fit() -> None:
    assert in_words(["a", "b"]) == "a; b"
    long = in_words([f"difference {number:04}" for number in range(100)])
    assert len(long) <= TEXT + 30
    assert long.endswith(f"; and {100 - long.count('difference')} more")
    assert in_words(["x" * 2000, "b"]) == "x" * (TEXT - 20) + "…; and 1 more"


# ---- slots


def test_a_slot_is_what_its_addresses_add() -> None:
    policy = everything()
    assert slot_commands(policy, {}) == ""
    assert slot_commands(policy, {"broker": ("192.168.20.5",)}).splitlines() == [
        "add element inet edgeseal in_uplink0_answers_4 { 192.168.20.5 . 6 . 8883 : goto b_broker }",
        "add element inet edgeseal out_uplink0_uplink_4 { 192.168.20.5 . 6 . 8883 : goto c_broker }",
    ]


# ---- the keeper


SEALED = "table inet edgeseal { chain input { drop; }; }"
LISTED = "table inet edgeseal {\n\tset cg_uplink {\n\t\ttype cgroupsv2\n%s\t}\n\tchain input {\n\t\tdrop\n\t}\n}\n"


@dataclass
class FakeKernel:
    """One transaction is one generation. meddle: what somebody else does after each of our transactions."""

    text: str = ""
    number: int = 0
    refusals: int = 0
    refuses: str = ""
    meddle: Sequence[str] = ()
    loads: list[str] = field(default_factory=list)

    def load(self, commands: str) -> None:
        if self.refusals or (self.refuses and self.refuses in commands):
            self.refusals = max(0, self.refusals - 1)
            raise EdgesealError("cannot load the ruleset: no")
        self.loads.append(commands)
        self.number += 1
        self.text = LISTED % ('\t\telements = { "up" }\n' if '"up"' in commands else "")
        if self.meddle:
            added, *self.meddle = self.meddle
            self.commit(added)

    def commit(self, added: str) -> None:
        """Somebody else's transaction."""
        self.number += 1
        self.text += added

    def listing(self) -> str:
        return self.text

    def generation(self) -> int:
        return self.number


def keeper(kernel: FakeKernel, *, running: Sequence[str] = ()) -> Keeper:
    return Keeper(kernel, kernel, lambda service: "up" if service in running else None, SEALED, "")


def started(kernel: FakeKernel, *, running: Sequence[str] = ()) -> Keeper:
    made = keeper(kernel, running=running)
    made.start()
    return made


def test_everything_goes_into_one_transaction() -> None:
    kernel = FakeKernel()
    started(kernel, running=["uplink"])
    assert kernel.loads == [f'flush ruleset\n{SEALED}\nadd element inet edgeseal cg_uplink {{ "up" }}\n']


def test_what_was_in_force_before_is_compared() -> None:
    kernel = FakeKernel()
    made = keeper(kernel)
    assert made.start() == Finding(("table inet edgeseal removed",))
    assert not made.was_loaded
    again = keeper(kernel)
    assert again.start() == Finding(())
    assert again.was_loaded
    kernel.commit("table ip foreign {\n}\n")
    assert keeper(kernel).start() == Finding(("table ip foreign added",))


def test_slots_that_the_kernel_refuses_leave_the_rest_as_it_is() -> None:
    kernel = FakeKernel(refuses="add element x")
    made = Keeper(kernel, kernel, lambda _: None, SEALED, "add element x")
    made.start()
    assert made.slots_refused == "cannot load the ruleset: no"
    assert made.check() == Finding(())
    assert made.restore()
    assert "add element x" not in kernel.loads[-1]


def test_a_change_is_found_by_its_generation_and_undone() -> None:
    kernel = FakeKernel()
    made = started(kernel)
    assert not made.is_new
    assert made.check() == Finding(())
    kernel.commit("table ip foreign {\n}\n")
    assert made.is_new
    assert made.check() == Finding(("table ip foreign added",))
    assert made.is_new
    assert made.restore()
    assert not made.is_new
    assert "foreign" not in kernel.text


def test_a_transaction_that_changes_nothing_is_seen_once() -> None:
    kernel = FakeKernel()
    made = started(kernel)
    kernel.commit("")
    assert made.is_new
    assert made.check() == Finding(())
    assert not made.is_new


def test_nobody_elses_transaction_gets_into_what_is_expected() -> None:
    """Somebody adds a table between our transaction and our listing, twice."""
    kernel = FakeKernel(meddle=["table ip foreign {\n}\n"] * 2)
    started(kernel)
    assert len(kernel.loads) == 3
    assert "foreign" not in kernel.text


def test_it_gives_up_when_somebody_is_always_faster() -> None:
    kernel = FakeKernel(meddle=["table ip foreign {\n}\n"] * ALONE_TRIES)
    with pytest.raises(EdgesealError, match=r"^the ruleset is changed as fast as it is loaded$"):
        started(kernel)


def test_who_is_at_it_again_is_seen_again() -> None:
    kernel = FakeKernel()
    made = started(kernel)
    kernel.meddle = ["table ip foreign {\n}\n"]
    assert not made.restore()
    assert made.is_new
    assert made.check() == Finding(("table ip foreign added",))


@pytest.mark.parametrize(("refusals", "loaded"), [(TRIES - 1, True), (TRIES, False)])
def test_a_load_that_is_refused_is_tried_again(refusals: int, loaded: bool) -> None:
    """A unit may stop, and its cgroup go, between our look and the transaction."""
    kernel = FakeKernel()
    made = started(kernel)
    kernel.refusals = refusals
    if loaded:
        assert made.restore()
    else:
        with pytest.raises(EdgesealError, match=r"^cannot load the ruleset: no$"):
            made.restore()


def test_a_control_group_that_is_not_the_units_is_a_difference_that_may_pass() -> None:
    kernel = FakeKernel()
    running: list[str] = []
    made = started(kernel, running=running)
    running.append("uplink")
    assert made.check() == Finding(('set inet edgeseal cg_uplink: element removed: "up"',), passing=True)
    assert made.restore()
    assert made.check() == Finding(())
    running.clear()
    assert made.check() == Finding(('set inet edgeseal cg_uplink: element added: "up"',), passing=True)


def test_closed_is_closed() -> None:
    kernel = FakeKernel()
    keeper(kernel).close_device()
    assert kernel.loads == [CLOSED]
    assert "accept" not in CLOSED
    assert CLOSED.count("policy drop;") == 5
    assert CLOSED.startswith("flush ruleset\n")


def test_generations_come_round() -> None:
    kernel = FakeKernel(number=(1 << 32) - 2)
    made = started(kernel)
    assert kernel.number == (1 << 32) - 1
    assert not made.is_new
