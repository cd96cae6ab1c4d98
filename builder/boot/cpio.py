"""A cpio archive in the kernel's `newc` form (kernel documentation, driver-api/early-userspace/buffer-format).

Sorted by path, inodes counted from 1, owner root, one time stamp: same plan, same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

from builder.rootfs.entries import Directory, File, RootPlan, Symlink

_REGULAR, _DIRECTORY, _LINK = 0o100000, 0o040000, 0o120000


def write_cpio(plan: RootPlan, *, epoch: int) -> bytes:
    """The archive of a plan, its implied parent directories included."""
    parts = []
    for inode, (path, mode, data) in enumerate(_members(plan), start=1):
        parts.append(_member(path, mode, data, inode=inode, epoch=epoch))
    parts.append(_member("TRAILER!!!", 0, b"", inode=0, epoch=0))
    return b"".join(parts)


def _members(plan: RootPlan) -> Iterator[tuple[str, int, bytes]]:
    parents = {parent for path in plan for parent in _parents(path)}
    for path in sorted(parents | set(plan)):
        entry = plan.get(path, Directory())
        if isinstance(entry, Directory):
            yield path, _DIRECTORY | entry.mode, b""
        elif isinstance(entry, Symlink):
            yield path, _LINK | 0o777, entry.target.encode()
        else:
            assert isinstance(entry, File)
            yield path, _REGULAR | entry.mode, entry.read()


def _parents(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rsplit("/", 1)[0]
        yield path


def _member(path: str, mode: int, data: bytes, *, inode: int, epoch: int) -> bytes:
    name = path.encode() + b"\0"
    fields = (inode, mode, 0, 0, 1, epoch, len(data), 0, 0, 0, 0, len(name), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name
    return _padded(head) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
