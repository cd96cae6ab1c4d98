"""Whoever holds the disk changes the log. Each row: what he does, and exactly what a reviewer sees.

What the collector and the witness see is in test_collector.py; what the writer does with a forged sender and the TPM
with an old disk is tested with the service (tests/integration/audit/test_service*.py).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.formats.signed_note import decode_vkey
from builder.audit.policy import Policy
from builder.audit.verify import Review, verify_log
from tests.support.audit_story import ORIGIN, UPDATER, WALL, Story, story
from tests.support.naive_log import NoteKey, checkpoint_text, named_key, signed_checkpoint, write_naive_log

NOBODY = Policy((), {}, {}, None)
YEARS = 10 * 31_557_600 * 1_000_000
THIEF = "thief"


def review(directory: Path, *, key: NoteKey | None = None, since: str | None = None) -> Review:
    log_key = key or named_key(ORIGIN)
    earlier = None if since is None else since.encode()
    return verify_log(directory, [decode_vkey(log_key.vkey)], NOBODY, since=earlier)


def seen(directory: Path, **options: str) -> list[str]:
    return [finding.sentence() for finding in review(directory, **options).findings]  # type: ignore[arg-type]


def resign(told: Story, directory: Path, entries: list[bytes], *signers: NoteKey) -> Path:
    """The log as one would write it who has these keys."""
    shutil.rmtree(directory, ignore_errors=True)
    return write_naive_log(directory, entries, *(signers or told.signers))


def test_the_log_itself_verifies(tmp_path: Path) -> None:
    told = story(boots=4, fill=600)
    found = review(told.write(tmp_path / "log"))
    assert (found.findings, found.remarks, found.size, found.boots) == ([], [], len(told.entries), (1, 4))
    assert [epoch.number for epoch in found.epochs] == [1, 2, 3, 4]


def test_any_flipped_byte_of_any_file_is_seen(tmp_path: Path) -> None:
    """One bit of every byte, another bit in each."""
    told = story(boots=1)
    directory = told.write(tmp_path / "log")
    (directory / "vkey").write_text(f"{told.log_key.vkey}\n{told.epoch_keys[0].vkey}\n")
    assert review(directory).ok
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    assert [path.relative_to(directory).as_posix() for path in files] == [
        "checkpoint",
        f"tile/0/000.p/{len(told.entries)}",
        f"tile/entries/000.p/{len(told.entries)}",
        "vkey",
    ]
    unseen = []
    for path in files:
        whole = path.read_bytes()
        for place in range(len(whole)):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
            if review(directory).ok:
                unseen.append((path.name, place))
        path.write_bytes(whole)
    assert unseen == []


def test_any_flipped_byte_of_a_large_log_is_seen(tmp_path: Path) -> None:
    """Full tiles, a level above, an old partial tile: a stride through every file."""
    told = story(boots=2, fill=900)
    directory = told.write(tmp_path / "log")
    early = Story(entries=told.entries[:300], epoch_keys=told.epoch_keys)
    write_naive_log(directory, early.entries, *told.signers)
    (directory / "checkpoint").write_text(told.note())
    assert review(directory).ok
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    assert len(files) == 13, "checkpoint, 4 bundles, 4 leaf tiles, 1 above; a bundle and two tiles left over"
    for path in files:
        whole = path.read_bytes()
        for place in range(0, len(whole), max(1, len(whole) // 7)):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
            assert not review(directory).ok, f"{path} byte {place}"
        path.write_bytes(whole)


def test_what_does_not_belong_to_a_log_is_told_and_hides_nothing(tmp_path: Path) -> None:
    told = story(boots=1)
    directory = told.write(tmp_path / "log")
    (directory / "notes.txt").write_text("hello")
    (directory / "tile/0/000.p/.6.abcd").write_bytes(b"cut")
    (directory / "tile/entries/001.p").mkdir()
    (directory / "tile/entries/001.p/7").write_bytes(b"later")
    found = review(directory)
    assert found.ok
    assert found.remarks == [
        "notes.txt: not part of a log, not looked at",
        "tile/0/000.p/.6.abcd: not part of a log, not looked at",
        "tile/entries/001.p/7: beyond the checkpoint's size, signed by nobody yet, not looked at",
    ]
    (directory / "tile/0/0").write_bytes(b"")
    assert seen(directory) == ["tile: `tile/0/0` is not the path of a tile"]


def swap(told: Story) -> list[bytes]:
    return [*told.entries[:4], told.entries[5], told.entries[4], *told.entries[6:]]


def test_two_swapped_entries(tmp_path: Path) -> None:
    told = story(boots=1)
    directory = told.write(tmp_path / "log")
    bundle = directory / f"tile/entries/000.p/{len(told.entries)}"
    bundle.write_bytes(b"".join(len(entry).to_bytes(2, "big") + entry for entry in swap(told)))
    name = f"tile/entries/000.p/{len(told.entries)}"
    assert seen(directory)[:2] == [
        f"{name}: entry 4: log entry: says that it is entry 5, it is entry 4",
        f"{name}: entry 5: log entry: says that it is entry 4, it is entry 5",
    ]
    assert "is not the entry that the tree has" in seen(directory)[2]


def test_two_entries_swapped_by_the_keys_owner(tmp_path: Path) -> None:
    """Everything is signed anew: the entries themselves say where they belong."""
    told = story(boots=1)
    directory = resign(told, tmp_path / "log", swap(told))
    assert seen(directory) == [
        "tile/entries/000.p/6: entry 4: log entry: says that it is entry 5, it is entry 4",
        "tile/entries/000.p/6: entry 5: log entry: says that it is entry 4, it is entry 5",
    ]


def test_a_cut_tail(tmp_path: Path) -> None:
    told = story(boots=1)
    directory = told.write(tmp_path / "log")
    count = len(told.entries)
    bundle = directory / f"tile/entries/000.p/{count}"
    shorter = b"".join(len(entry).to_bytes(2, "big") + entry for entry in told.entries[:-1])
    bundle.write_bytes(shorter)
    name = f"tile/entries/000.p/{count}"
    assert seen(directory) == [f"{name}: entry bundle: {count - 1} entries, not {count}"]
    bundle.unlink()
    assert seen(directory)[0] == f"{name}: cannot be read: no such file or directory"


def test_an_old_snapshot_is_seen_by_who_kept_a_checkpoint(tmp_path: Path) -> None:
    told = story(boots=2)
    directory = told.write(tmp_path / "log")
    told.restart()
    assert seen(directory, since=told.note()) == [
        "checkpoint: the log is smaller than it was: it was rolled back or cut"
        f" (expected size {len(told.entries)} or more, found size {len(told.entries) - 2})"
    ]


def test_another_tail_validly_signed_is_seen_by_who_kept_a_checkpoint(tmp_path: Path) -> None:
    told = story(boots=2)
    kept = told.note()
    other = story(boots=2)
    other.entries.pop()
    other.update("00000000000000bb")
    directory = other.write(tmp_path / "log")
    assert seen(directory) == []
    assert seen(directory, since=kept) == [
        "checkpoint: does not continue the earlier checkpoint: consistency proof from"
        f" {len(told.entries)} to {len(other.entries)}: leads to another old root"
    ]


@pytest.mark.parametrize("offset", [YEARS, -YEARS])
def test_a_clock_that_is_moved_by_ten_years_is_told_and_changes_no_order(offset: int, tmp_path: Path) -> None:
    told = story(boots=1)
    told.offset_us = offset
    told.fill(3)
    found = review(told.write(tmp_path / "log"))
    assert found.ok
    assert [(step.index, step.by_us, step.over_boot) for step in found.steps] == [(6, offset, False)]


def test_a_clock_that_is_behind_after_a_restart_is_told(tmp_path: Path) -> None:
    told = story(boots=1)
    told.started_us = WALL - YEARS
    told.restart()
    steps = review(told.write(tmp_path / "log")).steps
    assert [(step.index, step.over_boot) for step in steps] == [(6, True)]


def test_a_new_origin_names_the_log_before_it(tmp_path: Path) -> None:
    old = story(boots=2, origin=(name := "edgeseal.audit/line-3/00000001"), log_key=named_key(name))
    told = Story()
    told.begin(previous=old.note())
    directory = told.write(tmp_path / "log")
    assert review(directory).remarks == [f"continues the log {name} of 11 entries; its key was not given"]
    keys = [decode_vkey(named_key(ORIGIN).vkey), decode_vkey(named_key(name).vkey)]
    found = verify_log(directory, keys, NOBODY, since=None)
    assert (found.ok, found.previous) == (True, old.note())
    assert found.remarks == [f"continues the log {name} of 11 entries; its signature holds"]
    thief = story(boots=2, origin=name, log_key=named_key(name, variant=THIEF))
    forged = Story()
    forged.begin(previous=thief.note())
    found = verify_log(forged.write(tmp_path / "forged"), keys, NOBODY, since=None)
    assert [finding.sentence() for finding in found.findings] == [
        "tile/entries/000.p/3: entry 0: the checkpoint of the log before this one: note: no known key signed it"
    ]


# ---- forward security: all keys of today are stolen


def forge(change: Callable[[Story], None], *, variant: str) -> tuple[Story, Story]:
    """The true story, and one with the same log key whose first boot was another. variant: of its epoch keys."""
    told = story(boots=3)
    false = Story(variant=variant)
    false.begin()
    change(false)
    false.restart()
    false.restart()
    return told, false


def test_stolen_keys_sign_no_other_history_with_the_true_epochs(tmp_path: Path) -> None:
    """The handovers to epochs 2 and 3 would have to be signed by keys that are no more."""
    told, false = forge(lambda one: one.say("log-closed", UPDATER), variant="")
    genuine = {entry_index(entry): entry for entry in told.entries if b"epoch-began" in entry}
    entries = list(false.entries)
    places = [number for number, entry in enumerate(entries) if b"epoch-began" in entry]
    for place, entry in zip(places, genuine.values(), strict=True):
        entries[place] = entry.replace(b'"index":%d,' % entry_index(entry), b'"index":%d,' % place)
    findings = seen(resign(told, tmp_path / "log", entries, told.log_key, told.epoch_keys[-1]))
    assert findings == [
        f"tile/entries/000.p/8: entry 4: the handover to epoch 2 is for size 6 of {ORIGIN}, not for its own place",
        "tile/entries/000.p/8: entry 6: epoch 3 follows epoch 1",
        "checkpoint: it is not signed by the key of the epoch in force (expected epoch 1, found no known epoch key)",
    ]


def test_stolen_keys_and_new_epochs_are_not_the_epoch_that_was_known(tmp_path: Path) -> None:
    """The thief makes up all epochs: who was told the key of epoch 1 at provisioning sees it."""
    told, false = forge(lambda one: one.say("log-closed", UPDATER), variant=THIEF)
    directory = false.write(tmp_path / "log")
    assert seen(directory) == []
    keys = [decode_vkey(told.log_key.vkey), decode_vkey(told.epoch_keys[0].vkey)]
    found = verify_log(directory, keys, NOBODY, since=None).findings
    assert [finding.sentence() for finding in found] == [
        "checkpoint: the epoch key that you gave was never announced in this log"
        f" (expected {told.epoch_keys[0].key_id.hex()}, found {false.epoch_keys[0].key_id.hex()})"
    ]


def test_an_epoch_key_alone_signs_nothing(tmp_path: Path) -> None:
    told = story(boots=2)
    directory = resign(told, tmp_path / "log", told.entries, told.epoch_keys[-1])
    (directory / "checkpoint").write_text(signed_by_epoch_only(told))
    assert seen(directory) == ["checkpoint: note: no known key signed it"]


def test_an_old_epoch_key_does_not_sign_todays_log(tmp_path: Path) -> None:
    told = story(boots=3)
    directory = resign(told, tmp_path / "log", told.entries, told.log_key, told.epoch_keys[0])
    assert seen(directory) == [
        "checkpoint: it is not signed by the key of the epoch in force (expected epoch 3, found epoch 1)"
    ]


def test_a_log_key_alone_signs_nothing_later(tmp_path: Path) -> None:
    told = story(boots=3)
    directory = resign(told, tmp_path / "log", told.entries, told.log_key)
    assert seen(directory) == [
        "checkpoint: it is not signed by the key of the epoch in force (expected epoch 3, found no known epoch key)"
    ]


def test_another_log_under_the_same_name(tmp_path: Path) -> None:
    told = story(log_key=named_key(ORIGIN, variant=THIEF))
    assert seen(told.write(tmp_path / "log")) == ["checkpoint: note: no known key signed it"]


def signed_by_epoch_only(told: Story) -> str:
    text = checkpoint_text(ORIGIN, told.entries)
    return f"{text}\n{told.epoch_keys[-1].line(text)}"


def entry_index(entry: bytes) -> int:
    return int(entry.split(b'"index":')[1].split(b",")[0])


def test_the_same_tree_with_two_signed_roots(tmp_path: Path) -> None:
    """The checkpoint is genuine, the files are another tree."""
    told, other = story(boots=1), story(boots=1)
    other.entries.pop()
    other.say("log-closed")
    directory = other.write(tmp_path / "log")
    (directory / "checkpoint").write_text(signed_checkpoint(told.entries, *told.signers))
    (finding,) = review(directory).findings
    assert (finding.file, finding.message) == ("checkpoint", "the tiles lead to another root than the signed one")
