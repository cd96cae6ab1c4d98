"""Who must not act without a record of it waits for the audit log."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.formats.device import AuditConfig
from appliance.update.service import may_act


@pytest.mark.parametrize(
    ("full", "with_sign", "without"),
    [("overwrite-oldest", True, True), ("stop-control-plane", True, False), ("halt", True, False)],
)
def test_nothing_is_begun_without_a_log_that_takes_events(
    tmp_path: Path, full: str, with_sign: bool, without: bool
) -> None:
    audit = AuditConfig(full=full)  # type: ignore[arg-type]
    sign = tmp_path / "takes-events"
    assert may_act(audit, sign) is without
    sign.touch()
    assert may_act(audit, sign) is with_sign
