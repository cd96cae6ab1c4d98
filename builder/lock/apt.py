"""apt's own solver in a private directory: it reads the machine's mirrors and keyring, and changes nothing there.

A profile says `debian/trixie`; which mirror serves it is the machine's own apt configuration, asked in `mirrors`.
"""

from __future__ import annotations

import email.utils
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from debian.deb822 import Packages

from appliance.core.errors import EdgesealError
from builder.host.run import run
from builder.lock.mirrors import machine_mirrors
from builder.lock.requests import DEBIAN_ARCHITECTURE
from builder.lock.types import LockedPackage

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_INST = re.compile(r"^Inst (?P<name>\S+) \((?P<version>\S+) .*\[(?P<architecture>\w+)\]\)")


class PrivateApt:
    """An apt of our own below `directory`, for one distribution and one architecture."""

    def __init__(self, directory: Path, *, suite: str, architecture: str, kept_out: Iterable[str]) -> None:
        """architecture: `x86_64` or `arm64`. kept_out: names to declare as installed."""
        self.directory = directory
        self.suite = suite
        self.architecture = DEBIAN_ARCHITECTURE[architecture]
        for part in ("state/lists/partial", "cache/archives/partial", "etc/preferences.d", "etc/apt.conf.d"):
            (directory / part).mkdir(parents=True, exist_ok=True)
        self._security: set[tuple[str, str]] | None = None
        mirrors = machine_mirrors()
        self.mirrors = mirrors
        lines = [
            f"deb [signed-by={KEYRING}] {mirrors.main} {suite} main non-free-firmware",
            f"deb [signed-by={KEYRING}] {mirrors.main} {suite}-updates main non-free-firmware",
            f"deb [signed-by={KEYRING}] {mirrors.security} {suite}-security main non-free-firmware",
        ]
        (directory / "etc/sources.list").write_text("\n".join(lines) + "\n")
        (directory / "status").write_text("\n".join(self._installed(name) for name in sorted(kept_out)))
        (directory / "apt.conf").write_text(self._configuration())

    def _installed(self, name: str) -> str:
        return (
            f"Package: {name}\nStatus: install ok installed\nMaintainer: none <none@invalid>\n"
            f"Architecture: {self.architecture}\nMulti-Arch: foreign\nVersion: 999:999\nDescription: kept out\n"
        )

    def _configuration(self) -> str:
        settings = {
            "Dir": self.directory,
            "Dir::State": self.directory / "state",
            "Dir::State::status": self.directory / "status",
            "Dir::Cache": self.directory / "cache",
            "Dir::Etc": self.directory / "etc",
            "Dir::Etc::sourcelist": self.directory / "etc/sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Bin::dpkg": "/bin/false",
            "APT::Architecture": self.architecture,
            "APT::Architectures": self.architecture,
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
        }
        return "".join(f'{key} "{value}";\n' for key, value in settings.items())

    def run(self, *words: str | Path, reason: str, hint: str | None = None, cwd: Path | None = None) -> str:
        """Run an apt program on the private directory."""
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C",
            "APT_CONFIG": f"{self.directory}/apt.conf",
        }
        environment |= {name: os.environ[name] for name in ("http_proxy", "https_proxy") if name in os.environ}
        return run(list(words), reason=reason, hint=hint, environment=environment, cwd=cwd).decode()

    def update(self) -> None:
        """Fetch the package indexes; apt checks their signatures and their dates.

        Raises EdgesealError, also for an index past its Valid-Until.
        """
        self.run(
            "apt-get",
            "update",
            "--error-on=any",
            reason=f"fetch the package indexes of {self.suite}",
            hint="is the mirror reachable, and does `apt-get update` work on this machine? an expired index means a "
            "mirror that stopped being updated",
        )

    def epoch(self) -> int:
        """The newest date of the indexes, in Unix seconds."""
        dates = []
        for release in sorted((self.directory / "state/lists").glob("*Release")):
            match = re.search(r"^Date: (.+)$", release.read_text(), re.MULTILINE)
            if match:
                dates.append(int(email.utils.parsedate_to_datetime(match[1]).timestamp()))
        if not dates:
            raise EdgesealError(f"no package index of {self.suite} is there", hint="run the lock again with network")
        return max(dates)

    def solve(self, packages: Iterable[str]) -> list[tuple[str, str]]:
        """(name, version) of everything that installing `packages` would install."""
        wanted = sorted(packages)
        said = self.run(
            "apt-get",
            "install",
            "--simulate",
            *wanted,
            reason=f"resolve {len(wanted)} packages for {self.suite} {self.architecture}",
            hint="a package name in the profile does not exist there, or two of them conflict",
        )
        return [
            (found["name"].split(":")[0], found["version"]) for found in map(_INST.match, said.splitlines()) if found
        ]

    def describe(self, found: Iterable[tuple[str, str]]) -> tuple[LockedPackage, ...]:
        """Join the solution with the packages' index entries. Sorted by name."""
        words = [f"{name}={version}" for name, version in found]
        if not words:
            return ()
        text = self.run("apt-cache", "show", *words, reason="read the entries of the chosen packages")
        packages = {
            entry["Package"]: self._locked(entry) for entry in Packages.iter_paragraphs(text, use_apt_pkg=False)
        }
        missing = sorted({word.split("=")[0] for word in words} - set(packages))
        if missing:
            raise EdgesealError(f"the package index has no entry for {', '.join(missing)}")
        return tuple(packages[name] for name in sorted(packages))

    def _locked(self, entry: Any) -> LockedPackage:
        source = re.fullmatch(r"(?P<name>\S+)(?: \((?P<version>\S+)\))?", entry.get("Source", entry["Package"]))
        assert source is not None
        security = self._from_security(entry["Package"], entry["Version"])
        return LockedPackage(
            name=entry["Package"],
            version=entry["Version"],
            architecture=entry["Architecture"],
            archive="security" if security else "main",
            pool_path=entry["Filename"].removeprefix("./"),
            size=int(entry["Size"]),
            sha256=entry["SHA256"],
            source=source["name"],
            source_version=source["version"] or entry["Version"],
        )

    def _from_security(self, name: str, version: str) -> bool:
        return (name, version) in self._security_index()

    def _security_index(self) -> set[tuple[str, str]]:
        if self._security is None:
            security: set[tuple[str, str]] = set()
            main: set[tuple[str, str]] = set()
            for target in self.run(
                "apt-get",
                "indextargets",
                "--format",
                "$(LABEL)|$(FILENAME)",
                "Created-By: Packages",
                reason="list the package indexes",
            ).splitlines():
                label, file = target.split("|", 1)
                pairs = _index_pairs(Path(file)) if Path(file).exists() else set()
                (security if label == "Debian-Security" else main).update(pairs)
            self._security = security - main
        return self._security


def _index_pairs(index: Path) -> set[tuple[str, str]]:
    pairs, name = set(), ""
    for line in index.read_text().splitlines():
        if line.startswith("Package: "):
            name = line[9:]
        elif line.startswith("Version: "):
            pairs.add((name, line[9:]))
    return pairs
