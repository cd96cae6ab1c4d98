"""activate: put a kernel image on the EFI system partition, or take one away. Any power cut leaves one that boots.

Why in this way: docs/explanation/power-cuts.md. In short: on vfat a rename or an unlink is several writes in no order,
and can leave two names on one chain of clusters, so that removing one would free what the other boots. So an entry
lives and dies by its first sector: without it the loader sees no image, and a disk writes one sector or does not.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
from collections.abc import Iterator, Sequence

from appliance.core.errors import DecodeError, EdgesealError, VerificationError
from appliance.formats.release import Content
from appliance.formats.uki import HEAD_BYTES, decode_root_names, find_command_line
from appliance.update.entries import (
    Entry,
    Found,
    Running,
    is_ours,
    own_entries,
    parked_name,
    parse_entry,
    removable,
    version_of,
)
from appliance.update.esp_files import EntryFiles
from appliance.update.ranges import ByteRange, ContentSource

SECTOR = 512
CHUNK = 1 << 18
MARGIN = 1 << 20
"""Bytes that stay free on the ESP: a directory may grow, and counting tries renames files."""


def list_entries(files: EntryFiles) -> tuple[Found, ...]:
    """What is in the directory, names that are not ours included. Raises EdgesealError when it cannot be read."""
    with _explained("read the boot entries"):
        return tuple(_found(files, name) for name in sorted(files.names()))


def check_space(files: EntryFiles, size: int, gone: Sequence[str]) -> None:
    """Before anything is changed. gone: names that are removed first. Raises EdgesealError when it will not fit."""
    with _explained("read the boot entries"):
        free = files.free() + sum(files.size(name) for name in gone)
    if free < size + MARGIN:
        raise EdgesealError(
            f"the EFI system partition has room for {free} bytes, the kernel image needs {size + MARGIN}",
            hint="remove what does not belong there; only EFI/Linux/edgeseal_*.efi is the updater's to remove",
        )


def tidy(files: EntryFiles, running: Running) -> tuple[str, ...]:
    """Undo what a power cut made of a rename by the boot loader or by systemd-bless-boot; the names that went.

    A second name of the running version would keep the boot loader from counting tries, and systemd from confirming.
    An empty one is removed. One with content shares it with the entry that stays: it gets a name that is not looked at.
    Once at every start, before this boot is judged. Raises EdgesealError when the disk fails.
    """
    found = list_entries(files)
    own = sorted(own_entries(found, running), key=lambda entry: (not entry.confirmed, entry.left or 0))
    twins = [entry.name for entry in own[1:]]
    with _explained("tidy the boot entries"):
        empty = [item.name for item in found if version_of(item.name) == running.version and not files.size(item.name)]
        for name in empty:
            files.remove(name)
        for name in twins:
            files.rename(name, parked_name(name))
            files.sync(parked_name(name))
        files.sync_names()
    return (*empty, *twins)


def clear_entries(files: EntryFiles, running: Running, *, content: Content) -> tuple[str, ...]:
    """Remove every entry but the running version's, and return their names. Before the inactive slot is written.

    content: the kernel image that is to come; when it would not fit, nothing is removed.
    Raises EdgesealError as `removable` and `check_space` do, and when the disk fails.
    """
    found = list_entries(files)
    names = removable(found, running)
    check_space(files, content.size, names)
    for name in names:
        discard(files, name, keep=_own(found, running))
    return names


def install_entry(
    files: EntryFiles, entry: Entry, content: Content, source: ContentSource, running: Running, *, root_hash: str
) -> None:
    """Write a kernel image, read it back, and only then make it bootable. An entry that is there and right stays.

    For a trial: after its slot was staged and read back. For a running version without an entry: its own image.
    root_hash: of the root that the image must name. Raises VerificationError when the source gives another image,
    EdgesealError when it does not fit or the disk fails; then no entry of that name is left.
    """
    if is_installed(files, entry.name, content):
        return
    found = list_entries(files)
    own = _own(found, running)
    if root_hash != running.root_hash:
        stale = removable(found, running)
    elif own:
        raise EdgesealError(f"version {running.version} has a boot entry already: {own[0]}")
    else:
        stale = tuple(item.name for item in found if version_of(item.name) == running.version)
    check_space(files, content.size, stale)
    for name in stale:
        discard(files, name, keep=own)
    with _explained("write the kernel image"):
        files.create(entry.name)
    try:
        _write(files, entry.name, content, source, root_hash=root_hash)
    except BaseException:
        discard(files, entry.name, keep=own)
        raise


def is_installed(files: EntryFiles, name: str, content: Content) -> bool:
    """Whether the medium holds exactly that image under that name."""
    with _explained("read the boot entries"):
        if name not in files.names() or files.size(name) != content.size:
            return False
    try:
        return _digest(files, name, content.size, b"") == content.sha256
    except OSError:  # its chain of clusters is broken
        return False


def discard(files: EntryFiles, name: str, *, keep: Sequence[str]) -> None:
    """Make a file unbootable with one write, then remove it.

    keep: files that must stay bootable. Raises EdgesealError, and takes the write back, when it changed one of them.
    """
    with _explained(f"remove {name}"):
        size = files.size(name)
        if size:
            _invalidate(files, name, min(size, SECTOR), keep)
        files.remove(name)
        files.sync_names()


def _invalidate(files: EntryFiles, name: str, length: int, keep: Sequence[str]) -> None:
    before = _first_sector(files, name)
    heads = {other: files.read(other, 0, SECTOR) for other in keep}
    files.write(name, 0, bytes(length))
    files.sync(name)
    for other, head in heads.items():
        if files.read(other, 0, SECTOR) != head:
            files.write(name, 0, before or head)
            files.sync(name)
            raise EdgesealError(
                f"{name} and {other} share their content: the ESP's file system is damaged",
                hint="repair it with fsck.vfat, or write the device anew",
            )


def _first_sector(files: EntryFiles, name: str) -> bytes | None:
    """None when its chain of clusters is broken."""
    try:
        return files.read(name, 0, SECTOR)
    except OSError:
        return None


def _own(found: Sequence[Found], running: Running) -> list[str]:
    return [entry.name for entry in own_entries(found, running)]


def _write(files: EntryFiles, name: str, content: Content, source: ContentSource, *, root_hash: str) -> None:
    head = _write_all_but_head(files, name, content, source)
    with _explained("write the kernel image"):
        files.sync(name)
        if _digest(files, name, content.size, head) != content.sha256:
            raise EdgesealError(f"{name}: the disk gave back other bytes than were written")
        _check_root(files, name, head, content.size, root_hash)
        files.write(name, 0, head)
        files.sync(name)
        if _digest(files, name, content.size, b"") != content.sha256:
            raise EdgesealError(f"{name}: the disk gave back other bytes than were written")


def _write_all_but_head(files: EntryFiles, name: str, content: Content, source: ContentSource) -> bytes:
    """Everything, but zeros for the first sector, which is returned. Raises VerificationError for another content."""
    if content.size <= SECTOR:
        raise VerificationError(f"a kernel image of {content.size} bytes")
    digest, head, at = hashlib.sha256(), b"", 0
    for piece in source.read(content, _ranges(content.size)):
        digest.update(piece)
        with _explained("write the kernel image"):
            if at == 0:
                head = piece[:SECTOR]
                piece = bytes(SECTOR) + piece[SECTOR:]
            files.write(name, at, piece)
        at += len(piece)
    if at != content.size or digest.hexdigest() != content.sha256:
        raise VerificationError(f"the kernel image is not the one that the release names: {digest.hexdigest()}")
    return head


def _check_root(files: EntryFiles, name: str, head: bytes, size: int, root_hash: str) -> None:
    try:
        found = _root_hash(files, name, head, size)
    except DecodeError as error:
        raise VerificationError(f"the release's kernel image is none of ours: {error}") from error
    if found != root_hash:
        raise VerificationError(f"the release's kernel image boots the root {found}, the release names {root_hash}")


def _found(files: EntryFiles, name: str) -> Found:
    try:
        entry = parse_entry(name)
    except DecodeError:
        entry = None
    if not is_ours(name):
        return Found(name, entry, None)
    try:
        return Found(name, entry, _root_hash(files, name, b"", files.size(name)))
    except (DecodeError, OSError):  # OSError: its chain of clusters is broken
        return Found(name, entry, None)


def _root_hash(files: EntryFiles, name: str, head: bytes, size: int) -> str:
    """head: stands for the file's first bytes."""
    first = head + files.read(name, 0, HEAD_BYTES)[len(head) :]
    place = find_command_line(first, file_size=size)
    return decode_root_names(files.read(name, place.offset, place.length)).root_hash


def _digest(files: EntryFiles, name: str, size: int, head: bytes) -> str:
    """SHA-256 of what the medium holds. head: stands for the file's first bytes."""
    digest = hashlib.sha256(head)
    for part in _ranges(size):
        data = files.read(name, part.offset, part.length)
        digest.update(data[len(head) :] if part.offset == 0 else data)
    return digest.hexdigest()


def _ranges(size: int) -> list[ByteRange]:
    return [ByteRange(at, min(CHUNK, size - at)) for at in range(0, size, CHUNK)]


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = None
        if error.errno == errno.EROFS:
            hint = "the ESP's file system found a fault in itself and refuses writes until the next boot"
        raise EdgesealError(f"cannot {what}: {error.strerror}", hint=hint) from error
