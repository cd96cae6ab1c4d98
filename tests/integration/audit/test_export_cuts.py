"""A medium that is pulled out at every operation of a copy: what it has then verifies; the next copy completes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.export_device import Device, PulledOutError, Stick


def cuts(device: Device) -> int:
    """How many operations an export from here has."""
    stick = Stick(device.stick)
    with stick.plugged():
        device.copy()
    return stick.count


@pytest.mark.parametrize("lose_names", [False, True])
@pytest.mark.parametrize("done", [False, True])
def test_pulled_out_at_any_time_there_is_a_log_that_verifies(done: bool, lose_names: bool, tmp_path: Path) -> None:
    first, second = 250, 270
    (tmp_path / "count").mkdir()
    counting = Device(tmp_path / "count", entries=first)
    operations = cuts(counting)
    counting.grow(second - first)
    both = (operations, cuts(counting))
    assert min(both) > 20
    for before, total in ((0, both[0]), (first, both[1])):
        for at in range(total):
            (tmp_path / f"{before}-{at}").mkdir()
            device = Device(tmp_path / f"{before}-{at}", entries=first)
            if before:
                device.copy()
                device.grow(second - first)
            stick = Stick(device.stick, at=at, done=done, lose_names=lose_names)
            with stick.plugged(), pytest.raises(PulledOutError):
                device.copy()
            stick.damage()
            assert device.size_on_stick() in (before, len(device.told.entries))
            device.copy()
            assert device.size_on_stick() == len(device.told.entries)
