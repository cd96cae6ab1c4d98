"""The listing of a root tree: one line per path, and the digest over it. Spec: docs/specs/manifest.md, Tree listing."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

_TYPES = {
    stat.S_IFDIR: "directory",
    stat.S_IFREG: "file",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "character",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


def type_name(mode: int) -> str:
    """The word for the file type bits of `mode`."""
    return _TYPES[stat.S_IFMT(mode)]


def escape(text: str) -> str:
    r"""Printable ASCII without blanks: every other byte, and the backslash, becomes \xNN."""
    return "".join(
        chr(byte) if 0x21 <= byte <= 0x7E and byte != 0x5C else f"\\x{byte:02x}"
        for byte in text.encode("utf-8", "surrogateescape")
    )


def listing_line(
    path: str,
    *,
    mode: int,
    uid: int,
    gid: int,
    sha256: str | None = None,
    target: str | None = None,
    device: tuple[int, int] | None = None,
    xattrs: Mapping[str, bytes] | None = None,
) -> str:
    """One path. path: absolute; sha256: of a regular file's contents; target: of a symlink, as stored."""
    permissions = 0o777 if stat.S_ISLNK(mode) else stat.S_IMODE(mode)
    words = [escape(path), type_name(mode), f"{permissions:04o}", f"{uid}:{gid}"]
    if stat.S_ISREG(mode):
        if sha256 is None:
            raise ValueError(f"{path}: a regular file needs its sha256")
        words.append(sha256)
    elif target is not None:
        words.append(escape(target))
    elif device is not None:
        words.append(f"{device[0]}:{device[1]}")
    words += [f"{escape(name)}={value.hex()}" for name, value in sorted((xattrs or {}).items())]
    return " ".join(words)


def tree_digest(lines: Iterable[str]) -> str:
    """SHA-256 over the lines, sorted by code point, each with a newline."""
    digest = hashlib.sha256()
    for line in sorted(lines):
        digest.update(line.encode("ascii") + b"\n")
    return digest.hexdigest()


def directory_listing(directory: Path) -> list[str]:
    """The listing of a directory as `mkfs.erofs --all-root` would store it: every owner is root, no attributes."""
    return sorted(_line_of(path, directory) for path in [directory, *directory.rglob("*")])


def _line_of(path: Path, directory: Path) -> str:
    mode = path.lstat().st_mode
    digest = None
    if stat.S_ISREG(mode):
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return listing_line(
        "/" if path == directory else f"/{path.relative_to(directory)}",
        mode=mode,
        uid=0,
        gid=0,
        sha256=digest,
        target=str(path.readlink()) if stat.S_ISLNK(mode) else None,
    )
