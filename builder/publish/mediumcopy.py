"""A bundle onto a removable medium: what is there already stays, what a device reads first is written last."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from appliance.core.durable import fsync_directory
from appliance.core.errors import EdgesealError, InputError, Place
from appliance.formats.bundle import BUNDLE_DIRECTORY, BUNDLE_LABEL
from builder.archive.digest import file_sha256
from builder.host.sandbox import Sandbox
from builder.host.scratch import scratch_directory
from builder.publish.deviceview import label_of

_SPARE = 1 << 20  # bytes for the file system's own
_CLUSTER = 4096
_SMALLEST = 300 << 20  # bytes; FAT32 has 65,525 clusters at least
_LAST = ("metadata/timestamp.json", BUNDLE_LABEL)


def apply_bundle(bundle: Path, medium: Path) -> tuple[int, int]:
    """Copy a bundle to the directory where a medium is mounted: (files written, bytes written).

    Whoever pulls it out too early has the old metadata, or none that is whole. Raises InputError when there is no
    bundle, or it does not fit; EdgesealError when the medium cannot be written.
    """
    label_of(bundle)
    source, target = bundle / BUNDLE_DIRECTORY, medium / BUNDLE_DIRECTORY
    if not medium.is_dir():
        raise InputError("there is no such directory", place=Place(str(medium)), hint="mount the medium there")
    if target.resolve() == source.resolve():
        raise InputError("this is the bundle itself", place=Place(str(medium)))
    try:
        files = sorted(_files_of(source), key=_order)
        needed = [path for path in files if not _same(source / path, target / path)]
        size = sum((source / path).stat().st_size for path in needed)
        _require_space(medium, size)
        for path in needed:
            _copy(source / path, target / path)
        _remove_others(target, set(files))
    except OSError as error:
        said = (error.strerror or str(error)).lower()
        raise EdgesealError(f"the medium cannot be used: {said}", place=Place(str(error.filename or medium))) from error
    return len(needed), size


def _files_of(source: Path) -> list[str]:
    return [path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()]


def _order(path: str) -> tuple[int, str]:
    """Content, targets, metadata; then what names them."""
    ranks = ("/content/", "/targets/", "/metadata/")
    late = next((index for index, end in enumerate(_LAST) if path.endswith(end)), -1)
    return (len(ranks) + late if late >= 0 else next(i for i, part in enumerate(ranks) if part in f"/{path}"), path)


def _same(source: Path, target: Path) -> bool:
    if target.is_symlink() or not target.is_file() or source.stat().st_size != target.stat().st_size:
        return False
    return file_sha256(source) == file_sha256(target)


def _require_space(medium: Path, size: int) -> None:
    status = os.statvfs(medium)
    free = status.f_bavail * status.f_frsize
    if size + _SPARE > free:
        raise InputError(
            f"the medium is too full: {free >> 20} MiB are free, the bundle needs {(size + _SPARE >> 20) + 1} MiB",
            place=Place(str(medium)),
            hint="use a larger medium, or create the bundle for fewer products: --product",
        )


def _copy(source: Path, target: Path) -> None:
    """Durable; a file that is replaced is first whole beside the old one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f"{target.name}.new")
    shutil.copyfile(source, fresh)
    with fresh.open("rb") as stream:
        os.fsync(stream.fileno())
    fresh.replace(target)
    fsync_directory(target.parent)


def _remove_others(target: Path, wanted: set[str]) -> None:
    for path in sorted(target.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.relative_to(target).as_posix() not in wanted:
            path.unlink()
    fsync_directory(target)


def make_image(bundle: Path, image: Path, tools: Sandbox) -> tuple[int, int]:
    """A FAT32 file system with the bundle, in the new file `image`; (files, bytes). The same bytes each time.

    Raises InputError when there is no bundle, or something is at `image` already.
    """
    label_of(bundle)
    if image.exists():
        raise InputError("there is something already", place=Place(str(image)))
    source = (bundle / BUNDLE_DIRECTORY).absolute()
    sizes = [path.stat().st_size for path in source.rglob("*") if path.is_file()]
    clusters = sum(-(-size // _CLUSTER) + 1 for size in sizes) + len(list(source.rglob("*")))
    with scratch_directory(image.absolute().parent, f".{image.name}.") as scratch:
        fresh = scratch / "medium"
        with fresh.open("wb") as stream:
            stream.truncate(max(_SMALLEST, (clusters * _CLUSTER * 9 // 8 // _SPARE + 2) * _SPARE))
        format_it: list[str | Path] = ["mkfs.fat", "--invariant", "-F", "32", "-s", "8", "-n", "EDGESEAL", fresh]
        tools.run(format_it, reason="format a FAT image", writable=[scratch])
        copy_it: list[str | Path] = ["mcopy", "-s", "-i", fresh, source, "::/"]
        tools.run(copy_it, reason="copy the bundle into a FAT image", writable=[scratch], binds={source: None})
        fresh.rename(image)
        fsync_directory(image.absolute().parent)
    return len(sizes), sum(sizes)
