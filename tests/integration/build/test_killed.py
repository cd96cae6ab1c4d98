"""A build that is killed at any step, and started again, gives the bytes of one that nobody disturbed.

There is no hook in the builder: the test watches what appears in its directories, and kills it (SIGKILL) there.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.archive.digest import file_sha256
from tests.integration.build.conftest import GROUP
from tests.support.keys import keys_at
from tests.support.workplace import Workplace, finished, pool_items

pytestmark = pytest.mark.xdist_group(GROUP)

PROFILE = "virtual-x86_64"
DEADLINE_S = 300.0  # only a failure takes that long
STEPS = (
    ("unpacking the tools", "cache/steps/tree/.making-*/usr/bin", 1),
    ("the tools are unpacked", "cache/steps/tree/[0-9a-f]*", 1),
    ("the first package", "cache/steps/deb/[0-9a-f]*", 1),
    ("indexing the kernel", "cache/steps/kernel-index/.making-*", 1),
    ("half of the packages", "cache/steps/deb/[0-9a-f]*", 40),
    ("writing the base", "cache/steps/base/.making-*/usr", 1),
    ("finishing the base", "cache/steps/base/.making-*/etc/shadow", 1),
    ("the base is done", "cache/steps/base/[0-9a-f]*", 1),
    ("writing the root", "cache/steps/root/.making-*/root/usr", 1),
    ("the root is done", "cache/steps/root/[0-9a-f]*", 1),
    ("making the root image", "cache/steps/seal/.making-*/root.erofs", 1),
    ("making the hash tree", "cache/steps/seal/.making-*/root.verity", 1),
    ("the root is sealed", "cache/steps/seal/[0-9a-f]*", 1),
    ("packing the initrd", "cache/steps/initrd/.making-*", 1),
    ("the initrd is packed", "cache/steps/initrd/[0-9a-f]*", 1),
    ("assembling the kernel image", "cache/.uki-*", 1),
    ("composing the disk", f"out/.{PROFILE}.building-*", 1),
    ("the disk is composed", f"out/.{PROFILE}.building-*/disk.raw", 1),
    ("writing the evidence", f"out/.{PROFILE}.building-*/manifest.json", 1),
)


@pytest.fixture(scope="module")
def place(base: Path) -> Workplace:
    """A place whose cache is empty but for the pool."""
    place = Workplace(base / "killed", environment={"LC_ALL": "C.UTF-8"})
    return place.furnish(base / "sources", keys_at(), pool_items(("tools", PROFILE)))


def appeared(place: Workplace, pattern: str, count: int) -> Callable[[], bool]:
    """Whether `count` paths match by now."""
    return lambda: len(list(place.root.glob(pattern))) >= count


def kill_when(process: subprocess.Popen[str], there: Callable[[], bool], what: str) -> None:
    """SIGKILL for the builder alone, as soon as `there`; what it started must end with it."""
    deadline = time.monotonic() + DEADLINE_S
    while not there():
        assert process.poll() is None, f"{what}: it ended before: {process.communicate()}"
        assert time.monotonic() < deadline, f"{what}: never seen"
        time.sleep(0.001)
    process.kill()
    process.communicate()


def wait_until_alone(place: Workplace) -> None:
    """Until no process that names this place is left."""
    deadline = time.monotonic() + DEADLINE_S
    while left := [text for text in _command_lines() if str(place.root) in text]:
        assert time.monotonic() < deadline, f"still running: {left}"
        time.sleep(0.01)


def _command_lines() -> list[str]:
    texts = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            texts.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue  # it ended meanwhile
    return texts


def digests(directory: Path) -> dict[str, str]:
    """Name -> sha256 of a build."""
    return {path.name: file_sha256(path) for path in sorted(directory.iterdir())}


def leftovers(place: Workplace) -> list[str]:
    """Temporary files and directories of builds."""
    hidden = [
        path
        for top, names, files in os.walk(place.cache)
        if "pool" not in top and len(Path(top).relative_to(place.cache).parts) < 3
        for path in (Path(top, name) for name in names + files if name.startswith("."))
    ]
    return sorted(str(path) for path in [*hidden, *(place.root / "out").glob(".*"), *(place.root / "tmp").iterdir()])


def test_killed_at_every_step_it_still_gives_the_same_bytes(place: Workplace, virtual: Path) -> None:
    for what, pattern, count in STEPS:
        kill_when(place.build(PROFILE), appeared(place, pattern, count), what)
        wait_until_alone(place)
        if place.out(PROFILE).exists():  # the last kill may come just after the end
            assert digests(place.out(PROFILE)) == digests(virtual), f"{what}: half a build is there"
    finished(place.build(PROFILE))
    assert digests(place.out(PROFILE)) == digests(virtual)
    assert leftovers(place) == []


def test_the_old_build_stays_until_the_new_one_is_whole(place: Workplace) -> None:
    finished(place.build(PROFILE))
    before = digests(place.out(PROFILE))
    clock = place.root / "source/appliance/core/clock.py"
    clock.write_text(clock.read_text() + "# changed\n")
    seen = []
    for what, pattern, count in STEPS:
        if pattern.startswith("out/"):
            kill_when(place.build(PROFILE), appeared(place, pattern, count), what)
            wait_until_alone(place)
            seen.append(digests(place.out(PROFILE)))
    finished(place.build(PROFILE))
    after = digests(place.out(PROFILE))
    assert after["root.erofs"] != before["root.erofs"]
    assert seen[:2] == [before, before]
    assert seen[2] in (before, after), "the last kill may come just after the exchange"
    assert leftovers(place) == []
