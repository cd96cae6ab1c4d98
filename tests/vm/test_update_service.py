"""A device in the field: it updates itself where vendor and site agree, and falls back by itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import pytest

from builder.rootfs.files import MEDIUM_MOUNT
from builder.vm.snapshot import Snapshot
from tests.support.disk import DiskEditor
from tests.support.images import Image
from tests.support.machine import Lab, Machine
from tests.support.updates import Updates, confirm_on_camera

pytestmark = pytest.mark.xdist_group("vm-update")

SLOW_S = 600.0
DAY_S, YEAR_S = 86_400, 365 * 86_400


@pytest.fixture
def device(
    first_boot: Snapshot,
    lab: Lab,
    published: Updates,
    machines: Callable[[Machine], Machine],
) -> Iterator[Machine]:
    """The device after its first boot, with a network to both repositories."""
    with published.served() as services:
        connections = dataclasses.replace(lab.connections, services=services)
        yield machines(Machine.thawed(lab, "update", first_boot, connections))


def test_the_life_of_a_device(
    device: Machine,
    plant: Updates,
    sick_image: Image,
    later_image: Image,
) -> None:
    plant.policy("--time-unknown", "install", "--confirm", "offline")
    plant.ring("canary", "--device", "line-9")
    plant.ring("hall", "--group", "hall-2")

    # version 2: vendor and site agree, but another device goes first
    plant.approve(2, "canary")
    device.told("update-checked", outcome="ring")
    assert device.booted_slot() == "a"

    # now it is our turn; the plug is pulled twice while it stages
    plant.approve(2, "hall")
    for _ in range(2):
        device.told("update-decided", version=2)
        device.wait_for_journal("edgeseal-update.service", r"copy|fetch")
        device.pull_the_plug()
        device.boot()
        assert (device.booted_slot(), device.image_version()) == ("a", 1)
    device.wait_for_another_boot(within_s=SLOW_S)
    confirm_on_camera(device, version=2)
    assert (device.booted_slot(), device.image_version()) == ("b", 2)

    # version 3 has no camera
    plant.publish(sick_image)
    plant.approve(3, "hall")
    device.wait_for_another_boot(within_s=SLOW_S)
    assert device.image_version() == 3
    device.wait_for_another_boot(within_s=SLOW_S)
    fell_back = device.told("update-fell-back", version=3)
    assert (device.booted_slot(), device.image_version(), fell_back["running"]) == ("b", 2, 2)

    device.shut_down()
    assert boot_entries(device) == ["edgeseal_2.efi", "edgeseal_3+0-1.efi"]

    # version 4 comes on a stick: there is no network any more, and nothing that keeps the time
    plant.publish(later_image)
    plant.approve(4, "hall")
    device.connections = dataclasses.replace(
        device.lab.connections,
        broker_port=None,
        services=(),
        medium=plant.medium("stick"),
        plugged=False,
        clock="1970-01-01T00:00:00",
    )
    device.boot()
    assert (device.booted_slot(), device.image_version()) == ("b", 2)
    # firmware has made it 2070, and systemd the build's epoch; nothing may be earlier than the machine is up
    device.set_clock(DAY_S)
    device.plug_in_medium()
    assert device.told("medium-seen")["medium"] == f"{plant.product} 2,3,4"
    assert device.clock() < YEAR_S, "nobody has set the clock"
    device.told("freshness-unproven", version=4)
    device.wait_for_another_boot(within_s=SLOW_S)
    assert (device.booted_slot(), device.image_version()) == ("a", 4)
    confirm_on_camera(device, version=4)
    assert MEDIUM_MOUNT in device.text("/proc/mounts"), "it was there before systemd was"

    entries = [(entry.event.fields.get("version"), entry.event.kind) for entry in device.audit_log()]
    for version, end in ((2, "update-confirmed"), (3, "update-fell-back"), (4, "update-confirmed")):
        steps = ["update-decided", "update-staged", "update-activated", end]
        assert [kind for of, kind in entries if of == version and kind in steps] == steps
    assert [kind for _, kind in entries].count("medium-seen") == 2, "before and after the restart"
    device.shut_down()
    assert boot_entries(device) == ["edgeseal_2.efi", "edgeseal_4.efi"]


def boot_entries(device: Machine) -> list[str]:
    """What the ESP of a device that is off has for its boot loader."""
    return DiskEditor(device.disk_image(), device.lab.tree).esp_names("EFI/Linux")
