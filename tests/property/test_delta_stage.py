"""Whatever a device runs, whatever stands in its other slot, and however often the power fails: it ends with exactly
the release, and fetches nothing that it has.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from appliance.formats.release import BLOCK
from appliance.update.area import Slot
from tests.support.delta import (
    Directory,
    Disk,
    PowerCutError,
    Published,
    disks,
    filled_block,
    hashed_block,
    holds,
    publish,
    slot_of,
    stage_quietly,
)
from tests.support.effort import examples

POOL = [hashed_block(number) for number in range(24)] + [filled_block(number) for number in range(6)]
BLOCKS = st.lists(st.sampled_from(POOL), min_size=1, max_size=80)
SLOT = 90


@contextmanager
def published(*images: list[bytes]) -> Iterator[list[Published]]:
    with TemporaryDirectory() as directory:
        yield [publish(Path(directory), blocks, number=number) for number, blocks in enumerate(images, 1)]


def slot_with(blocks: list[bytes]) -> Slot:
    data = b"".join(blocks)
    return Slot(Disk(data + b"\x77" * (SLOT * BLOCK - len(data))), Disk(bytes(3 * BLOCK)))


@examples(60)
@given(old=BLOCKS, before=BLOCKS, new=BLOCKS)
def test_the_slot_becomes_the_release(old: list[bytes], before: list[bytes], new: list[bytes]) -> None:
    with published(old, new) as (running, release):
        inactive, source = slot_with(before), Directory(release.repository)
        staged = stage_quietly(release, inactive, slot_of(running), source)
        assert holds(inactive, release)
        kept = sum(block == found for block, found in zip(new, before, strict=False))
        missing = [
            block
            for number, block in enumerate(new)
            if block not in old and (number >= len(before) or before[number] != block)
        ]
        assert (staged.kept, staged.fetched) == (kept, len(missing))
        assert staged.copied == len(new) - kept - len(missing)


@examples(60)
@given(old=BLOCKS, new=BLOCKS, damage=st.data())
def test_damage_in_the_running_root_only_costs_bytes(old: list[bytes], new: list[bytes], damage: st.DataObject) -> None:
    with published(old, new) as (running, release):
        slot = slot_of(running)
        data, hashes = disks(slot)
        for disk in (data, hashes):
            for at in damage.draw(st.lists(st.integers(0, disk.size - 1), max_size=5)):
                disk.now[at] ^= damage.draw(st.integers(1, 255))
        data.unreadable = damage.draw(st.sets(st.integers(0, len(old) - 1), max_size=3))
        inactive = slot_with([])
        stage_quietly(release, inactive, slot)
        assert holds(inactive, release)


@examples(60)
@given(old=BLOCKS, new=BLOCKS, seed=st.integers(0, 2**32), cuts=st.lists(st.integers(0, 60), max_size=4))
def test_power_cuts_lose_nothing_that_was_durable(
    old: list[bytes], new: list[bytes], seed: int, cuts: list[int]
) -> None:
    dice = random.Random(seed)
    with published(old, new) as (running, release):
        inactive = slot_with([])
        for cut in cuts:
            data, hashes = disks(inactive)
            data.die_at, data.lost = cut, dice.random() < 0.5
            try:
                stage_quietly(release, inactive, slot_of(running))
            except PowerCutError:
                inactive = Slot(Disk(data.after_power_cut(dice)), Disk(hashes.after_power_cut(dice)))
            else:
                assert holds(inactive, release)
        data, hashes = disks(inactive)
        inactive = Slot(Disk(bytes(data.now)), Disk(bytes(hashes.now)))
        right = sum(bytes(data.now[at * BLOCK :][:BLOCK]) == block for at, block in enumerate(new))
        staged = stage_quietly(release, inactive, slot_of(running))
        assert holds(inactive, release)
        assert staged.kept == right
