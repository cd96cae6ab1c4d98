"""The test agent's `connect`: as a service, in its control group. On a device: tests/vm/test_network.py."""

from __future__ import annotations

from appliance.agent.requests import carry_out
from appliance.formats.agent import Connect


def test_a_unit_that_does_not_run_has_no_control_group() -> None:
    request = Connect(id=7, unit="edgeseal-absent.service", uid=702, address="127.0.0.1", port=1)
    answer = carry_out(request)
    assert (answer.id, answer.ok, answer.result) == (7, False, None)
    assert answer.error.strip().endswith("edgeseal-absent.service has no control group: it does not run")
