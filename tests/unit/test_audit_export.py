"""The log's copy on a medium: it verifies at any time, whatever becomes of the medium and whatever was on it."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.core.errors import EdgesealError
from appliance.export.copying import TOP, _content
from appliance.export.service import Settings, serve
from appliance.export.tree import Tree
from appliance.formats.audit_event import (
    MAX_EVENT_BYTES,
    AuditEvent,
    NotRecorded,
    Recorded,
    decode_event,
    encode_audit_answer,
)
from appliance.formats.tlog_tiles import BUNDLE, Tile, tree_files
from builder.rootfs.files import EXPORT_MOUNT
from tests.support.export_device import HERE, Device


def test_the_copy_is_the_published_directory(tmp_path: Path) -> None:
    device = Device(tmp_path, entries=600)
    copied = device.copy()
    assert (copied.logs, copied.entries) == (1, 600)
    expected = {tile.path for tile in tree_files(600)} | {"checkpoint", "vkey"}
    assert set(device.files()) == {f"{HERE}/{name}" for name in expected}
    for name, data in device.files().items():
        assert (device.logs / "tlog" / name.removeprefix(f"{HERE}/")).read_bytes() == data
    assert device.size_on_stick() == 600
    assert device.medium.written == sum(map(len, device.files().values()))


def test_a_second_copy_writes_only_what_is_new(tmp_path: Path) -> None:
    device = Device(tmp_path, entries=600)
    device.copy()
    device.copy()
    assert device.medium.written == 0
    before = device.files()
    device.grow(200)
    device.copy()
    assert device.size_on_stick() == 800
    changed = {name.removeprefix(f"{HERE}/") for name, data in device.files().items() if before.get(name) != data}
    assert changed == {
        "checkpoint",
        *(f"tile/{path}" for path in ("entries/002", "0/002", "1/000.p/3")),
        *(f"tile/{path}" for path in ("entries/003.p/32", "0/003.p/32")),
    }


def test_a_file_that_became_bad_on_the_medium_is_replaced(tmp_path: Path) -> None:
    device = Device(tmp_path, entries=300)
    device.copy()
    path = device.stick / HERE / "tile/entries/000"
    path.write_bytes(bytes(path.stat().st_size))
    (device.stick / HERE / "checkpoint").write_bytes(b"\xff")
    device.copy()
    assert device.size_on_stick() == 300


def test_the_log_goes_on_while_it_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A partial tile that was full meanwhile is the beginning of the full one."""
    device = Device(tmp_path, entries=500)
    grown: list[Tile] = []

    def content(source: Tree, tile: Tile) -> bytes:
        if not grown:
            device.grow(300)
        grown.append(tile)
        return _content(source, tile)

    monkeypatch.setattr("appliance.export.copying._content", content)
    device.copy()
    assert not (device.logs / "tlog/tile/entries/001.p").exists()
    assert (device.stick / HERE / "tile/entries/001.p/244").exists()
    assert device.size_on_stick() == 500
    assert set(device.files()) >= {f"{HERE}/{tile.path}" for tile in tree_files(500)}


def test_entries_that_are_given_up_while_it_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(tmp_path, entries=1000)
    seen: list[Tile] = []

    def content(source: Tree, tile: Tile) -> bytes:
        seen.append(tile)
        if len(seen) == 2:
            device.log.prune(600)
        return _content(source, tile)

    monkeypatch.setattr("appliance.export.copying._content", content)
    copied = device.copy()
    assert copied.entries == 1000 - 512
    name = f"{HERE}-from-512"
    assert device.size_on_stick(name) == 1000
    assert not (device.stick / HERE / "checkpoint").exists()


def test_a_copy_with_a_hole_is_never_made(tmp_path: Path) -> None:
    """The old copy stays as it is when entries after it were given up; one that is continued keeps its own."""
    device = Device(tmp_path, entries=600)
    device.copy()
    device.log.prune(512)
    device.grow(300)
    device.copy()
    assert device.review().minimum == 0
    assert device.size_on_stick() == 900
    device.grow(700)
    device.log.prune(1300)
    device.copy()
    assert device.size_on_stick() == 900
    assert device.size_on_stick(f"{HERE}-from-1280") == 1600
    device.grow(300)
    device.copy()
    assert device.size_on_stick(f"{HERE}-from-1280") == 1900


def test_logs_that_were_put_aside_are_copied_too(tmp_path: Path) -> None:
    device = Device(tmp_path, entries=300)
    device.copy()
    device.replace_log()
    copied = device.copy()
    new, aside = f"{TOP}/line-3/ffffffff", f"{HERE}.rejected-1"
    assert copied.logs == 2
    assert copied.entries == 300 + len(device.told.entries)
    assert [device.size_on_stick(name) for name in (HERE, aside, new)] == [300, 300, len(device.told.entries)]
    assert not [name for name in device.files() if "state" in name or "store" in name]


def test_a_damaged_log_is_copied_as_it_is(tmp_path: Path) -> None:
    device = Device(tmp_path, entries=300)
    device.replace_log()
    rejected = device.logs / "tlog.rejected-1"
    (rejected / "checkpoint").write_bytes(b"\0\0")
    (rejected / "tile/entries/000").unlink()
    (rejected / "tile/0/strange").write_bytes(b"x")
    device.copy()
    there = {name for name in device.files() if "rejected" in name}
    below = f"{TOP}/line-3/tlog.rejected-1"
    names = ("checkpoint", "vkey", "tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1", "tile/entries/001.p/44")
    assert there == {f"{below}/{name}" for name in names}


def test_what_a_cut_left_is_neither_used_nor_removed(tmp_path: Path) -> None:
    """On vfat it may share its blocks with the file that took its place."""
    device = Device(tmp_path, entries=300)
    left = device.stick / TOP / ".new-0"
    left.parent.mkdir()
    left.write_bytes(b"left")
    inode = left.stat().st_ino
    device.copy()
    assert (left.stat().st_ino, left.read_bytes()) == (inode, b"left")
    assert sorted(path.name for path in left.parent.iterdir()) == [".new-0", "line-3"]


def test_writes_may_be_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device, real = Device(tmp_path, entries=300), os.write
    monkeypatch.setattr("os.write", lambda descriptor, data: real(descriptor, data[:1000]))
    device.copy()
    assert device.size_on_stick() == 300


@pytest.mark.parametrize(
    ("operation", "number", "message"),
    [
        ("os.write", errno.ENOSPC, f"medium: {HERE}/tile/entries/000: no space left on device"),
        ("os.write", errno.EFBIG, f"medium: {HERE}/tile/entries/000: file too large"),
        ("os.fsync", errno.EIO, f"medium: {HERE}/tile/entries/000: input/output error"),
        ("os.rename", errno.EIO, f"medium: {HERE}/tile/entries/000: input/output error"),
        ("os.mkdir", errno.EROFS, f"medium: {HERE}/tile: read-only file system"),
        ("os.mkdir", errno.ENOSPC, f"medium: {HERE}/tile: no space left on device"),
    ],
)
def test_a_medium_that_is_full_or_fails(
    operation: str, number: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(tmp_path, entries=300)
    (device.stick / HERE).mkdir(parents=True)

    def fails(*_words: object, **_options: object) -> int:
        raise OSError(number, os.strerror(number))

    real = os.mkdir
    monkeypatch.setattr(
        operation,
        fails
        if operation != "os.mkdir"
        else lambda name, mode=0o777, *, dir_fd: (fails if name == "tile" else real)(name, mode, dir_fd=dir_fd),
    )
    with pytest.raises(EdgesealError) as refusal:
        device.copy()
    monkeypatch.undo()
    assert str(refusal.value) == message
    left = 1 if operation == "os.rename" else 0  # whether it was done is not known
    assert len(list((device.stick / TOP).glob(".new-*"))) == left
    device.copy()
    assert device.size_on_stick() == 300


def link_out(name: str) -> Callable[[Device], None]:
    def prepare(device: Device) -> None:
        (device.stick / name).parent.mkdir(parents=True, exist_ok=True)
        (device.stick / name).symlink_to(device.logs)

    return prepare


def directory(name: str) -> Callable[[Device], None]:
    return lambda device: (device.stick / HERE / name).mkdir(parents=True)


def pipe(name: str) -> Callable[[Device], None]:
    def prepare(device: Device) -> None:
        (device.stick / HERE).mkdir(parents=True)
        os.mkfifo(device.stick / HERE / name)

    return prepare


def file(name: str, size: int = 1) -> Callable[[Device], None]:
    def prepare(device: Device) -> None:
        (device.stick / name).parent.mkdir(parents=True, exist_ok=True)
        (device.stick / name).write_bytes(bytes(size))

    return prepare


def later_copy(device: Device) -> None:
    device.copy()
    note = (device.stick / HERE / "checkpoint").read_text()
    (device.stick / HERE / "checkpoint").write_text(note.replace("\n300\n", "\n301\n"))


def other_copy(device: Device) -> None:
    device.copy()
    lines = (device.stick / HERE / "checkpoint").read_text().split("\n")
    lines[2] = "A" * 43 + "="
    (device.stick / HERE / "checkpoint").write_text("\n".join(lines))


def often_cut(device: Device) -> None:
    (device.stick / TOP).mkdir()
    for number in range(1000):
        (device.stick / TOP / f".new-{number}").touch()


NO_DIRECTORY = "a link, or a file in the place of a directory"
HOSTILE: list[tuple[Callable[[Device], None], str]] = [
    (file(TOP), f"medium: {TOP}: {NO_DIRECTORY}"),
    (link_out(TOP), f"medium: {TOP}: {NO_DIRECTORY}"),
    (link_out(f"{TOP}/line-3"), f"medium: {TOP}/line-3: {NO_DIRECTORY}"),
    (link_out(HERE), f"medium: {HERE}/checkpoint: {NO_DIRECTORY}"),
    (link_out(f"{HERE}/tile"), f"medium: {HERE}/tile/entries/000: {NO_DIRECTORY}"),
    (link_out(f"{HERE}/tile/0/000"), f"medium: {HERE}/tile/0/000: not a regular file"),
    (link_out(f"{HERE}/checkpoint"), f"medium: {HERE}/checkpoint: {NO_DIRECTORY}"),
    (directory("checkpoint"), f"medium: {HERE}/checkpoint: not a regular file"),
    (directory("tile/entries/000"), f"medium: {HERE}/tile/entries/000: not a regular file"),
    (file(f"{HERE}/tile/entries"), f"medium: {HERE}/tile/entries/000: {NO_DIRECTORY}"),
    (pipe("vkey"), f"medium: {HERE}/vkey: not a regular file"),
    (pipe("checkpoint"), f"medium: {HERE}/checkpoint: not a regular file"),
    (file(f"{HERE}/checkpoint", 300_000), f"medium: {HERE}/checkpoint: more than 262144 bytes"),
    (often_cut, f"medium: {TOP}: 1000 exports were cut off"),
    (
        later_copy,
        f"medium: {HERE} has 301 entries of this log, the device 300: "
        "it is of a later time, or the device was rolled back",
    ),
    (other_copy, f"medium: {HERE} has other entries in the name of this log"),
]


@pytest.mark.parametrize(("prepare", "message"), HOSTILE, ids=[message for _, message in HOSTILE])
def test_a_hostile_medium(prepare: Callable[[Device], None], message: str, tmp_path: Path) -> None:
    device = Device(tmp_path, entries=300)
    before = sorted(device.logs.rglob("*"))
    prepare(device)
    with pytest.raises(EdgesealError) as refusal:
        device.copy()
    assert str(refusal.value) == message
    assert sorted(device.logs.rglob("*")) == before, "it wrote outside of the medium"


def test_a_log_that_cannot_be_named(tmp_path: Path) -> None:
    device = Device(tmp_path, entries=10)
    note = device.logs / "tlog/checkpoint"
    good = note.read_text()
    note.write_text(good.replace("edgeseal.audit/line-3/", "edgeseal.audit/../", 1))
    with pytest.raises(EdgesealError) as refusal:
        device.copy()
    assert str(refusal.value) == "`edgeseal.audit/../0a1b2c3d` is not the origin of a device's log"
    note.unlink()
    with pytest.raises(EdgesealError, match=r"^the log has no checkpoint yet$"):
        device.copy()
    assert device.files() == {}


class FakeWriter:
    """The log's writer: what it acknowledges is in the store, and published only later."""

    def __init__(self, path: Path, device: Device) -> None:
        self.events: list[AuditEvent] = []
        self.full = False
        self._device = device
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        self._listener.listen(1)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        while data := connection.recv(MAX_EVENT_BYTES):
            if self.full:
                connection.send(encode_audit_answer(NotRecorded(reason="full", detail="the log is full")))
                continue
            event = decode_event(data)
            self._device.told.say(event.kind, result=event.result, **event.fields)
            self._device.commit()
            self.events.append(event)
            connection.send(encode_audit_answer(Recorded(sequence=self._device.log.size - 1)))


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path, entries=300)


@pytest.fixture
def writer(tmp_path: Path, device: Device) -> FakeWriter:
    return FakeWriter(tmp_path / "audit.sock", device)


def settings(tmp_path: Path, device: Device) -> Settings:
    def pause(_seconds: float) -> None:
        device.log.publish()

    return Settings(device.logs, device.stick, str(tmp_path / "audit.sock"), pause)


def test_what_was_acknowledged_before_is_on_the_medium(tmp_path: Path, device: Device, writer: FakeWriter) -> None:
    device.told.fill(7)
    device.commit()  # acknowledged, and not published
    serve(settings(tmp_path, device))
    began, ended = writer.events
    number = f"{os.major(tmp_path.stat().st_dev)}:{os.minor(tmp_path.stat().st_dev)}"
    assert (began.kind, began.fields) == ("log-export-began", {"medium": number})
    told = {"medium": number, "logs": 1, "entries": 308, "bytes": sum(map(len, device.files().values()))}
    assert (ended.kind, ended.result, ended.fields) == ("log-exported", "success", told)
    assert device.size_on_stick() == 308
    assert Settings().medium == Path(EXPORT_MOUNT)


def test_a_failed_copy_is_told(tmp_path: Path, device: Device, writer: FakeWriter) -> None:
    file(TOP)(device)
    with pytest.raises(EdgesealError, match="in the place of a directory"):
        serve(settings(tmp_path, device))
    assert [(event.kind, event.result) for event in writer.events] == [
        ("log-export-began", "success"),
        ("log-not-exported", "failure"),
    ]
    assert writer.events[1].fields["reason"] == f"medium: {TOP}: {NO_DIRECTORY}"


def test_a_log_that_takes_nothing_is_copied_all_the_same(tmp_path: Path, device: Device, writer: FakeWriter) -> None:
    writer.full = True
    device.told.fill(5)
    device.commit()
    serve(settings(tmp_path, device))
    assert device.size_on_stick() == 305
    (tmp_path / "audit.sock").unlink()
    device.grow(5)
    serve(settings(tmp_path, device))
    assert device.size_on_stick() == 310


def test_a_log_that_publishes_nothing(tmp_path: Path, device: Device, writer: FakeWriter) -> None:
    with pytest.raises(EdgesealError, match=r"^entry 300 was not published within 60 s$"):
        serve(replace(settings(tmp_path, device), pause=lambda _seconds: None))
    assert writer.events[-1].kind == "log-not-exported"
    assert device.files() == {}


def test_no_medium(tmp_path: Path, device: Device) -> None:
    device.stick.rmdir()
    with pytest.raises(EdgesealError, match=r"^medium: no such file or directory$"):
        serve(settings(tmp_path, device))


def test_bundles_are_cut_as_tiles_are(tmp_path: Path) -> None:
    device = Device(tmp_path, entries=600)
    source = Tree(device.logs, "log")
    for level in (BUNDLE, 0):
        whole = _content(source, Tile(level, 0))
        assert whole.startswith(part := _content(source, Tile(level, 0, 100)))
        assert 0 < len(part) < len(whole)
