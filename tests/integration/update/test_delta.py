"""Staging on real files: the disk itself is read back, and a process that is killed is replaced by one that goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from appliance.formats.release import BLOCK, encode_release
from appliance.update.area import open_slot
from appliance.update.staging import StagedSlot
from tests.support.delta import Directory, Published, hashed_block, publish, stage_quietly

OLD = [hashed_block(number) for number in range(3000)]
NEW = OLD[:500] + [hashed_block(number) for number in range(10_000, 11_500)] + OLD[700:2500]

CHILD = """
import sys, time
from pathlib import Path
from appliance.formats.release import decode_release
from appliance.update.area import open_slot
from appliance.update.staging import stage
from tests.support.delta import Directory

where = Path(sys.argv[1])
with open_slot(where / "run.data", where / "run.hashes", writable=False) as running, \\
        open_slot(where / "in.data", where / "in.hashes", writable=True) as inactive:
    def progress(step):
        if step.step == "fetch":
            print(step.done, flush=True)
            time.sleep(0.002)
    stage(decode_release((where / "release.json").read_bytes()), inactive, running, Directory(where),
          progress=progress, should_stop=lambda: False)
"""


def prepared(directory: Path) -> Published:
    """Two slots in files, and the release's manifest as a file."""
    old, new = publish(directory, OLD, number=1), publish(directory, NEW, number=2)
    (directory / "run.data").write_bytes(old.image)
    (directory / "run.hashes").write_bytes(old.hashes)
    for name, size in (("in.data", len(new.image) + BLOCK), ("in.hashes", 1 << 20)):
        with (directory / name).open("wb") as stream:
            stream.truncate(size)
    (directory / "release.json").write_bytes(encode_release(new.release))
    return new


def stage_here(directory: Path, new: Published) -> tuple[StagedSlot, Directory]:
    source = Directory(directory)
    with (
        open_slot(directory / "run.data", directory / "run.hashes", writable=False) as running,
        open_slot(directory / "in.data", directory / "in.hashes", writable=True) as inactive,
    ):
        return stage_quietly(new, inactive, running, source), source


def test_a_killed_process_is_gone_on_from(tmp_path: Path) -> None:
    new = prepared(tmp_path)
    fetched = 0  # right blocks after the run before
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            for _ in range(100):  # blocks
                assert child.stdout.readline(), "the child ended before it was killed"
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
        assert child.returncode == -signal.SIGKILL
        right = blocks_right(tmp_path, new)
        assert right - fetched >= 100, "the run before was lost"
        fetched = right
    staged, source = stage_here(tmp_path, new)
    assert staged.fetched == 1500 - (fetched - (len(NEW) - 1500))
    frames = [item.length for sha256, item in source.asked if sha256 == new.release.delta.frames.sha256]
    assert sum(frames) == staged.fetched * BLOCK
    assert (tmp_path / "in.data").read_bytes() == new.image + bytes(BLOCK)
    assert (tmp_path / "in.hashes").read_bytes().startswith(new.hashes)


def blocks_right(directory: Path, new: Published) -> int:
    data = (directory / "in.data").read_bytes()
    return sum(data[at : at + BLOCK] == new.image[at : at + BLOCK] for at in range(0, len(new.image), BLOCK))
