"""Unpack Debian packages and wheels by file name and mode only: no owner, no time, no maintainer script."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import zstandard
from debian.arfile import ArFile

from appliance.core.errors import VerificationError

# Modern Debian has one /usr: packages still ship a few paths outside of it.
_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


def merged_usr(path: str) -> str:
    """`lib/x` → `usr/lib/x`; `usr/sbin` stays. path: relative, normalised."""
    head = path.split("/", 1)[0]
    return f"usr/{path}" if head in _MERGED else path


def unpack_deb(deb: Path, target: Path, *, keep: Callable[[str], bool] = lambda _path: True) -> None:
    """Write the data part of `deb` below `target`, with /usr merged.

    keep: told each path (relative, merged); False leaves it out. Set-id bits are dropped: nothing of ours has them.
    Raises VerificationError for a member that would leave `target`.
    """
    with deb.open("rb") as stream:
        archive = ArFile(fileobj=stream)
        name = next(name for name in archive.getnames() if name.startswith("data.tar"))
        member = archive.getmember(name)
        data: Any = member
        if name.endswith(".zst"):
            data = zstandard.ZstdDecompressor().stream_reader(data)
        with tarfile.open(fileobj=data, mode="r|" if name.endswith(".zst") else "r|*") as tar:
            _unpack_tar(tar, target, keep=keep)


def control_files(deb: Path) -> dict[str, bytes]:
    """The control part: `control`, `md5sums`, `conffiles` …"""
    with deb.open("rb") as stream:
        archive = ArFile(fileobj=stream)
        name = next(name for name in archive.getnames() if name.startswith("control.tar"))
        member: Any = archive.getmember(name)
        with tarfile.open(fileobj=member, mode="r|*") as tar:
            return {
                member.name.removeprefix("./"): handle.read() for member in tar if (handle := tar.extractfile(member))
            }


def _unpack_tar(tar: tarfile.TarFile, target: Path, *, keep: Callable[[str], bool]) -> None:
    for member in tar:
        name = _safe(member.name)
        path = merged_usr(name)
        if path in ("", "usr") or name in _MERGED or not keep(path):
            continue
        place = target / path
        if member.isdir():
            place.mkdir(parents=True, exist_ok=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.is_symlink() or place.is_file():
            place.unlink()
        if member.issym():
            place.symlink_to(member.linkname)
        elif member.islnk():
            shutil.copy2(target / merged_usr(_safe(member.linkname)), place)
        elif member.isfile():
            handle = tar.extractfile(member)
            assert handle is not None
            with place.open("wb") as output:
                shutil.copyfileobj(handle, output, 1 << 20)
            place.chmod(0o755 if member.mode & 0o111 else 0o644)


def _safe(name: str) -> str:
    path = PurePosixPath(name.removeprefix("./").rstrip("/") or ".")
    if path.is_absolute() or ".." in path.parts:
        raise VerificationError(f"a package holds a path that leaves its tree: {name}")
    return "" if str(path) == "." else str(path)


def unpack_wheel(wheel: Path, target: Path, *, keep: Callable[[str], bool] = lambda _path: True) -> None:
    """Write a wheel's purelib and platlib below `target` (PEP 427). Scripts and data directories are left out."""
    with zipfile.ZipFile(wheel) as archive:
        for info in sorted(archive.infolist(), key=lambda info: info.filename):
            path = _safe(info.filename)
            head, _, rest = path.partition("/")
            if head.endswith(".data"):
                kind, _, path = rest.partition("/")
                if kind not in ("purelib", "platlib"):
                    continue
            if info.is_dir() or not path or not keep(path):
                continue
            place = target / path
            place.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(info) as stream, place.open("wb") as output:
                shutil.copyfileobj(stream, output, 1 << 20)
            place.chmod(0o644)
