"""A new version in the other slot: a good one stays, a sick one goes, and the data is there in either."""

from __future__ import annotations

import pytest

from tests.support.disk import DiskEditor
from tests.support.images import Image
from tests.support.machine import Machine

pytestmark = pytest.mark.xdist_group("vm-thawed")

MARK = "/var/lib/mark"
KERNELS = "EFI/Linux"


def test_a_good_version_is_tried_blessed_and_finds_the_data(
    used_device: tuple[Machine, DiskEditor], next_image: Image
) -> None:
    machine, disk = used_device
    disk.stage(next_image.directory, next_image.manifest, tries=3)
    machine.boot()
    assert (machine.booted_slot(), machine.image_version()) == ("b", 2)
    events = machine.audit_log()
    boots = [entry.event.fields["version"] for entry in events if entry.event.kind == "boot-started"]
    assert boots == [1, 2], "the log of version 1 goes on under version 2, unlocked by the same TPM"
    machine.wait_for_unit("systemd-bless-boot.service")
    machine.shut_down()
    assert DiskEditor(machine.disk_image(), machine.lab.tree).esp_names(KERNELS) == ["edgeseal_1.efi", "edgeseal_2.efi"]


def test_a_version_that_is_not_healthy_falls_back_by_itself(
    used_device: tuple[Machine, DiskEditor], sick_image: Image
) -> None:
    machine, disk = used_device
    disk.stage(sick_image.directory, sick_image.manifest, tries=2)
    machine.start()
    machine.wait_for_console("Linux version")
    machine.pull_the_plug()
    assert disk.esp_names(KERNELS) == ["edgeseal_1.efi", "edgeseal_2+1-1.efi"], "a try is used up when it begins"
    machine.start()
    machine.wait_for_agent()
    assert (machine.booted_slot(), machine.image_version()) == ("b", 2)
    machine.wait_for_another_boot()
    assert (machine.booted_slot(), machine.image_version()) == ("a", 1)
    machine.wait_for_unit("boot-complete.target")
    judged = [entry.event for entry in machine.audit_log() if entry.event.kind == "boot-judged"]
    assert [event.result for event in judged] == ["success", "failure", "success"]
    machine.shut_down()
    names = DiskEditor(machine.disk_image(), machine.lab.tree).esp_names(KERNELS)
    assert names == ["edgeseal_1.efi", "edgeseal_2+0-2.efi"]
