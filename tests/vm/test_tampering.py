"""A device whose disk was tampered with does not run what was changed."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable

import pytest

from builder.signing.authenticode import sign_pe, unsigned_pe
from builder.signing.pe import parse_pe
from builder.signing.roles import Role
from tests.support.disk import DiskEditor
from tests.support.images import Image
from tests.support.machine import Machine

pytestmark = pytest.mark.xdist_group("vm-fresh")

Device = Callable[[Image], tuple[Machine, DiskEditor]]

UKI = "EFI/Linux/edgeseal_1.efi"
LOADER = "EFI/BOOT/BOOTX64.EFI"
FIRMWARE_S, ROOT_S = 120.0, 200.0  # less than a device's wait for its root partition, which is 300 s
# What OVMF and systemd-boot say when a signature does not hold.
REFUSAL = r"Access Denied|Access denied|Security Violation|Security violation"
KERNEL_STARTED = r"Linux version"


def test_a_loader_with_one_flipped_bit_is_refused_by_the_firmware(device: Device, image: Image) -> None:
    machine, disk = device(image)
    disk.put_on_esp(_flipped(disk.read_from_esp(LOADER), ".text"), LOADER)
    machine.start()
    machine.wait_for_console(REFUSAL, within_s=FIRMWARE_S)


def test_an_unsigned_kernel_image_is_refused(device: Device, image: Image) -> None:
    machine, disk = device(image)
    disk.put_on_esp(unsigned_pe(image.uki), UKI)
    machine.start()
    machine.wait_for_console(REFUSAL, within_s=FIRMWARE_S)
    assert not re.search(KERNEL_STARTED, machine.console)


def test_a_kernel_image_with_one_flipped_bit_is_refused(device: Device, image: Image) -> None:
    machine, disk = device(image)
    disk.put_on_esp(_flipped(image.uki, ".initrd"), UKI)
    machine.start()
    machine.wait_for_console(REFUSAL, within_s=FIRMWARE_S)
    assert not re.search(KERNEL_STARTED, machine.console)


def test_a_kernel_image_with_a_wrong_root_hash_signature_reboots(device: Device, image: Image) -> None:
    machine, disk = device(image)
    # our own signature over the file holds; the one over the root hash, inside, does not
    unsigned = unsigned_pe(image.uki)
    written = re.search(rb"root-hash-signature=base64:([A-Za-z0-9+/=]+)", unsigned)
    assert written is not None
    signature = bytearray(base64.b64decode(written[1]))
    signature[-1] ^= 1
    wrong = unsigned[: written.start(1)] + base64.b64encode(signature) + unsigned[written.end(1) :]
    disk.put_on_esp(sign_pe(wrong, machine.lab.keys.signer(Role.DB)), UKI)
    machine.start()
    machine.wait_for_console(KERNEL_STARTED, within_s=FIRMWARE_S)
    machine.wait_for_reset(within_s=ROOT_S)
    assert "Welcome to edgeseal" not in machine.console


def test_one_flipped_bit_in_the_root_is_caught(device: Device, image: Image) -> None:
    machine, disk = device(image)
    disk.flip_bit("root-a", 100)  # in the block of the file system's superblock, which is read first
    _expect_panic(machine)


def test_one_flipped_bit_in_the_hash_tree_is_caught(device: Device, image: Image) -> None:
    machine, disk = device(image)
    disk.flip_bit("root-a-verity", 4096 + 7)  # the top of the tree, behind its superblock
    _expect_panic(machine)


def test_a_bit_that_is_flipped_while_the_device_runs_is_caught(vm: Machine) -> None:
    offset = 60 << 20
    vm.python(
        "import os\n"
        "disk = os.open('/dev/disk/by-partlabel/root-a', os.O_RDWR)\n"
        f"old = os.pread(disk, 1, {offset})[0]\n"
        f"os.pwrite(disk, bytes([old ^ 1]), {offset})\n"
        "os.fsync(disk)"
    )
    seen = len(vm.vm.qmp.events)
    vm.python_without_answer(
        "import os, mmap\n"
        "open('/proc/sys/vm/drop_caches', 'w').write('3')\n"
        "root = os.open('/dev/mapper/root', os.O_RDONLY | os.O_DIRECT)\n"
        "page = mmap.mmap(-1, 4096)\n"
        f"os.preadv(root, [page], {offset})"
    )
    vm.wait_for_console(r"Kernel panic - not syncing: dm-verity", within_s=ROOT_S)
    vm.vm.qmp.wait_for_event("RESET", within_s=ROOT_S, since=seen)


def _expect_panic(machine: Machine) -> None:
    machine.start()
    machine.wait_for_console(r"Kernel panic - not syncing: dm-verity", within_s=ROOT_S)
    machine.wait_for_reset(within_s=FIRMWARE_S)
    assert "Welcome to edgeseal" not in machine.console


def _flipped(image: bytes, name: str) -> bytes:
    """With one bit inverted in the middle of a section."""
    section = next(section for section in parse_pe(image).sections if section.name == name)
    changed = bytearray(image)
    changed[section.offset + section.size // 2] ^= 1
    return bytes(changed)
