"""The units as the device's own systemd reads them (the tools tree has the same version)."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from appliance.core.errors import EdgesealError
from builder.host.paths import source_root
from builder.host.toolstree import tools_tree
from builder.profile.load import load_profile
from builder.rootfs.entries import File
from builder.rootfs.files import Sealed, profile_files, static_files

UNITS = source_root() / "appliance" / "units"
NAMES = sorted(path.name for path in UNITS.iterdir() if path.suffix in (".service", ".socket", ".target", ".path"))
MAX_EXPOSURE = 1.5
# The agent is root by design and in no release image; the others run no program.
EXPOSED = ("edgeseal-agent.service", "edgeseal-fallback.service", "edgeseal-halt.service", "edgeseal-reboot.service")


def test_systemd_understands_every_line() -> None:
    tools_tree().run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *NAMES],
        reason="verify the units",
        binds={UNITS: "/run/systemd/system"},
    )


def test_a_misspelt_line_would_be_seen(tmp_path: Path) -> None:
    shutil.copy(UNITS / "edgeseal-audit.socket", tmp_path)
    text = (UNITS / "edgeseal-audit.service").read_text()
    (tmp_path / "edgeseal-audit.service").write_text(text.replace("PrivateNetwork=yes", "PrivateNetwurk=yes"))
    with pytest.raises(EdgesealError, match="PrivateNetwurk"):
        tools_tree().run(
            ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", "edgeseal-audit.service"],
            reason="verify the units",
            binds={tmp_path: "/run/systemd/system"},
        )


def test_systemd_understands_the_mounts(tmp_path: Path) -> None:
    profile = load_profile("virtual-x86_64")
    plan = static_files() | profile_files(profile, Sealed(recovery_pem=b"", ipe_policy=b"", development=True))
    mounts = {path: entry for path, entry in plan.items() if path.endswith(".mount")}
    files = {Path(path).name: entry.read() for path, entry in mounts.items() if isinstance(entry, File)}
    media = {f"run-edgeseal\\x2d{name}.mount" for name in ("export", "medium")}
    assert set(files) == {"efi.mount", "var.mount", *media}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    tools_tree().run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *files],
        reason="verify the mounts",
        binds={tmp_path: "/run/systemd/system"},
    )


def udev_verify(rules: Path) -> None:
    tools_tree().run(
        ["udevadm", "verify", "--resolve-names=never", "--no-style", rules],
        reason="verify the rules",
        binds={rules.parent: None},
    )


def test_udev_understands_every_rule(tmp_path: Path) -> None:
    for rules in sorted(UNITS.glob("*.rules")):
        udev_verify(rules)
    wrong = tmp_path / "65-wrong.rules"
    wrong.write_text((UNITS / "65-edgeseal-update.rules").read_text().replace("TEST!=", "TSET!="))
    with pytest.raises(EdgesealError, match="verify the rules"):
        udev_verify(wrong)


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
