"""A place to build in: its own copy of the checkout, cache, keys and interpreter, and its own kind of user and machine.

What the copies share with the original are bytes only: times, owners, paths and the order of filling differ. The host's
programs are out of reach, bubblewrap excepted, and so is every network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from builder.archive.fetch import fetch
from builder.archive.pool import Pool
from builder.host.toolstree import default_pool
from builder.lock.codec import decode_lock
from builder.lock.store import lock_path

STRANGER = 64321
"""A user and group id that stands in no passwd file."""

_SOURCES = ("appliance", "builder", "profiles", "pyproject.toml")
_ENTER = """
set -eu
echo "$HOST" > /proc/sys/kernel/hostname
mount --bind "$BASE_FROM" "$BASE_TO"
mount --bind "$PACKAGES_FROM" "$PACKAGES_TO"
umask "$UMASK"
unset BASE_FROM BASE_TO PACKAGES_FROM PACKAGES_TO UMASK HOST
exec "$@"
"""
_MAIN = "import sys; from builder.cli.main import main; sys.exit(main())"


def copy_sources(checkout: Path, target: Path) -> Path:
    """What a build reads of a checkout, without bytecode."""
    target.mkdir()
    for name in _SOURCES:
        if (checkout / name).is_dir():
            shutil.copytree(checkout / name, target / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        else:
            shutil.copyfile(checkout / name, target / name)
    return target


def pool_items(locks: Iterable[str]) -> list[str]:
    """The pool items of these locks, brought into the user's pool when they are not there yet."""
    items = set()
    for name in locks:
        lock = decode_lock(lock_path(name).read_bytes(), file=name)
        fetch(lock, default_pool(), offline=False)
        items |= {package.sha256 for package in lock.packages} | {wheel.sha256 for wheel in lock.wheels}
    return sorted(items)


def copy_pool(items: Sequence[str], cache: Path) -> None:
    """A pool below the directory `cache`, filled in the order of `items`, with times of now."""
    source, pool = default_pool(), Pool(cache / "pool")
    for item in items:
        pool.path(item).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.path(item), pool.path(item))


@dataclass(frozen=True)
class Workplace:
    """root: holds source/, cache/, keys/, out/ and tmp/; any user may reach it.

    stranger: run as STRANGER, who is nobody, instead of root. cpus: as taskset has it. environment: added to a clean
    one. cwd: current directory.
    """

    root: Path
    hostname: str = "workplace"
    umask: str = "022"
    cpus: str | None = None
    stranger: bool = False
    cwd: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    def furnish(self, sources: Path, keys: Path, items: Sequence[str]) -> Workplace:
        """Copy everything in, and return itself. items: of the pool, in the order in which they arrive."""
        self.root.mkdir()
        copy_sources(sources, self.root / "source")
        shutil.copytree(keys, self.root / "keys")
        copy_pool(items, self.root / "cache")
        for name in ("bin", "home", "out", "packages", "python", "tmp"):
            (self.root / name).mkdir()
        (self.root / "bin/bwrap").symlink_to(_program("bwrap"))
        if self.stranger:
            for path in (self.root, *self.root.rglob("*")):
                os.chown(path, STRANGER, STRANGER, follow_symlinks=False)
        return self

    @property
    def cache(self) -> Path:
        """EDGESEAL_CACHE."""
        return self.root / "cache"

    def out(self, profile: str) -> Path:
        """Where `build` puts a profile."""
        return self.root / "out" / profile

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        """Start `edgeseal WORDS`. The process is the builder's own: a signal reaches it, not a wrapper."""
        return subprocess.Popen(
            self._command(*words),
            env=self._settings(),
            cwd=self.cwd or self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def build(self, profile: str) -> subprocess.Popen[str]:
        """Start to build a profile into `out(profile)`."""
        keys = self.root / "keys"
        return self.start("build", profile, "--keys", keys, "--out", self.out(profile), "--offline", "--json")

    def _command(self, *words: str | Path) -> list[str]:
        python = self.root / "python" / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
        entered = [_program("unshare"), "--uts", "--mount", "--net"]
        if os.geteuid() != 0:
            entered += ["--user", "--map-root-user"]
        entered += [_program("sh"), "-c", _ENTER, "sh"]
        if self.cpus is not None:
            entered += [_program("taskset"), "--cpu-list", self.cpus]
        if self.stranger and os.geteuid() == 0:
            identity = (f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups", "--no-new-privs")
            entered += [_program("setpriv"), *identity]
        # env: the shell above needed the host's programs, what follows must not
        entered += [_program("env"), f"PATH={self.root / 'bin'}"]
        return [*entered, str(python), "-c", _MAIN, *(str(word) for word in words)]

    def _settings(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.root / "home"),
            "TMPDIR": str(self.root / "tmp"),
            "EDGESEAL_CACHE": str(self.cache),
            "PYTHONPATH": f"{self.root / 'source'}:{self.root / 'packages'}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOST": self.hostname,
            "UMASK": self.umask,
            "BASE_FROM": sys.base_prefix,
            "BASE_TO": str(self.root / "python"),
            "PACKAGES_FROM": sysconfig.get_path("purelib"),
            "PACKAGES_TO": str(self.root / "packages"),
            **self.environment,
        }


def finished(process: subprocess.Popen[str]) -> str:
    """Standard output of a process that ends well; fails with what it said otherwise."""
    return finished_all([process])[0]


def finished_all(processes: Iterable[subprocess.Popen[str]]) -> list[str]:
    """The same for some that run at once; none is left running."""
    running = list(processes)
    said = [process.communicate() for process in running]
    for process, (output, talk) in zip(running, said, strict=True):
        assert process.returncode == 0, f"exit {process.returncode}\n{output}\n{talk}"
    return [output for output, _talk in said]


def _program(name: str) -> str:
    found = shutil.which(name)
    assert found is not None, f"{name} is not installed"
    return found
