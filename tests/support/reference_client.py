"""python-tuf's own client, as it comes: what a repository must satisfy."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest import mock

from tuf.api.exceptions import DownloadHTTPError
from tuf.api.metadata import Signed
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from appliance.formats.release import Release, decode_release, latest_path


class DirectoryFetcher(FetcherInterface):
    """What a static server of the directory would answer, without one."""

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = Path(url.removeprefix("file://"))
        if not path.is_file():
            raise DownloadHTTPError("no such file", 404)
        yield path.read_bytes()


class TufClient:
    """One device's state. address: of the repository, with a slash at its end. root: the first that it trusts."""

    def __init__(self, directory: Path, address: str, root: bytes) -> None:
        self.directory, self.address, self.root = directory, address, root
        directory.mkdir(parents=True)

    def update(self, product: str, *, now: datetime) -> Release:
        """Refresh from what was kept, and fetch the latest release. Raises what python-tuf raises."""
        original = Signed.is_expired

        def is_expired(self: Signed, reference_time: Any = None) -> bool:
            return original(self, now)

        with mock.patch.object(Signed, "is_expired", is_expired):  # it has no other way to be told the time
            updater = Updater(
                metadata_dir=str(self.directory),
                metadata_base_url=f"{self.address}metadata/",
                target_dir=str(self.directory),
                target_base_url=f"{self.address}targets/",
                fetcher=DirectoryFetcher() if self.address.startswith("file:") else None,
                config=UpdaterConfig(max_root_rotations=1024),
                bootstrap=self.root,
            )
            updater.refresh()
            target = updater.get_targetinfo(latest_path(product))
            assert target is not None
            return decode_release(Path(updater.download_target(target)).read_bytes())
