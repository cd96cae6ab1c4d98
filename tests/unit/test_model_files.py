"""A model's directory: what a disk that fails is called, and what is left of an interruption."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.core.errors import EdgesealError
from appliance.formats.model_store import PendingModel
from appliance.update import model_files
from appliance.update.model_files import ModelFiles
from appliance.update.model_store import ModelStore

PENDING = PendingModel(model="labels", transaction="0" * 16, release="ab" * 32, version=3, policy_sequence=1)


@pytest.fixture
def files(tmp_path: Path) -> ModelFiles:
    return ModelFiles(tmp_path / "models/labels")


def test_modes_do_not_depend_on_the_umask(files: ModelFiles) -> None:
    before = os.umask(0o077)
    try:
        files.append("3.part", 0, b"abc")
        assert files.directory.joinpath("3.part").stat().st_mode & 0o777 == 0o600, "nobody else opens it"
        files.publish("3.part", "3.onnx")
        files.write("current.json", b"{}")
    finally:
        os.umask(before)
    found = {path.name: path.stat().st_mode & 0o777 for path in files.directory.iterdir()}
    assert found == {"3.onnx": 0o644, "current.json": 0o644}
    assert [path.stat().st_mode & 0o777 for path in (files.directory, files.directory.parent)] == [0o755, 0o755]


def test_bytes_go_where_they_belong_and_cut_off_what_is_behind(files: ModelFiles) -> None:
    files.append("3.part", 0, b"0123456789")
    files.append("3.part", 4, b"xy")
    assert files.read("3.part", at_most=100) == b"0123xy"
    assert files.read("3.part", at_most=3) == b"0123", "one more, so that too much is noticed"


def test_nothing_is_there_at_first(files: ModelFiles, tmp_path: Path) -> None:
    assert files.sizes() == {}
    assert files.read("current.json", at_most=10) is None
    store = ModelStore(tmp_path / "models", budget=1 << 20, free=lambda _: 1 << 30)
    assert (store.current("labels"), store.pending("labels")) == (None, None)
    assert store.examine("labels", progress=lambda: None) == []
    store.keep_only(())
    assert not (tmp_path / "models").exists()


def _full(*_: object, **__: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _broken(*_: object, **__: object) -> int:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


FAULTS: list[tuple[str, str, Callable[..., int], Callable[[ModelFiles], object], str]] = [
    (
        "append",
        "os.pwrite",
        _full,
        lambda files: files.append("3.part", 0, b"x"),
        "write model labels: no space left on device",
    ),
    ("sync", "os.fsync", _broken, lambda files: files.sync("here"), "write model labels: input/output error"),
    (
        "write",
        "write_durable",
        _full,
        lambda files: files.write("a", b""),
        "write model labels: no space left on device",
    ),
    (
        "publish",
        "fsync_directory",
        _broken,
        lambda files: files.publish("here", "b"),
        "write model labels: input/output error",
    ),
    (
        "remove",
        "fsync_directory",
        _broken,
        lambda files: files.remove("here"),
        "write model labels: input/output error",
    ),
    (
        "nothing to publish",
        "",
        _full,
        lambda files: files.publish("gone", "b"),
        "write model labels: no such file or directory",
    ),
]


@pytest.mark.parametrize(("name", "what", "fault", "act", "said"), FAULTS, ids=[row[0] for row in FAULTS])
def test_a_disk_that_fails_is_told(
    name: str,
    what: str,
    fault: Callable[..., int],
    act: Callable[[ModelFiles], object],
    said: str,
    files: ModelFiles,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files.write("here", name.encode())
    if what:
        monkeypatch.setattr(os if what.startswith("os.") else model_files, what.removeprefix("os."), fault)
    with pytest.raises(EdgesealError) as refusal:
        act(files)
    assert refusal.value.message == f"cannot {said}"


def test_what_nothing_names_is_removed(files: ModelFiles, tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models", budget=1 << 20, free=lambda _: 1 << 30)
    store.begin(PENDING, b"{}", size=10)
    for name in (".pending.json.x1", "2.onnx", "2.json", "4.part"):
        files.write(name, b"left")
    files.append("3.part", 0, b"some")
    store.tidy("labels")
    assert sorted(files.sizes()) == ["3.json", "3.part", "pending.json"]


def test_a_version_that_has_its_name_and_is_not_current_goes_on_as_a_part(files: ModelFiles, tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models", budget=1 << 20, free=lambda _: 1 << 30)
    store.begin(PENDING, b"{}", size=10)
    files.write("3.onnx", b"whole")
    store.tidy("labels")
    assert sorted(files.sizes()) == ["3.json", "3.part", "pending.json"]


def test_the_room_that_is_left(files: ModelFiles, tmp_path: Path) -> None:
    mib = 1 << 20
    for budget, free, room in (
        (10 * mib, 1 << 40, 10 * mib - (1 << 18)),
        (1 << 40, 20 * mib, 4 * mib - (1 << 18)),
        (1, 1, 0),
    ):
        store = ModelStore(tmp_path / "models", budget=budget, free=lambda _, free=free: free)  # type: ignore[misc]
        assert store.room("labels") == room
    store = ModelStore(tmp_path / "models", budget=10 * mib, free=lambda _: 1 << 40)
    ModelFiles(tmp_path / "models/other").write("1.onnx", bytes(mib))
    files.write("9.part", bytes(mib))
    assert store.room("labels") == 9 * mib - (1 << 18), "its own part is not in its way, another model is"


def test_the_free_space_of_a_real_file_system_counts(tmp_path: Path) -> None:
    assert 0 < ModelStore(tmp_path / "not/yet", budget=1 << 60).room("labels") < 1 << 60
