"""The log's tree on the disk: what it holds, what it refuses, and what is said of a file that somebody changed."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.audit import journal as journals
from appliance.audit.damage import LogDamagedError, LogRolledBackError
from appliance.audit.disk import Disk, charge
from appliance.audit.store import TileLog
from appliance.audit.succession import last_known, put_aside
from appliance.core.errors import InputError, VerificationError
from appliance.formats.checkpoint import decode_checkpoint
from appliance.formats.merkle import (
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    leaf_hashes,
    tree_hash,
    verify_consistency,
    verify_inclusion,
)
from appliance.formats.signed_note import decode_note
from appliance.formats.tlog_tiles import tree_files
from tests.support.log_verifier import fake_sign, verify_static

ORIGIN = "edgeseal.audit/line-3/0badcafe"


class Place:
    """Where a log is."""

    def __init__(self, directory: Path) -> None:
        self.public, self.state = directory / "tlog", directory / "state"

    def create(self) -> TileLog:
        return TileLog.create(self.public, self.state, ORIGIN)

    def open(self, *, floor: int = 0) -> TileLog:
        return TileLog.open(self.public, self.state, floor=floor)

    def files(self) -> dict[str, bytes]:
        found = self.public.rglob("*")
        return {str(path.relative_to(self.public)): path.read_bytes() for path in found if path.is_file()}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def entry(index: int) -> bytes:
    return b'{"index":%d,"text":"%s"}\n' % (index, b"x" * (index * 7 % 90))


def grow(log: TileLog, count: int) -> None:
    log.append([entry(index) for index in range(log.size, log.size + count)])


def built(place: Place, size: int) -> TileLog:
    log = place.create()
    while log.size < size:
        grow(log, min(200, size - log.size))
        log.commit(fake_sign)
        log.publish()
    return log


STEPS: list[Callable[[TileLog], object]] = [TileLog.sync, lambda log: log.commit(fake_sign), TileLog.publish]


def test_the_directory_is_exactly_the_layout(place: Place) -> None:
    built(place, 1000)
    expected = {tile.path for tile in tree_files(1000)} | {"checkpoint"}
    partial = {name for name in place.files() if ".p/" in name}
    assert set(place.files()) - partial == {name for name in expected if ".p/" not in name}
    # Partial tiles of every checkpoint in the last, unfinished tile stay; those of finished tiles are gone.
    assert partial == {
        *("tile/0/003.p/232", "tile/0/003.p/32", "tile/entries/003.p/232", "tile/entries/003.p/32"),
        *("tile/1/000.p/1", "tile/1/000.p/2", "tile/1/000.p/3"),
    }
    checkpoint = verify_static(place.files())
    assert checkpoint is not None and checkpoint.root == tree_hash(leaf_hashes(entry(index) for index in range(1000)))


def test_any_way_of_growing_gives_the_same_tree(place: Place) -> None:
    dice, log = random.Random(3), place.create()
    while log.size < 1500:
        grow(log, dice.choice([1, 2, 30, 256, 300]))
        for step in dice.choices(STEPS, k=2):
            step(log)
        if dice.random() < 0.2:
            log.sync()
            size = log.size
            log.close()
            log = place.open()
            assert log.size == size
        real = sum(charge(len(data)) for data in place.files().values()) + charge(
            (place.state / "journal").stat().st_size
        )
        assert log.disk_bytes == real
    signed = log.commit(fake_sign)
    log.publish()
    assert signed.checkpoint.root == tree_hash(leaf_hashes(entry(index) for index in range(log.size)))
    assert verify_static(place.files()) == signed.checkpoint
    assert log.entries(0, log.size) == [entry(index) for index in range(log.size)]


def test_each_step_includes_the_one_before(place: Place) -> None:
    log = place.create()
    grow(log, 3)
    assert (log.size, log.durable, log.signed, log.published) == (3, 0, None, None)
    assert log.publish() is None
    signed = log.commit(fake_sign)
    assert (log.durable, log.signed, log.published) == (3, signed, None)
    assert "checkpoint" not in place.files()
    assert log.publish() == log.published == signed
    assert log.commit(fake_sign) is signed
    grow(log, 1)
    assert log.sync() == log.durable == 4
    assert log.signed == signed and log.entry(3) == entry(3)


def test_what_is_durable_and_not_signed_is_there_after_opening(place: Place) -> None:
    log = built(place, 300)
    grow(log, 5)
    log.commit(fake_sign)
    grow(log, 2)
    log.sync()
    log.close()
    log = place.open()
    assert log.size == 307 and log.torn_bytes == 0
    assert log.published is not None and log.published.size == 305  # what was signed is published by open()
    assert log.entries(298, 307) == [entry(index) for index in range(298, 307)]


def test_an_empty_log_is_signed_as_one(place: Place) -> None:
    log = place.create()
    log.commit(fake_sign)
    log.publish()
    checkpoint = decode_checkpoint(decode_note((place.public / "checkpoint").read_bytes()).text)
    assert (checkpoint.size, checkpoint.root) == (0, hashlib.sha256(b"").digest())


def test_proofs_come_out_of_the_tiles(place: Place) -> None:
    log = built(place, 700)
    published = log.published
    assert published is not None
    size, root = published.size, published.checkpoint.root
    for index in (0, 255, 256, 640, 699):
        verify_inclusion(leaf_hash(entry(index)), index, size, inclusion_proof(index, size, log.read_node), root)
    for old in (1, 200, 256, 513, 700):
        old_root = tree_hash(leaf_hashes(entry(index) for index in range(old)))
        verify_consistency(old, old_root, size, root, consistency_proof(old, size, log.read_node))


def test_pruning_keeps_what_the_specification_keeps(place: Place) -> None:
    log = built(place, 1100)
    before = log.disk_bytes
    log.prune(700)
    assert log.minimum == 700 and log.disk_bytes < before
    assert verify_static(place.files(), minimum=700) is not None
    assert not (place.public / "tile/entries/001").exists() and (place.public / "tile/entries/002").exists()
    assert log.entry(700) == entry(700)
    published = log.published
    assert published is not None
    proof = inclusion_proof(700, published.size, log.read_node)
    verify_inclusion(leaf_hash(entry(700)), 700, published.size, proof, published.checkpoint.root)
    log.close()
    log = place.open()
    assert log.minimum == 700
    grow(log, 300)
    log.commit(fake_sign)
    log.publish()
    assert verify_static(place.files(), minimum=700) is not None
    real = sum(charge(len(data)) for data in place.files().values()) + charge((place.state / "journal").stat().st_size)
    assert log.disk_bytes == real


def test_how_far_to_prune_for_so_many_bytes(place: Place) -> None:
    log = built(place, 1100)
    assert log.minimum_to_free(0) == 0
    assert log.minimum_to_free(1) == 256
    minimum = log.minimum_to_free(40_000)
    before = log.disk_bytes
    log.prune(minimum)
    assert before - log.disk_bytes >= 40_000
    assert log.minimum_to_free(1 << 30) == 1024


def test_refused_requests(place: Place) -> None:
    with pytest.raises(InputError, match=r"^audit log: there is none in .*/tlog$"):
        place.open()
    log = built(place, 300)
    log.prune(256)
    calls: dict[str, Callable[[], object]] = {
        "there is one in ": place.create,
        "a minimum index of 255, 256 to 300 are allowed": lambda: log.prune(255),
        "a minimum index of 301, 256 to 300 are allowed": lambda: log.prune(301),
        "entries 255 to 256 are asked for, 256 to 300 are there": lambda: log.entry(255),
        "entries 300 to 301 are asked for, 256 to 300 are there": lambda: log.entry(300),
        "an entry of 65536 bytes, at most 65535 are allowed": lambda: log.append([bytes(65_536)]),
    }
    for message, call in calls.items():
        with pytest.raises(InputError) as caught:
            call()
        assert str(caught.value).startswith(f"audit log: {message}")


def test_a_signer_that_signs_something_else(place: Place) -> None:
    log = place.create()
    grow(log, 1)
    with pytest.raises(VerificationError, match=r"^audit log: the signer signed something else$"):
        log.commit(lambda text: fake_sign(text.replace("\n1\n", "\n2\n")))
    assert log.signed is None


def test_an_old_copy_is_found_by_who_counts(place: Place) -> None:
    built(place, 300).close()
    with pytest.raises(LogRolledBackError) as caught:
        place.open(floor=301)
    assert str(caught.value) == "audit log: 300 entries, but 301 were signed: an old copy was put back"
    assert place.open(floor=300).size == 300


def flip(path: Path, at: int = -5) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


DAMAGE: dict[str, tuple[Callable[[Place], object], str, int | None]] = {
    "journal gone": (lambda place: (place.state / "journal").unlink(), "journal: is missing", 700),
    "checkpoint gone": (lambda place: (place.public / "checkpoint").unlink(), "checkpoint: is missing", 512),
    "journal empty": (lambda place: (place.state / "journal").write_bytes(b""), "journal: has no beginning", None),
    "journal in the middle": (
        lambda place: flip(place.state / "journal", 400),
        "journal: batch 1 at byte 142 is damaged, batch 2 is whole",
        512,
    ),
    "tile of level 1": (
        lambda place: flip(place.public / "tile/1/000.p/2", 40),
        "tile/1/000.p/2: hash 1 is not the root of tile/0/001",
        256,
    ),
    "tile of level 0": (
        lambda place: (flip(place.public / "tile/1/000.p/2", 0), flip(place.public / "tile/0/000", 32 * 9)),
        "tile/0/000: entry 9 is not the one that the tree has",
        9,
    ),
    "tile gone": (lambda place: (place.public / "tile/1/000.p/2").unlink(), "tile/1/000.p/2: is missing", None),
    "tile cut": (
        lambda place: (place.public / "tile/1/000.p/2").write_bytes(b"x"),
        "tile/1/000.p/2: tile: 1 bytes, 2 hashes have 64",
        None,
    ),
    "checkpoint torn": (
        lambda place: (place.public / "checkpoint").write_bytes(b"x"),
        "checkpoint: note: no empty line between text and signatures",
        None,
    ),
    "checkpoint of another size": (
        lambda place: (place.public / "checkpoint").write_bytes(
            fake_sign(decode_note((place.public / "checkpoint").read_bytes()).text.replace("\n700\n", "\n600\n"))
        ),
        "checkpoint: signs another root over 600 entries than they have",
        None,
    ),
    "checkpoint of a later log": (
        lambda place: (place.public / "checkpoint").write_bytes(
            fake_sign(decode_note((place.public / "checkpoint").read_bytes()).text.replace("\n700\n", "\n701\n"))
        ),
        "journal: knows of 700 signed entries, the checkpoint signs 701",
        700,
    ),
    "checkpoint of an older log": (
        lambda place: (place.public / "checkpoint").write_bytes(
            fake_sign(decode_note((place.public / "checkpoint").read_bytes()).text.replace("\n700\n", "\n500\n"))
        ),
        "checkpoint: signs 500 entries, the journal has them from 512 on",
        512,
    ),
    "checkpoint of another log": (
        lambda place: (place.public / "checkpoint").write_bytes(
            fake_sign(decode_note((place.public / "checkpoint").read_bytes()).text.replace("line-3", "line-4"))
        ),
        "checkpoint: is of edgeseal.audit/line-4/0badcafe, the journal is of edgeseal.audit/line-3/0badcafe",
        None,
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named(place: Place, name: str) -> None:
    log = built(place, 700)
    log._rotate()
    log.close()
    spoil, message, index = DAMAGE[name]
    spoil(place)
    before = place.files()
    with pytest.raises(LogDamagedError) as caught:
        place.open()
    assert str(caught.value) == f"audit log: {message}"
    assert (caught.value.file, caught.value.index) == (message.partition(":")[0], index)
    assert place.files() == before


def test_a_torn_end_of_the_journal_is_cut_off(place: Place) -> None:
    log = built(place, 10)
    offset = log._journal._offset
    grow(log, 1)
    log.sync()
    log.close()
    flip(place.state / "journal", offset + 40)
    log = place.open()
    assert log.size == 10 and log.torn_bytes > 0
    grow(log, 2)
    log.commit(fake_sign)
    log.publish()
    assert verify_static(place.files()) is not None
    assert place.open().torn_bytes == 0


def test_a_log_that_cannot_go_on_is_put_aside_whole(place: Place) -> None:
    log = built(place, 300)
    signed = log.published
    log.close()
    before = place.files()
    flip(place.state / "journal", 20)
    with pytest.raises(LogDamagedError):
        place.open()
    predecessor = put_aside(place.public, place.state)
    assert predecessor.aside == "tlog.rejected-1" and predecessor.signed == signed
    moved = Place(place.public.parent)
    moved.public = place.public.with_name("tlog.rejected-1")
    assert moved.files() == before
    assert place.create().size == 0
    assert put_aside(place.public, place.state).aside == "tlog.rejected-2"


def test_the_newest_checkpoint_that_is_left_counts(place: Place) -> None:
    assert last_known(place.public, place.state) is None
    log = built(place, 300)
    grow(log, 5)
    signed = log.commit(fake_sign)
    assert last_known(place.public, place.state) == signed
    (place.state / "journal").unlink()
    assert last_known(place.public, place.state) == log.published


def test_a_disk_that_is_full_for_a_while(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    log = built(place, 300)
    grow(log, 300)
    signed = log.commit(fake_sign)
    write, left = Disk.write_synced, [2]

    def full(self: Disk, path: Path, data: bytes) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        write(self, path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Disk, "write_synced", full)
        with pytest.raises(OSError, match="No space left"):
            log.publish()
    assert verify_static(place.files()) is not None
    assert log.publish() == signed
    assert verify_static(place.files()) == signed.checkpoint


def test_a_journal_that_is_full_is_replaced(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "CAPACITY", 16 << 10)
    log = place.create()
    for _ in range(8):
        grow(log, 60)
        log.sync()
    log.append([bytes(60_000)] * 3)
    log.sync()
    log.close()
    log = place.open()
    assert log.size == 483 and log.entries(0, 480) == [entry(index) for index in range(480)]
    log.commit(fake_sign)
    log.publish()
    assert verify_static(place.files()) is not None
