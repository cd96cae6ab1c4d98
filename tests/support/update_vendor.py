"""A vendor's repository with small, made-up releases, published by the code that publishes real ones."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from appliance.formats.release import Release, encode_release, latest_path, release_path
from builder.publish import staging, vendor
from builder.publish.ceremony import begin
from builder.publish.change import draft_targets
from builder.publish.delta import add_content
from builder.publish.devkeys import development_roles, sign_with_all
from builder.publish.keys import Keyring
from builder.publish.release import firmware_role
from builder.publish.repository import Repository, open_repository
from builder.publish.roles import TARGETS, Periods
from tests.support.update_site import PRODUCT, release


class VendorRepository:
    """At `directory`/vendor, with its keys beside it. now: when everything is signed."""

    def __init__(self, directory: Path, *, now: datetime | None = None) -> None:
        self._place(directory, now)
        roles = development_roles(self.keys)
        vendor.stage_repository(self.path, roles, development=True, now=self.now, periods=Periods())
        self._finish()
        self.root.write_bytes((self.path / "metadata/1.root.json").read_bytes())

    @classmethod
    def at(cls, directory: Path) -> VendorRepository:
        """One that was made, and copied, before."""
        found = cls.__new__(cls)
        found._place(directory, None)
        return found

    def _place(self, directory: Path, now: datetime | None) -> None:
        self.path = directory / "vendor"
        self.keys = directory / "vendor-keys"
        self.root = directory / "vendor-root.json"
        self.now = now or datetime.now(UTC).replace(microsecond=0)

    def publish(self, version: int, *, product: str = PRODUCT, size: int = 3000, **changes: Any) -> Release:
        """A release whose content files have `size` bytes each."""
        with staging.staging(self.path) as stage:
            repository = stage.repository
            assert repository is not None
            content = [self._content(stage.directory, f"{product} {version} {n}", size) for n in range(4)]
            made = release(version, product=product, built=int(self.now.timestamp()) - 3600, **changes)
            delta = msgspec.structs.replace(made.delta, groups=content[0], leaves=content[1], frames=content[2])
            made = msgspec.structs.replace(made, delta=delta, uki=content[3])
            data, role = encode_release(made), firmware_role(product)
            files = {release_path(product, version): data, latest_path(product): data}
            expires = Periods().expires(role, self.now)
            documents = {}
            before = repository.delegated.get(role)
            if before is None:
                delegate = {role: (repository.keys(TARGETS), [f"firmware/{product}/*"])}
                documents[TARGETS] = draft_targets(repository.targets, expires=expires, delegate=delegate)
            documents[role] = draft_targets(before, expires=expires, add=files)
            stage.ceremony = begin(f"publish {product} {version}", repository, documents, files)
        self._finish()
        return made

    def rotate(self) -> Repository:
        """A new root, with the same keys."""
        vendor.stage_rotation(self.path, vendor.KeyChange(), now=self.now, periods=Periods())
        return self._finish()

    def open(self) -> Repository:
        """As it is."""
        return open_repository(self.path)

    def _finish(self) -> Repository:
        ring = Keyring(self.keys)
        sign_with_all(self.path, ring)
        return staging.finish(self.path, [], ring, now=self.now, periods=Periods())

    def _content(self, directory: Path, text: str, size: int) -> Any:
        file = directory / "content-to-be"
        file.write_bytes((text.encode() + b"\n") * (size // (len(text) + 1) + 1))
        found = add_content(file, directory)
        file.unlink()
        return found
