"""Putting a kernel image on the ESP and taking one away: on a real directory, and on one that fails."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import UUID

import pytest

from appliance.core.errors import DecodeError, EdgesealError, VerificationError
from appliance.formats.release import Content
from appliance.formats.uki import decode_root_names, find_command_line
from appliance.update.entries import Entry, Running
from appliance.update.esp import (
    MARGIN,
    SECTOR,
    check_space,
    clear_entries,
    discard,
    install_entry,
    is_installed,
    list_entries,
    tidy,
)
from appliance.update.esp_files import MountedEntries
from appliance.update.ranges import ByteRange
from tests.support.pe import tiny_pe
from tests.support.update_disk import make_uki

ROOTS = {version: f"{version:064x}" for version in (1, 2, 3)}
UKIS = {
    version: make_uki(version, root, UUID(int=version), UUID(int=version + 100), size=600_001)
    for version, root in ROOTS.items()
}
RUNNING = Running(2, "a", ROOTS[2])
TRIAL = Entry(3, 3, 0)


def content(data: bytes) -> Content:
    return Content(sha256=hashlib.sha256(data).hexdigest(), size=len(data))


class Gives:
    """A source of one file, right or wrong."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, _content: Content, ranges: Sequence[ByteRange]) -> Iterator[bytes]:
        return (self._data[item.offset : item.offset + item.length] for item in ranges)


class Entries(MountedEntries):
    """The real files, with a count of free bytes and faults of our own."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.directory = directory
        self.room = 10 << 20
        self.lies = False
        self.done: list[str] = []

    def free(self) -> int:
        return self.room

    def write(self, name: str, offset: int, data: bytes) -> None:
        self.done.append(f"write {offset // SECTOR} {'zeros' if not any(data[:SECTOR]) else 'bytes'}")
        super().write(name, offset, b"x" * len(data) if self.lies and offset else data)

    def sync(self, name: str) -> None:
        self.done.append("sync")
        super().sync(name)

    def remove(self, name: str) -> None:
        self.done.append("remove")
        super().remove(name)


@pytest.fixture
def files(tmp_path: Path) -> Entries:
    """Version 2 runs, confirmed; version 1 was there before it."""
    for version in (1, 2):
        (tmp_path / Entry(version).name).write_bytes(UKIS[version])
    return Entries(tmp_path)


def install(files: Entries, given: bytes = UKIS[3], *, named: bytes = UKIS[3], root: int = 3) -> None:
    install_entry(files, TRIAL, content(named), Gives(given), RUNNING, root_hash=ROOTS[root])


def test_a_trial_entry_becomes_bootable_with_the_last_write(files: Entries) -> None:
    clear_entries(files, RUNNING, content=content(UKIS[3]))
    files.done.clear()
    install(files)
    assert files.done == ["write 0 zeros", "write 512 bytes", "write 1024 bytes", "sync", "write 0 bytes", "sync"]
    assert sorted(files.names()) == ["edgeseal_2.efi", TRIAL.name]
    assert (files.directory / TRIAL.name).read_bytes() == UKIS[3]
    assert is_installed(files, TRIAL.name, content(UKIS[3]))


def test_what_is_installed_is_not_written_again(files: Entries) -> None:
    install(files)
    files.done.clear()
    install(files)
    assert files.done == []


def test_a_leftover_is_written_anew(files: Entries) -> None:
    (files.directory / TRIAL.name).write_bytes(bytes(SECTOR) + UKIS[3][SECTOR:])
    install(files)
    assert (files.directory / TRIAL.name).read_bytes() == UKIS[3]


def test_an_entry_is_unbootable_before_it_is_removed(files: Entries) -> None:
    assert clear_entries(files, RUNNING, content=content(UKIS[3])) == ("edgeseal_1.efi",)
    assert files.done == ["write 0 zeros", "sync", "remove"]
    assert files.names() == ["edgeseal_2.efi"]


def test_files_of_others_stay(files: Entries) -> None:
    (files.directory / "memtest.efi").write_bytes(UKIS[1])
    clear_entries(files, RUNNING, content=content(UKIS[3]))
    assert sorted(files.names()) == ["edgeseal_2.efi", "memtest.efi"]


def test_two_names_of_one_image_are_never_torn_apart(files: Entries) -> None:
    """A damaged file system: an old version's name leads to the clusters of the one that runs."""
    (files.directory / "edgeseal_1.efi").unlink()
    (files.directory / "edgeseal_1.efi").hardlink_to(files.directory / "edgeseal_2.efi")
    with pytest.raises(EdgesealError) as refusal:
        discard(files, "edgeseal_1.efi", keep=["edgeseal_2.efi"])
    assert str(refusal.value) == (
        "edgeseal_1.efi and edgeseal_2.efi share their content: the ESP's file system is damaged"
    )
    assert refusal.value.hint == "repair it with fsck.vfat, or write the device anew"
    assert (files.directory / "edgeseal_2.efi").read_bytes() == UKIS[2]


def test_second_names_of_the_running_image_are_put_aside(files: Entries) -> None:
    (files.directory / "edgeseal_2+2-1.efi").hardlink_to(files.directory / "edgeseal_2.efi")
    (files.directory / "edgeseal_2+3-0.efi").touch()
    assert tidy(files, RUNNING) == ("edgeseal_2+3-0.efi", "edgeseal_2+2-1.efi")
    assert sorted(files.names()) == ["edgeseal_1.efi", "edgeseal_2+2-1.dup", "edgeseal_2.efi"]
    assert tidy(files, RUNNING) == ()
    clear_entries(files, RUNNING, content=content(UKIS[3]))
    assert sorted(files.names()) == ["edgeseal_2+2-1.dup", "edgeseal_2.efi"]


def test_a_lost_entry_of_the_running_version_is_restored(files: Entries) -> None:
    (files.directory / "edgeseal_2.efi").write_bytes(b"")
    install_entry(files, Entry(2), content(UKIS[2]), Gives(UKIS[2]), RUNNING, root_hash=ROOTS[2])
    assert (files.directory / "edgeseal_2.efi").read_bytes() == UKIS[2]


def test_a_running_version_with_an_entry_gets_no_second_one(files: Entries) -> None:
    with pytest.raises(EdgesealError, match=r"^version 2 has a boot entry already: edgeseal_2\.efi$"):
        install_entry(files, Entry(2, 3, 0), content(UKIS[2]), Gives(UKIS[2]), RUNNING, root_hash=ROOTS[2])


OTHER = "the kernel image is not the one that the release names"


@pytest.mark.parametrize(
    ("given", "named", "root", "said"),
    [
        (UKIS[1], UKIS[3], 3, f"{OTHER}: {content(UKIS[1]).sha256}"),
        (UKIS[3][:-1], UKIS[3], 3, f"{OTHER}: {content(UKIS[3][:-1]).sha256}"),
        (UKIS[1], UKIS[1], 3, f"the release's kernel image boots the root {ROOTS[1]}, the release names {ROOTS[3]}"),
        (b"M" * 2000, b"M" * 2000, 3, "the release's kernel image is none of ours: kernel image: no MZ header"),
        (b"MZ", b"MZ", 3, "a kernel image of 2 bytes"),
    ],
)  # fmt: skip
def test_a_wrong_image_leaves_nothing(files: Entries, given: bytes, named: bytes, root: int, said: str) -> None:
    with pytest.raises(VerificationError) as refusal:
        install(files, given, named=named, root=root)
    assert str(refusal.value) == said
    assert files.names() == ["edgeseal_2.efi"]


def test_a_disk_that_gives_back_other_bytes(files: Entries) -> None:
    files.lies = True
    with pytest.raises(EdgesealError) as refusal:
        install(files)
    assert str(refusal.value) == "edgeseal_3+3-0.efi: the disk gave back other bytes than were written"
    assert files.names() == ["edgeseal_2.efi"]


def test_without_room_nothing_is_removed(files: Entries) -> None:
    files.room = 0
    need, room = len(UKIS[3]) + MARGIN, len(UKIS[1])
    with pytest.raises(EdgesealError) as refusal:
        clear_entries(files, RUNNING, content=content(UKIS[3]))
    assert str(refusal.value) == (f"the EFI system partition has room for {room} bytes, the kernel image needs {need}")
    assert refusal.value.hint == (
        "remove what does not belong there; only EFI/Linux/edgeseal_*.efi is the updater's to remove"
    )
    assert sorted(files.names()) == ["edgeseal_1.efi", "edgeseal_2.efi"]
    files.room = need - room
    check_space(files, len(UKIS[3]), ["edgeseal_1.efi"])


@pytest.mark.parametrize(
    ("number", "said", "hint"),
    [
        (errno.ENOSPC, "cannot write the kernel image: No space left on device", None),
        (
            errno.EROFS,
            "cannot write the kernel image: Read-only file system",
            "the ESP's file system found a fault in itself and refuses writes until the next boot",
        ),
    ],
)
def test_a_disk_that_refuses(
    files: Entries, number: int, said: str, hint: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def create(_name: str) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files, "create", create)
    with pytest.raises(EdgesealError) as refusal:
        install(files)
    assert (str(refusal.value), refusal.value.hint) == (said, hint)


def test_what_is_listed(files: Entries) -> None:
    (files.directory / "EDGESE~1.EFI").write_bytes(UKIS[3])
    (files.directory / "memtest.efi").write_bytes(UKIS[1])
    (files.directory / "edgeseal_3+3-0.efi").write_bytes(bytes(1000))
    (files.directory / "edgeseal_4.efi").mkdir()
    assert [(item.name, item.entry, item.root_hash) for item in list_entries(files)] == [
        ("EDGESE~1.EFI", None, ROOTS[3]),
        ("edgeseal_1.efi", Entry(1), ROOTS[1]),
        ("edgeseal_2.efi", Entry(2), ROOTS[2]),
        ("edgeseal_3+3-0.efi", TRIAL, None),
        ("memtest.efi", None, None),
    ]


@pytest.mark.parametrize(("offset", "length"), [(0, 1), (511, 2), (4095, 4098), (600_000, 10_000), (900_000, 5)])
def test_reading_around_the_cache_gives_the_same_bytes(files: Entries, offset: int, length: int) -> None:
    assert files.read("edgeseal_1.efi", offset, length) == UKIS[1][offset : offset + length]


HASH_OF_NOTHING = "AB" * 32
GOOD = f"roothash={ROOTS[1]} systemd.verity_root_data=UUID={UUID(int=1)} systemd.verity_root_hash=UUID={UUID(int=2)}"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (GOOD.replace("roothash", "usrhash"), "roothash is named 0 times in the command line, not once"),
        (f"{GOOD} roothash={ROOTS[2]}", "roothash is named 2 times in the command line, not once"),
        (f"roothash={HASH_OF_NOTHING}", f"'roothash={HASH_OF_NOTHING}' is not of the form that this device uses"),
        (f"{GOOD} ä", "the command line is not ASCII"),
    ],
)
def test_a_command_line_that_names_no_root(line: str, said: str) -> None:
    with pytest.raises(DecodeError) as refusal:
        decode_root_names(line.encode())
    assert str(refusal.value) == f"kernel image: {said}"


@pytest.mark.parametrize(
    ("data", "size", "said"),
    [
        (b"", 0, "no MZ header"),
        (b"MZ", 2, "the headers are cut off"),
        (b"MZ".ljust(64, b"\0"), 64, "no PE header"),
        (tiny_pe({".linux": b"x"}), 10_000, "no .cmdline section"),
        (tiny_pe({".cmdline": b"x"}), 512, "the command line ends after the file"),
        (tiny_pe({".cmdline": b"x" * 70_000})[:4096], 80_000, "a command line of 70000 bytes, at most 65536"),
    ],
)
def test_an_image_without_a_command_line(data: bytes, size: int, said: str) -> None:
    with pytest.raises(DecodeError) as refusal:
        find_command_line(data, file_size=size)
    assert str(refusal.value) == f"kernel image: {said}"
