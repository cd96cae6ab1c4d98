"""Names of boot entries, the loader's order, and what a boot tells: one row for each case."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from appliance.core.errors import DecodeError, EdgesealError
from appliance.formats.update_state import Trial
from appliance.update.entries import (
    Confirmed,
    Entry,
    EntryLost,
    FellBack,
    Found,
    MustActivate,
    MustReboot,
    MustStage,
    OnTrial,
    Quiet,
    Running,
    boot_order,
    is_ours,
    judge,
    next_boot,
    parse_entry,
    removable,
)

HASHES = {version: f"{version:064x}" for version in range(1, 10)}
OLD = Running(1, "a", HASHES[1])
NEW = Running(2, "b", HASHES[2])
TRIAL = Trial(
    transaction="0" * 16, release="0" * 64, version=2, security_epoch=0, slot="b", step="decided", confirm="online"
)


def there(*names: str) -> list[Found]:
    """A name that begins with `!` has no header."""
    found = []
    for name in names:
        bare = name.lstrip("!")
        try:
            entry = parse_entry(bare)
        except DecodeError:
            entry = None
        found.append(Found(bare, entry, HASHES[entry.version] if entry and bare == name else None))
    return found


@pytest.mark.parametrize(
    "entry", [Entry(1), Entry(2**31 - 1), Entry(7, 3, 0), Entry(7, 0, 3), Entry(7, 12, 2_000_000_000)]
)
def test_a_name_is_read_as_it_was_written(entry: Entry) -> None:
    assert parse_entry(entry.name) == entry
    assert is_ours(entry.name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "edgeseal_0.efi",
        "edgeseal_07.efi",
        "edgeseal_2147483648.efi",
        "edgeseal_7.EFI",
        "edgeseal_7+3.efi",
        "edgeseal_7+03-0.efi",
        "edgeseal_7+3-00.efi",
        "edgeseal_7+-1.efi",
        "edgeseal_7+100-0.efi",
        "edgeseal_7.efi.efi",
        "edgeseal_7.efi\n",
        "edgeseal_٧.efi",
        "edgeseal-7.efi",
        "linux.efi",
    ],
)
def test_any_other_name_is_refused(name: str) -> None:
    with pytest.raises(DecodeError) as refusal:
        parse_entry(name)
    assert str(refusal.value) == (
        f"boot entry {name!r}: neither edgeseal_VERSION.efi nor edgeseal_VERSION+LEFT-DONE.efi"
    )


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("EDGESE~1.EFI", True),
        ("edgese~2.efi", True),
        ("edgeseal_7+3-0.dup", True),
        ("EDGESE~1.TXT", False),
        ("LINUX~1.EFI", False),
        ("linux.efi", False),
    ],
)
def test_what_is_ours(name: str, ours: bool) -> None:
    assert is_ours(name) == ours


def test_the_order_of_the_loader() -> None:
    names = [
        "edgeseal_10+3-0.efi",
        "edgeseal_9+2-1.efi",
        "edgeseal_9+1-2.efi",
        "edgeseal_9.efi",
        "edgeseal_2.efi",
        "edgeseal_11+0-3.efi",
        "edgeseal_3+0-3.efi",
    ]
    assert [entry.name for entry in boot_order(map(parse_entry, sorted(names)))] == names


def test_an_image_without_a_header_is_not_started() -> None:
    assert next_boot(there("!edgeseal_3.efi", "edgeseal_2.efi", "linux.efi")) == Entry(2)
    assert next_boot(there("!edgeseal_3.efi")) is None


ROWS: list[tuple[str, list[str], Running, dict[str, Any] | None, object]] = [
    ("nothing on its way", ["edgeseal_1.efi"], OLD, None, Quiet()),
    ("an old entry beside it", ["edgeseal_1.efi", "edgeseal_2.efi"], NEW, None, Quiet()),
    ("on trial", ["edgeseal_1.efi", "edgeseal_2+2-1.efi"], NEW, {"step": "activated"}, OnTrial(2)),
    ("on its last try", ["edgeseal_1.efi", "edgeseal_2+0-3.efi"], NEW, {"step": "activated"}, OnTrial(0)),
    ("on trial, the journal behind", ["edgeseal_1.efi", "edgeseal_2+2-1.efi"], NEW, {"step": "staged"}, OnTrial(2)),
    ("on trial without a journal", ["edgeseal_1.efi", "edgeseal_2+2-1.efi"], NEW, None, OnTrial(2)),
    ("confirmed", ["edgeseal_1.efi", "edgeseal_2.efi"], NEW, {"step": "activated"}, Confirmed()),
    ("confirmed, with two names", ["edgeseal_2.efi", "edgeseal_2+2-1.efi"], NEW, {"step": "activated"}, Confirmed()),
    ("interrupted while staging", ["edgeseal_1.efi"], OLD, {"step": "decided"}, MustStage()),
    ("interrupted before that", ["edgeseal_1.efi", "edgeseal_9+0-3.efi"], OLD, {"step": "decided"}, MustStage()),
    ("interrupted before activation", ["edgeseal_1.efi"], OLD, {"step": "staged"}, MustActivate()),
    ("cut while activating", ["edgeseal_1.efi", "!edgeseal_2+3-0.efi"], OLD, {"step": "staged"}, MustActivate()),
    ("cut behind activation", ["edgeseal_1.efi", "edgeseal_2+3-0.efi"], OLD, {"step": "staged"}, MustActivate()),
    ("the entry was lost", ["edgeseal_1.efi"], OLD, {"step": "activated"}, MustActivate()),
    ("waits for the boot", ["edgeseal_1.efi", "edgeseal_2+3-0.efi"], OLD, {"step": "activated"}, MustReboot(3)),
    ("fell back", ["edgeseal_1.efi", "edgeseal_2+0-3.efi"], OLD, {"step": "activated"},
     FellBack("version 2 was booted 3 times and never judged good")),
    ("fell back, the journal one step behind", ["edgeseal_1.efi", "edgeseal_2+0-3.efi"], OLD, {"step": "staged"},
     FellBack("version 2 was booted 3 times and never judged good")),
    ("somebody chose the old one", ["edgeseal_1.efi", "edgeseal_2.efi"], OLD, {"step": "activated"},
     FellBack("version 1 was booted, although version 2 is confirmed")),
    ("the update's slot runs another version", ["edgeseal_1.efi"], OLD, {"slot": "a"},
     FellBack("version 1 runs from slot a, which was the update's")),
    ("the update runs from the other slot", ["edgeseal_1.efi"], OLD, {"version": 1},
     FellBack("version 1 runs already, from slot a")),
    ("the running one is on trial", ["edgeseal_1+2-1.efi"], OLD, {"step": "staged"},
     FellBack("version 1 runs on trial, from slot a")),
    ("its entry is gone", ["edgeseal_2+3-0.efi"], OLD, {"step": "activated"}, EntryLost()),
    ("its entry is empty", ["!edgeseal_1.efi"], OLD, None, EntryLost()),
]  # fmt: skip


@pytest.mark.parametrize(
    ("names", "running", "changes", "told"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_what_a_boot_tells(names: list[str], running: Running, changes: dict[str, Any] | None, told: object) -> None:
    trial = None if changes is None else msgspec.structs.replace(TRIAL, **changes)
    assert judge(there(*names), running, trial) == told


def test_what_may_be_removed() -> None:
    names = [
        "edgeseal_1.efi",
        "edgeseal_2.efi",
        "!edgeseal_9+3-0.efi",
        "edgeseal_2+2-1.dup",
        "EDGESE~1.EFI",
        "linux.efi",
    ]
    assert removable(there(*names), NEW) == ("EDGESE~1.EFI", "edgeseal_1.efi", "edgeseal_9+3-0.efi")


def test_a_short_name_of_the_running_image_stays() -> None:
    found = [*there("edgeseal_2.efi"), Found("EDGESE~1.EFI", None, HASHES[2])]
    assert removable(found, NEW) == ()


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["edgeseal_1.efi"], "version 2 runs, and no boot entry of it is on the ESP"),
        (["edgeseal_1.efi", "!edgeseal_2.efi"], "version 2 runs, and no boot entry of it is on the ESP"),
        (["edgeseal_1.efi", "edgeseal_2+2-1.efi"], "version 2 runs on trial: the other slot is still needed"),
    ],
)
def test_nothing_is_removed_before_the_running_version_is_confirmed(names: list[str], said: str) -> None:
    with pytest.raises(EdgesealError) as refusal:
        removable(there(*names), NEW)
    assert str(refusal.value) == said
