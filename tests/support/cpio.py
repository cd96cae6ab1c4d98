"""A reader of cpio archives in the kernel's `newc` form, written from its documentation and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_FIELDS = ("ino", "mode", "uid", "gid", "nlink", "mtime", "filesize", "devmajor", "devminor", "rdevmajor", "rdevminor")


@dataclass(frozen=True)
class Member:
    """One path. fields: the header's numbers by name."""

    path: str
    fields: dict[str, int]
    data: bytes


def read_newc(data: bytes) -> Iterator[Member]:
    """The members before the trailer. Fails where an archive is not well-formed, and on bytes behind it."""
    at = 0
    while True:
        assert data[at : at + 6] == b"070701", f"no header at {at}"
        numbers = [int(data[at + 6 + 8 * index : at + 14 + 8 * index], 16) for index in range(13)]
        fields = dict(zip(_FIELDS, numbers, strict=False))
        start = at + 110
        name = data[start : start + numbers[11]]
        assert name.endswith(b"\0"), f"unterminated name at {at}"
        start += -(start + numbers[11]) % 4 + numbers[11]
        end = start + fields["filesize"]
        at = end + -end % 4
        assert at <= len(data), "cut short"
        assert not any(data[end:at]), "padding that is not zero"
        if name == b"TRAILER!!!\0":
            assert at == len(data), "bytes behind the trailer"
            return
        yield Member(name[:-1].decode(), fields, data[start:end])
