"""A device that trusts a test repository: the client and the transport that devices run, on loopback."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from appliance.core.errors import VerificationError
from appliance.formats.device import UpdateConfig
from appliance.update.client import TrustedRepository
from appliance.update.http import HttpSource, Surroundings
from tests.support.tuf_site import Repository, Site, serve

NAME = "vendor repository"


def around() -> Surroundings:
    """Real time, and no luck."""
    return Surroundings(clock=time.monotonic, sleep=time.sleep, draw=lambda: 0.0)


def source(url: str, *, config: UpdateConfig | None = None, attempts: int = 1) -> HttpSource:
    """The transport for plain http."""
    return HttpSource(
        url, name=NAME, ca=None, config=config or UpdateConfig(), attempts=attempts, around=around(), bucket=None
    )


def tree(directory: Path) -> dict[str, bytes]:
    """Every file below `directory` / tuf."""
    base = directory / "tuf"
    return {str(path.relative_to(base)): path.read_bytes() for path in sorted(base.rglob("*")) if path.is_file()}


class Device:
    """state: a directory that outlives restarts. root: what it was made to trust."""

    def __init__(self, state: Path, root: bytes, site: Site, config: UpdateConfig) -> None:
        self.site = site
        self.source = source(site.url, config=config)
        self.client = TrustedRepository(state / "tuf", root, self.source, config, name=NAME)
        self._made_from = (state, root, site, config)

    def restarted(self) -> Device:
        """The same device after a power cut."""
        self.source.close()
        return Device(*self._made_from)

    def install(self, path: str, t_low: int) -> bytes:
        """What an update does with the repository: refresh, look the target up, fetch it."""
        self.client.refresh(t_low)
        target = self.client.target(path)
        if target is None:
            raise VerificationError(f"{NAME}: no role names {path}")
        return self.client.fetch(target, at_most=1 << 20)


@contextlib.contextmanager
def device(
    repository: Repository, state: Path, *, config: UpdateConfig | None = None, root: bytes | None = None
) -> Iterator[Device]:
    """A device, and a server of `repository`. root: repository's first, when None."""
    with serve(repository.files) as site:
        made = Device(state, root or repository.trusted_root(), site, config or UpdateConfig())
        try:
            yield made
        finally:
            made.source.close()
