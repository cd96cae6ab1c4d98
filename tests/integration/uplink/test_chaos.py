"""Nothing that the uplink accepted is lost, out of order in its lane, or repeated without a reader seeing it.

The real service, a real mosquitto, a link that breaks in every way, kill -9 at any moment, a full disk, a stepped
clock: tests/support/chaos. `make chaos` runs the long version; docs/explanation/uplink-chaos.md says what it can show.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

MESSAGES = int(os.environ.get("EDGESEAL_CHAOS_MESSAGES", "20000"))
KILLS = int(os.environ.get("EDGESEAL_CHAOS_KILLS", "15"))
ROUNDS = int(os.environ.get("EDGESEAL_CHAOS_ROUNDS", "1"))
RATE = int(os.environ.get("EDGESEAL_CHAOS_RATE", "400"))
SEED = int(os.environ.get("EDGESEAL_CHAOS_SEED", "20261121"))
DEADLINE_S = 3600
LINES = ("seed", "delivery", "accepted", "delivered", "unique", "duplicates", "missing", "out_of_order", "unlike")
MORE = (
    "kept_unanswered",
    "reader",
    "gaps",
    "kills",
    "crashes",
    "reconnects",
    "link_faults_in_traffic",
    "broker_starts",
    "refused",
    "segments_dropped",
    "seconds",
)

Record = Callable[[str, object], None]


def chaos(*words: str) -> tuple[int, dict[str, Any], str]:
    """Exit status, what was counted, and what it said meanwhile."""
    command = [sys.executable, "-m", "tests.support.chaos", *words, f"--seed={SEED}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr


def tell(record: Record, name: str, counts: dict[str, Any]) -> None:
    """Into the summary at the end of the test run, whoever passed."""
    text = ", ".join(f"{line} {counts[line]}" for line in (*LINES, *MORE))
    record("counts", f"chaos, {name}: {text}")
    print(json.dumps(counts, indent=2))


def test_nothing_is_lost_between_a_producer_and_a_broker_that_keeps_its_sessions(record_property: Record) -> None:
    messages, kills = MESSAGES * 3 // 4, KILLS * 2 // 3
    status, counts, said = chaos(
        *(f"--messages={messages}", f"--kills={kills}", f"--rounds={ROUNDS}", f"--rate={RATE}"),
        *(f"--restarts={ROUNDS}", f"--disk-full={ROUNDS}", f"--clock-steps={2 * ROUNDS}", "--delivery=broker"),
    )
    tell(record_property, "delivered to the broker", counts)
    assert counts["faults"] == {}, f"{counts['examples']}\n{said[-6000:]}"
    assert (counts["crashes"], counts["stopped"], status) == ([], 0, 0), said[-6000:]
    assert (counts["accepted"], counts["missing"]) == (messages, 0)
    assert counts["unique"] == messages + counts["kept_unanswered"]
    assert counts["delivered"] == counts["unique"] + counts["duplicates"]
    assert counts["kills"] == kills
    reader = counts["reader"]
    assert (reader["missing"], reader["disordered"], reader["duplicates"]) == (0, 0, counts["duplicates"])
    assert counts["refused"].get("full", 0) + counts["refused"].get("unwritable", 0) > 0, "the disk was never full"
    assert counts["segments_dropped"] > 0, "no packet was lost"
    assert counts["broker_starts"] == 1 + ROUNDS
    assert counts["link_faults_in_traffic"] > 3 * ROUNDS, "the link was hardly in use when it broke"


def test_nothing_is_lost_when_the_broker_forgets_what_it_acknowledged(record_property: Record) -> None:
    messages, kills = MESSAGES // 4, KILLS - KILLS * 2 // 3
    status, counts, said = chaos(
        *(f"--messages={messages}", f"--kills={kills}", f"--rounds={ROUNDS - 1}", f"--rate={RATE}"),
        *(f"--broker-kills={2 * ROUNDS}", "--disk-full=0", "--clock-steps=1", "--delivery=historian"),
    )
    tell(record_property, "delivered to the historian", counts)
    assert counts["faults"] == {}, f"{counts['examples']}\n{said[-6000:]}"
    assert (counts["crashes"], counts["stopped"], status) == ([], 0, 0), said[-6000:]
    assert (counts["accepted"], counts["missing"]) == (messages, 0)
    assert (counts["reader"]["missing"], counts["reader"]["duplicates"]) == (0, counts["duplicates"])
    assert counts["broker_starts"] == 1 + 2 * ROUNDS


def test_an_uplink_that_answers_before_the_commit_is_found_out(record_property: Record) -> None:
    """The same story with an uplink that breaks its word: if this passed as good, the two above would mean nothing."""
    status, counts, _ = chaos(
        *("--messages=2500", "--kills=4", "--rounds=0", "--disk-full=0", "--clock-steps=0", "--subject=standin-early")
    )
    tell(record_property, "an uplink that answers before the commit", counts)
    assert status == 1
    assert {"wrong", "missing", "repeated_promises"} & counts["faults"].keys()


@pytest.mark.parametrize("subject", ["standin"])
def test_an_uplink_that_keeps_its_word_is_not_blamed(subject: str, record_property: Record) -> None:
    status, counts, said = chaos(
        *("--messages=2500", "--kills=4", "--rounds=0", "--disk-full=0", "--clock-steps=0", f"--subject={subject}")
    )
    tell(record_property, "a small uplink that commits first", counts)
    assert counts["faults"] == {}, said[-3000:]
    assert status in (0, 1)  # it does not end by SIGTERM in order, which is not the subject here
