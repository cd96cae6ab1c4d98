"""Plain data about a tree: what stands at which path. A plan is a mapping; nothing here touches a disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class File:
    """A regular file. Its bytes are `content`, or those of the host file `source`. mode: permission bits."""

    content: bytes | None = None
    source: Path | None = None
    mode: int = 0o644

    def read(self) -> bytes:
        """The bytes, wherever they stand."""
        if self.content is not None:
            return self.content
        assert self.source is not None
        return self.source.read_bytes()


@dataclass(frozen=True)
class Symlink:
    """A symbolic link; target as written in it."""

    target: str


@dataclass(frozen=True)
class Directory:
    """An empty directory that must exist, a mount point for instance."""

    mode: int = 0o755


Entry = File | Symlink | Directory
RootPlan = dict[str, Entry]
"""Path relative to the root, without a leading slash → what stands there. Parents are implied with mode 0755."""


def text(*lines: str, mode: int = 0o644) -> File:
    """A text file of these lines."""
    return File(content="".join(f"{line}\n" for line in lines).encode(), mode=mode)
