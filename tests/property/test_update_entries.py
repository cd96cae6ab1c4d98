"""Whatever is on the ESP: a confirmed system never moves to an older version, and what boots is never removed."""

from __future__ import annotations

import contextlib
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from appliance.core.errors import DecodeError, EdgesealError
from appliance.formats.update_state import Trial
from appliance.update.entries import (
    Entry,
    Found,
    Running,
    boot_order,
    judge,
    next_boot,
    parse_entry,
    removable,
)
from tests.support.bootmodel import LoaderEntry, compare_entries

versions = st.integers(1, 12)
entries = st.builds(
    lambda version, counter: Entry(version, *(counter or (None, 0))),
    versions,
    st.none() | st.tuples(st.integers(0, 9), st.integers(0, 9)),
)
found_entries = st.builds(
    lambda entry, whole: Found(entry.name, entry, f"{entry.version:064x}" if whole else None), entries, st.booleans()
)
esps = st.lists(found_entries, max_size=6, unique_by=lambda item: item.name)
trials = st.builds(
    lambda version, slot, step: Trial(
        transaction="0" * 16,
        release="0" * 64,
        version=version,
        security_epoch=0,
        slot=slot,
        step=step,
        confirm="online",
    ),
    versions,
    st.sampled_from("ab"),
    st.sampled_from(["decided", "staged", "activated"]),
)


def running(version: int) -> Running:
    return Running(version, "a", f"{version:064x}")


@given(entries)
def test_a_name_is_read_as_it_was_written(entry: Entry) -> None:
    assert parse_entry(entry.name) == entry


@given(st.text(max_size=40))
def test_any_text_is_an_entry_or_refused(text: str) -> None:
    with contextlib.suppress(DecodeError):
        assert parse_entry(text).name == text


@given(st.lists(entries, min_size=2, max_size=8, unique=True))
def test_the_order_is_the_one_of_systemd_boot(items: list[Entry]) -> None:
    """Against a second reading of its source, which tests/support/bootmodel.py has."""
    ordered = [
        LoaderEntry(item.name, item.left, item.done, "edgeseal", str(item.version), "") for item in boot_order(items)
    ]
    for earlier, later in pairwise(ordered):
        assert compare_entries(earlier, later) <= 0


@given(esps, versions, st.integers(0, 9))
def test_three_power_cycles_of_a_confirmed_system_never_select_an_older_version(
    esp: list[Found], version: int, left: int
) -> None:
    """Newer ones on trial may be tried and given up; what is confirmed is never left for something older."""
    current = [item for item in esp if item.entry is None or item.entry.version != version]
    current.append(Found(Entry(version).name, Entry(version), f"{version:064x}"))
    for _ in range(3):
        chosen = next_boot(current)
        assert chosen is not None
        assert chosen.version >= version
        current = [_counted(item) if item.name == chosen.name else item for item in current]


def _counted(item: Found) -> Found:
    """What the boot loader makes of an entry that it starts."""
    entry = item.entry
    if entry is None or not entry.left:
        return item
    counted = Entry(entry.version, entry.left - 1, entry.done + 1)
    return Found(counted.name, counted, item.root_hash)


@given(esps, versions)
def test_what_may_go_is_never_what_runs_and_a_confirmed_entry_stays(esp: list[Found], version: int) -> None:
    try:
        gone = removable(esp, running(version))
    except EdgesealError:
        assert not any(item.bootable and item.entry == Entry(version) for item in esp)
        return
    left = [item for item in esp if item.name not in gone]
    chosen = next_boot(left)
    assert chosen is not None
    assert chosen.version == version, "after clearing, whatever boots runs from the slot that is not written to"
    assert any(item.entry == Entry(version) and item.bootable for item in left)


@given(esps, versions, st.none() | trials)
def test_every_situation_has_an_answer(esp: list[Found], version: int, trial: Trial | None) -> None:
    judge(esp, running(version), trial)
