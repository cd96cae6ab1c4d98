"""Open finished artefacts for review: the files of the root image, the files of the EFI system partition.

Programs of the locked tools tree do the reading, as an unprivileged user may; owners and modes come from ErofsImage.
"""

from __future__ import annotations

import contextlib
import hashlib
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from appliance.core.errors import InputError
from builder.host.sandbox import Sandbox
from builder.review.erofs import ErofsImage, Node
from builder.review.listing import listing_line, tree_digest


@dataclass(frozen=True)
class OpenedRoot:
    """A root image, extracted below `tree`. Modes and owners of the host's files mean nothing: use `nodes`."""

    tree: Path
    nodes: tuple[Node, ...]

    @cached_property
    def by_path(self) -> dict[str, Node]:
        """Every path of the image."""
        return {node.path: node for node in self.nodes}

    def read(self, path: str) -> bytes:
        """Contents of a regular file, by its absolute path. Raises InputError when there is none."""
        node = self.by_path.get(path)
        if node is None or not stat.S_ISREG(node.mode):
            raise InputError(f"{path} is no file of the image")
        return (self.tree / path.lstrip("/")).read_bytes()

    def text(self, path: str) -> str:
        """The same as text, or nothing where there is no such file."""
        node = self.by_path.get(path)
        return self.read(path).decode(errors="replace") if node and stat.S_ISREG(node.mode) else ""

    def listing(self) -> list[str]:
        """The tree listing, one line per path (docs/specs/manifest.md)."""
        return [
            listing_line(
                node.path,
                mode=node.mode,
                uid=node.uid,
                gid=node.gid,
                sha256=self._sha256(node),
                target=node.target,
                device=node.device,
                xattrs=dict(node.xattrs),
            )
            for node in self.nodes
        ]

    def digest(self) -> str:
        """The tree digest."""
        return tree_digest(self.listing())

    def _sha256(self, node: Node) -> str | None:
        if not stat.S_ISREG(node.mode):
            return None
        with (self.tree / node.path.lstrip("/")).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def open_root(image: Path, tools: Sandbox) -> Iterator[OpenedRoot]:
    """Extract a root image to a temporary directory for as long as the block runs."""
    nodes = tuple(ErofsImage(image).walk())
    with tempfile.TemporaryDirectory(prefix="edgeseal-review-") as name:
        tree = Path(name) / "root"
        tree.mkdir(mode=0o755)
        tools.run(
            [
                "fsck.erofs",
                f"--extract={tree}",
                "--overwrite",
                "--no-preserve-owner",
                "--no-preserve-perms",
                image.resolve(),
            ],
            reason=f"extract {image.name}",
            binds={image.resolve(): None},
            writable=[tree],
        )
        yield OpenedRoot(tree, nodes)


def read_one_file(image: Path, path: str, tools: Sandbox) -> bytes:
    """One file of a root image, without extracting the rest."""
    return tools.run(
        ["dump.erofs", "--cat", f"--path={path}", image.resolve()],
        reason=f"read {path} from {image.name}",
        binds={image.resolve(): None},
    )


@contextlib.contextmanager
def open_esp(disk: Path, offset: int, tools: Sandbox) -> Iterator[dict[str, Path]]:
    """The files of the EFI system partition at byte `offset`: `/EFI/BOOT/BOOTX64.EFI` -> extracted file."""
    with tempfile.TemporaryDirectory(prefix="edgeseal-review-") as name:
        target = Path(name) / "esp"
        target.mkdir(mode=0o755)
        tools.run(
            ["mcopy", "-s", "-n", "-i", f"{disk.resolve()}@@{offset}", "::/*", target],
            reason="read the EFI system partition",
            binds={disk.resolve(): None},
            writable=[target],
            environment={"MTOOLS_SKIP_CHECK": "1"},
        )
        yield {f"/{path.relative_to(target)}": path for path in sorted(target.rglob("*")) if path.is_file()}
