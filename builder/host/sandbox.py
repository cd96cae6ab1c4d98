"""Run a program of a locked tree under bubblewrap: no host file, no host variable, no network, one fixed machine name.

So the bytes that tools write do not depend on the host. The tree is the sandbox's /usr.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.core.errors import InputError
from builder.host.run import run

_PATH = "/usr/sbin:/usr/bin"


@dataclass(frozen=True)
class Sandbox:
    """root: the unpacked tree; it holds usr/ and etc/. epoch: SOURCE_DATE_EPOCH of what runs inside, Unix seconds."""

    root: Path
    epoch: int

    def command(
        self,
        words: Sequence[str | Path],
        *,
        writable: Sequence[Path] = (),
        binds: Mapping[Path, str | None] | None = None,
        network: bool = False,
        environment: Mapping[str, str] | None = None,
        devices: Sequence[str] = (),
        capabilities: Sequence[str] = (),
        cwd: Path | None = None,
    ) -> list[str]:
        """The whole argument list for bubblewrap.

        writable: host paths that appear, writable, under their own name.
        binds: host paths that appear read-only, under the given path or their own name (None).
        network: share the host's network (the emulator needs its loopback).
        capabilities: kept inside, over its own namespaces only: CAP_NET_ADMIN to load a ruleset.
        Raises InputError when bubblewrap is not installed.
        """
        bwrap = shutil.which("bwrap")
        if bwrap is None:
            raise InputError("bubblewrap is not installed", hint="apt-get install bubblewrap")
        settings = {
            "PATH": _PATH,
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "HOME": "/nonexistent",
            "SOURCE_DATE_EPOCH": str(self.epoch),
            **(environment or {}),
        }
        arguments = [bwrap, "--unshare-all", "--die-with-parent", "--new-session", "--clearenv"]
        if network:
            arguments.append("--share-net")
        arguments += ["--hostname", "builder", "--uid", "0", "--gid", "0"]
        arguments += ["--tmpfs", "/", "--ro-bind", str(self.root / "usr"), "/usr"]
        for name in ("bin", "sbin", "lib", "lib64"):
            arguments += ["--symlink", f"usr/{name}", f"/{name}"]
        if (self.root / "etc").is_dir():
            arguments += ["--ro-bind", str(self.root / "etc"), "/etc"]
        arguments += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--dir", "/run", "--dir", "/var/tmp"]  # noqa: S108
        for capability in capabilities:
            arguments += ["--cap-add", capability]
        for device in devices:
            arguments += ["--dev-bind", device, device]
        for source, inside in (binds or {}).items():
            arguments += ["--ro-bind", str(source), inside or str(source)]
        for path in writable:
            arguments += ["--bind", str(path), str(path)]
        for name, value in sorted(settings.items()):
            arguments += ["--setenv", name, value]
        if cwd is not None:
            arguments += ["--chdir", str(cwd)]
        return [*arguments, "--", *(str(word) for word in words)]

    def run(
        self,
        words: Sequence[str | Path],
        *,
        reason: str,
        writable: Sequence[Path] = (),
        binds: Mapping[Path, str | None] | None = None,
        stdin: bytes | None = None,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> bytes:
        """Run to the end inside and return the standard output. reason: as in builder.host.run."""
        command = self.command(words, writable=writable, binds=binds, environment=environment, cwd=cwd)
        return run(command, reason=reason, stdin=stdin)
