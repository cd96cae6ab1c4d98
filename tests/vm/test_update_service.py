"""A device in the field: it updates itself where vendor and site agree, and falls back by itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import pytest

from builder.host.toolstree import vm_tree
from builder.model.labels import render
from builder.vm.deadline import wait_until
from builder.vm.snapshot import Snapshot
from tests.support.disk import DiskEditor
from tests.support.images import Image
from tests.support.machine import Lab, Machine
from tests.support.updates import Updates

pytestmark = pytest.mark.xdist_group("vm-update")

SLOW_S = 600.0
KERNELS = "EFI/Linux"


@pytest.fixture
def device(
    first_boot: Snapshot,
    lab: Lab,
    plant: Updates,
    machines: Callable[[Machine], Machine],
) -> Iterator[Machine]:
    """The device after its first boot, with a network to both repositories."""
    with plant.served() as services:
        connections = dataclasses.replace(lab.connections, services=services)
        yield machines(Machine.thawed(lab, "update", first_boot, connections))


def test_the_life_of_a_device(
    device: Machine,
    plant: Updates,
    next_image: Image,
    sick_image: Image,
) -> None:
    plant.policy("--time-unknown", "install", "--confirm", "offline")
    plant.ring("canary", "--device", "line-9")
    plant.ring("hall", "--group", "hall-2")

    # version 2: vendor and site agree, but another device goes first
    plant.publish(next_image)
    plant.approve(2, "canary")
    told(device, "update-checked", outcome="ring")
    assert device.booted_slot() == "a"

    # now it is our turn; the plug is pulled twice while it stages
    plant.approve(2, "hall")
    for _ in range(2):
        told(device, "update-decided", version=2)
        device.wait_for_journal("edgeseal-update.service", r"copy|fetch")
        device.pull_the_plug()
        device.boot()
        assert (device.booted_slot(), device.image_version()) == ("a", 1)
    device.wait_for_another_boot(within_s=SLOW_S)
    feed_until_confirmed(device, version=2)
    assert (device.booted_slot(), device.image_version()) == ("b", 2)

    # version 3 has no camera
    plant.publish(sick_image)
    plant.approve(3, "hall")
    device.wait_for_another_boot(within_s=SLOW_S)
    assert device.image_version() == 3
    device.wait_for_another_boot(within_s=SLOW_S)
    fell_back = told(device, "update-fell-back", version=3)
    assert (device.booted_slot(), device.image_version(), fell_back["running"]) == ("b", 2, 2)

    entries = [(entry.event.fields.get("version"), entry.event.kind) for entry in device.audit_log()]
    for version, end in ((2, "update-confirmed"), (3, "update-fell-back")):
        steps = ["update-decided", "update-staged", "update-activated", end]
        assert [kind for of, kind in entries if of == version and kind in steps] == steps
    device.shut_down()
    names = DiskEditor(device.disk_image(), device.lab.tree).esp_names(KERNELS)
    assert names == ["edgeseal_2.efi", "edgeseal_3+0-1.efi"]


def told(device: Machine, kind: str, **fields: object) -> dict[str, object]:
    """Wait until the audit log has such an event; its fields."""
    device.wait_for_unit("edgeseal-audit.service", within_s=SLOW_S)
    found: list[dict[str, object]] = []

    def there() -> bool:
        for entry in device.audit_log():
            said = dict(entry.event.fields)
            if entry.event.kind == kind and fields.items() <= said.items():
                found.append(said)
        return bool(found)

    wait_until(there, what=f"the log has {kind} {fields}", within_s=SLOW_S, check=device.vm.require_alive)
    return found[-1]


def feed_until_confirmed(device: Machine, *, version: int) -> None:
    """Hold labels in front of the camera: a version on trial is confirmed only once it has judged one."""
    device.wait_for_agent()
    device.wait_for_unit("edgeseal-inference.service")
    fonts = vm_tree().root / "usr/share/fonts/truetype"
    for index in range(3):
        device.show(render(index, seed=7, fonts=fonts).frame(index))
    told(device, "update-confirmed", version=version)
