"""The units as the device's own systemd reads them (the tools tree has the same version)."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from appliance.core.errors import EdgesealError
from builder.host.paths import source_root
from builder.host.toolstree import tools_tree

UNITS = source_root() / "appliance" / "units"
NAMES = sorted(path.name for path in UNITS.iterdir() if path.suffix in (".service", ".socket", ".target"))
MAX_EXPOSURE = 1.5
# The agent is root by design and in no release image; the fallback runs no program.
EXPOSED = ("edgeseal-agent.service", "edgeseal-fallback.service")


def test_systemd_understands_every_line() -> None:
    tools_tree().run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *NAMES],
        reason="verify the units",
        binds={UNITS: "/run/systemd/system"},
    )


def test_a_misspelt_line_would_be_seen(tmp_path: Path) -> None:
    shutil.copy(UNITS / "edgeseal-audit.socket", tmp_path)
    text = (UNITS / "edgeseal-audit.service").read_text()
    (tmp_path / "edgeseal-audit.service").write_text(text.replace("PrivateDevices=yes", "PrivateDevises=yes"))
    with pytest.raises(EdgesealError, match="PrivateDevises"):
        tools_tree().run(
            ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", "edgeseal-audit.service"],
            reason="verify the units",
            binds={tmp_path: "/run/systemd/system"},
        )


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(".service") and name not in EXPOSED])
def test_exposure(name: str, tmp_path: Path) -> None:
    directory = tmp_path / "usr" / "lib" / "systemd" / "system"
    directory.mkdir(parents=True)
    shutil.copy(UNITS / name, directory)
    report = tools_tree().run(
        ["systemd-analyze", "security", "--offline=true", f"--root={tmp_path}", "--no-pager", name],
        reason="judge the sandbox",
        binds={tmp_path: None},
    )
    level = re.search(rf"Overall exposure level for {re.escape(name)}: ([0-9.]+) ", report.decode())
    assert level is not None
    assert float(level.group(1)) <= MAX_EXPOSURE, report.decode()
