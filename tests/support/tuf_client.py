"""The conformance command line as a client under test, with what its suite looks at: files, exit status, requests."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from appliance.update import conformance
from tests.support.tuf_site import Repository, Site, serve

TOP = ["root", "snapshot", "targets", "timestamp"]


@dataclass
class Client:
    """The client under test, each command as a new start."""

    repository: Repository
    site: Site
    directory: Path

    def init(self, root: bytes | None = None) -> int:
        file = self.directory / "initial_root.json"
        file.write_bytes(self.repository.trusted_root() if root is None else root)
        return conformance.main(["--metadata-dir", str(self.directory / "metadata"), "init", str(file)])

    def refresh(self) -> int:
        self.site.asked.clear()
        return conformance.main([*self._words(), "refresh"])

    def download(self, *names: str) -> int:
        self.site.asked.clear()
        targets = [word for name in names for word in ("--target-name", name)]
        targets += ["--target-dir", str(self.directory / "targets")]
        return conformance.main(
            [*self._words(), *targets, "--target-base-url", f"{self.site.url}/targets/", "download"]
        )

    def _words(self) -> list[str]:
        return ["--metadata-dir", str(self.directory / "metadata"), "--metadata-url", f"{self.site.url}/metadata"]

    def version(self, role: str) -> int:
        stored = json.loads((self.directory / "metadata" / f"{role}.json").read_bytes())
        return int(stored["signed"]["version"])

    def trusted(self) -> list[tuple[str, int]]:
        """(role, version) of each stored *.json, by name."""
        return [(path.stem, self.version(path.stem)) for path in sorted((self.directory / "metadata").glob("*.json"))]

    def stored(self, role: str) -> bytes:
        return (self.directory / "metadata" / f"{role}.json").read_bytes()

    def downloaded(self) -> list[bytes]:
        """The contents of all files, sorted."""
        return sorted(path.read_bytes() for path in (self.directory / "targets").rglob("*") if path.is_file())

    def asked(self) -> list[str]:
        """Names of the metadata that was asked for."""
        return [path.removeprefix("metadata/") for path in self.site.asked if path.startswith("metadata/")]


@contextlib.contextmanager
def client_of(repository: Repository, directory: Path) -> Iterator[Client]:
    """A client that was made in `directory`."""
    for name in ("metadata", "targets"):
        (directory / name).mkdir()
    with serve(repository.files) as site:
        yield Client(repository, site, directory)


def now() -> int:
    """The machine's clock: the suite's clients believe it."""
    return int(time.time())
