"""Programs that do not end by themselves: the device's door to programs, and the test agent behind it."""

from __future__ import annotations

import sys

from appliance.agent.requests import carry_out
from appliance.formats.agent import Run
from appliance.machine.exec import execute

WAITING = "import signal; signal.pause()"


def test_a_program_and_its_children_end_at_the_deadline() -> None:
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {WAITING!r}])"
    assert execute([sys.executable, "-c", child], timeout_s=1).rc is None


def test_the_agent_says_that_the_deadline_passed() -> None:
    answer = carry_out(Run(id=1, argv=(sys.executable, "-c", WAITING), timeout_s=1))
    assert not answer.ok
    assert answer.error.strip().splitlines()[-1] == "deadline of 1 s passed"
