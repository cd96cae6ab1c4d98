"""A journal or a tile that somebody changed: refused by name, or as if its last batch had never been."""

from __future__ import annotations

import copy
import functools
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from appliance.audit.damage import LogDamagedError
from appliance.audit.store import TileLog
from tests.support.cut_log import File, ModelDisk
from tests.support.log_verifier import fake_sign

PUBLIC, STATE = Path("/tlog"), Path("/state")
SIZE, SIGNED = 330, 328


def entry(index: int) -> bytes:
    return b'{"index":%d}\n' % index


@functools.cache
def built() -> tuple[ModelDisk, int]:
    """A log with entries that are published, signed only, and durable only; and how long its journal is in use."""
    disk = ModelDisk()
    log = TileLog.create(PUBLIC, STATE, "a/log", disk=disk)
    for count, publish in ((200, True), (100, True), (SIGNED - 300, False)):
        log.append([entry(index) for index in range(log.size, log.size + count)])
        log.commit(fake_sign)
        if publish:
            log.publish()
    log.append([entry(index) for index in range(SIGNED, SIZE)])
    log.sync()
    return disk, len((disk.read(STATE / "journal") or b"").rstrip(b"\0"))


def with_changed(path: Path, at: int, mask: int) -> ModelDisk:
    disk = copy.deepcopy(built()[0])
    node = disk._find(path)
    assert isinstance(node, File)
    data = bytearray(node.now())
    data[at] ^= mask
    node.safe, node.writes = bytes(data), []
    return disk


@given(st.data(), st.integers(1, 255))
def test_no_changed_byte_of_the_journal_is_believed(data: st.DataObject, mask: int) -> None:
    disk = with_changed(STATE / "journal", data.draw(st.integers(0, built()[1] + 200)), mask)
    try:
        log = TileLog.open(PUBLIC, STATE, disk=disk)
    except LogDamagedError as error:
        assert error.file == "journal"
        return
    assert log.size in (SIGNED, SIZE) and log.entries(0, log.size) == [entry(index) for index in range(log.size)]
    assert log.size == SIZE or log.torn_bytes > 0


@given(st.sampled_from(["checkpoint", "tile/1/000.p/1", "tile/0/001.p/44", "tile/entries/001.p/44"]), st.data())
def test_no_changed_byte_of_the_edge_changes_the_log(name: str, data: st.DataObject) -> None:
    size = len(built()[0].files(PUBLIC)[name])
    disk = with_changed(PUBLIC / name, data.draw(st.integers(0, size - 1)), 1 << data.draw(st.integers(0, 7)))
    try:
        log = TileLog.open(PUBLIC, STATE, disk=disk)
    except LogDamagedError:
        return
    assert (
        log.commit(fake_sign).checkpoint
        == TileLog.open(PUBLIC, STATE, disk=copy.deepcopy(built()[0])).commit(fake_sign).checkpoint
    )
