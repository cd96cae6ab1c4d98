"""A copy of the checkout to build in, with a cache of its own that can be cold at will."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from builder.archive.fetch import fetch
from builder.host.paths import source_root
from builder.host.toolstree import default_pool
from builder.lock.codec import decode_lock
from builder.lock.store import lock_path
from builder.signing.keyinit import init_keys

_COPIED = ("appliance", "benchmarks", "builder", "profiles")


@dataclass(frozen=True)
class Step:
    """A step of a build. seconds: wall clock."""

    title: str
    seconds: float


@dataclass(frozen=True)
class Place:
    """root: holds source/, cache/, keys/ and out/."""

    root: Path

    @property
    def cache(self) -> Path:
        """EDGESEAL_CACHE."""
        return self.root / "cache"

    def forget(self) -> None:
        """Empty the step cache; the pool stays filled."""
        shutil.rmtree(self.cache / "steps", ignore_errors=True)

    def change_one_file(self) -> None:
        """As a person does who works on a service: one line in one file of the device's code."""
        with (self.root / "source/appliance/core/clock.py").open("a") as stream:
            stream.write("# another line\n")

    def build(self, profile: str) -> list[Step]:
        """Build it. The first row is the whole, the start of the interpreter included."""
        result = self.root / "result.json"
        where = ("--keys", str(self.root / "keys"), "--out", str(self.root / "out"))
        settings = {**os.environ, "EDGESEAL_CACHE": str(self.cache), "PYTHONPATH": str(self.root / "source")}
        settings.pop("PYTHONDONTWRITEBYTECODE", None)  # people's second build has bytecode
        begun = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "benchmarks.timed", str(result), "build", profile, *where, "--offline"],
            cwd=self.root / "source",
            env=settings,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        whole = time.perf_counter() - begun
        steps = [Step(item["step"], item["seconds"]) for item in json.loads(result.read_bytes())["steps"]]
        return [Step("the whole build", whole), *steps]


@contextmanager
def working_place(profile: str) -> Iterator[Place]:
    """A place for a profile, with the user's pool, deleted at the end."""
    with tempfile.TemporaryDirectory(prefix="edgeseal-bench-", ignore_cleanup_errors=True) as name:
        place = Place(Path(name))
        for part in _COPIED:
            shutil.copytree(source_root() / part, place.root / "source" / part)
        init_keys(place.root / "keys", development=True, now=datetime.now(UTC))
        for lock in (profile, "tools"):
            fetch(decode_lock(lock_path(lock).read_bytes(), file=lock), default_pool(), offline=False)
        place.cache.mkdir()
        (place.cache / "pool").symlink_to(default_pool().root)
        yield place
