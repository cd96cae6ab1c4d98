"""Whole builds, each made once: the tests of this directory look at the same ones, in one process."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.host.paths import source_root
from tests.support.keys import keys_at
from tests.support.workplace import Workplace, copy_sources, finished_all, pool_items

GROUP = "build"
"""The xdist group of all tests here."""
BOTH = ("virtual-x86_64", "virtual-arm64")
"""What is built in two places."""
BOARDS = ("industrial-pc", "npu-gateway", "smart-camera")


@pytest.fixture(scope="session")
def base() -> Iterator[Path]:
    """A directory that every user may enter, for all workplaces. sources/ in it is the checkout at this moment."""
    with tempfile.TemporaryDirectory(prefix="edgeseal-test-") as name:
        Path(name).chmod(0o755)
        copy_sources(source_root(), Path(name, "sources"))
        yield Path(name)


@pytest.fixture(scope="session")
def plain(base: Path) -> Workplace:
    """One CPU, and nothing out of the ordinary."""
    one_cpu = str(min(os.sched_getaffinity(0)))
    items = pool_items(("tools", *BOTH, *BOARDS))
    place = Workplace(base / "plain", cpus=one_cpu, environment={"TZ": "UTC", "LC_ALL": "C.UTF-8", "USER": "root"})
    return place.furnish(base / "sources", keys_at(), items)


@pytest.fixture(scope="session")
def strange(base: Path) -> Workplace:
    """Everything that must not matter is otherwise here."""
    items = pool_items(("tools", *BOTH))
    place = Workplace(
        base / "strange-and-with-a-much-longer-path-than-the-other",
        hostname="another-machine",
        umask="077",
        stranger=True,
        cwd=Path("/"),
        environment={
            "TZ": "Pacific/Chatham",
            "LANG": "tr_TR.UTF-8",
            "LC_ALL": "tr_TR.ISO-8859-9",
            "USER": "somebody",
            "SOURCE_DATE_EPOCH": "1",
            "PYTHONHASHSEED": "7",
        },
    )
    return place.furnish(base / "sources", keys_at(), items[::-1])


@pytest.fixture(scope="session")
def built(plain: Workplace, strange: Workplace) -> Workplace:
    """`plain`, after both places have built BOTH."""
    for profile in BOTH:
        finished_all(place.build(profile) for place in (plain, strange))
    return plain


@pytest.fixture(scope="session")
def virtual(built: Workplace) -> Path:
    """A build of virtual-x86_64."""
    return built.out("virtual-x86_64")
