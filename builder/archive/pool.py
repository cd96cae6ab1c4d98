"""The content-addressed store of everything that a lock names: pool/sha256/ab/abcdef….

An item is written under a temporary name, hashed, and renamed; what stands under a hash has that hash, or `verify` says
so. Reading re-hashes: a build never trusts the disk.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from appliance.core.durable import fsync_directory
from appliance.core.errors import EdgesealError, InputError, VerificationError
from builder.archive.digest import file_sha256
from builder.host.scratch import scratch_file

_CHUNK = 1 << 20


def copy_durably(source: Path, target: Path) -> str:
    """Copy into an existing file, down to the disk; returns the sha256 of what was copied."""
    digest = hashlib.sha256()
    with target.open("wb") as output, source.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            output.write(chunk)
        output.flush()
        os.fsync(output.fileno())
    return digest.hexdigest()


@dataclass(frozen=True)
class Pool:
    """A pool below `root`."""

    root: Path

    def path(self, sha256: str) -> Path:
        """Where an item stands, or would."""
        return self.root / "sha256" / sha256[:2] / sha256

    def has(self, sha256: str) -> bool:
        """Whether an item of that name is there; its bytes are not looked at."""
        return self.path(sha256).is_file()

    def open_verified(self, sha256: str, *, what: str) -> Path:
        """The path of an item whose bytes were hashed just now.

        what: the item as a person knows it, for the error. Raises InputError when it is missing and VerificationError
        when its bytes changed.
        """
        path = self.path(sha256)
        if not path.is_file():
            raise InputError(
                f"{what} is not in the pool (sha256 {sha256})",
                hint="build once without --offline, or `edgeseal pool import FILE`",
            )
        found = file_sha256(path)
        if found != sha256:
            raise VerificationError(
                f"{what} in the pool was changed: sha256 is {found}, the lock says {sha256}",
                hint=f"delete {path} and build again without --offline",
            )
        return path

    def add(self, source: Path, *, sha256: str, what: str) -> Path:
        """Copy `source` into the pool. Raises VerificationError, and keeps nothing, when its hash is another."""
        target = self.path(sha256)
        try:
            with scratch_file(target.parent, ".incoming-") as temporary:
                found = copy_durably(source, temporary)
                if found != sha256:
                    raise VerificationError(
                        f"{what}: sha256 is {found}, the lock says {sha256}",
                        hint="the mirror or the file was tampered with, or the lock belongs to another archive",
                    )
                temporary.replace(target)
            fsync_directory(target.parent)
        except OSError as error:
            raise EdgesealError(f"cannot add {what} to the pool: {error.strerror}", hint=f"see {self.root}") from error
        return target

    def items(self) -> Iterator[str]:
        """The hashes of all items, sorted."""
        base = self.root / "sha256"
        if base.is_dir():
            yield from sorted(item.name for item in base.glob("*/*") if not item.name.startswith("."))

    def broken_items(self) -> list[str]:
        """The hashes under which other bytes stand."""
        return [name for name in self.items() if file_sha256(self.path(name)) != name]
