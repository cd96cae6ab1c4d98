"""A process that appends to the log is killed with SIGKILL, again and again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from appliance.audit.store import TileLog
from tests.support.append_forever import entry
from tests.support.log_verifier import verify_static

ROOT = Path(__file__).parents[3]


def test_killed_process_loses_nothing_that_it_said(tmp_path: Path) -> None:
    said = {"begun": 0, "durable": 0, "signed": 0, "published": 0}
    for lines in (1, 3, 8, 20, 47, 90, 140, 11):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.append_forever", str(tmp_path)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        for _ in range(lines):
            what, size = process.stdout.readline().split()
            said[what] = int(size)
        process.kill()
        for line in process.stdout:
            what, _, size = line.strip().partition(" ")
            said[what] = int(size)
        process.wait()
        _check(tmp_path, said)
    assert said["published"] > 256


def _check(directory: Path, said: dict[str, int]) -> None:
    public = directory / "tlog"
    files = {str(path.relative_to(public)): path.read_bytes() for path in public.rglob("*") if path.is_file()}
    static = verify_static(files)
    assert (static.size if static is not None else 0) >= said["published"]
    log = TileLog.open(public, directory / "state", floor=said["signed"])
    assert log.size >= max(said["durable"], said["begun"])
    assert log.entries(0, log.size) == [entry(index) for index in range(log.size)]
    log.close()
