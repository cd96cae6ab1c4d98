"""Rules about the board: what a hardware class implies, modules, firmware, TPM, times."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from dataclasses import dataclass

from builder.profile.problem import Finding
from builder.profile.rules import Rule, duplicates, finding, normal_module
from builder.profile.types import Architecture, HardwareClass, Profile

MASS_STORAGE = "08"
"""The USB class of sticks."""
STICK_MODULES = ("usb_storage", "sd_mod")
_INITRD_NEEDS = {"dm_verity": "the root could not be verified", "erofs": "the root could not be mounted"}
_CONTACT = re.compile(r"(mailto:[^@\s]+@[^@\s]+\.[^@\s]+|https://[^\s/]+\.[^\s]+)")


@dataclass(frozen=True)
class ClassFacts:
    """What a hardware class decides."""

    architecture: Architecture
    virtual: bool
    console: str | None


CLASSES: dict[HardwareClass, ClassFacts] = {
    "industrial-pc": ClassFacts("x86_64", virtual=False, console="ttyS"),
    "npu-gateway": ClassFacts("arm64", virtual=False, console=None),
    "smart-camera": ClassFacts("arm64", virtual=False, console=None),
    "virtual-x86_64": ClassFacts("x86_64", virtual=True, console="ttyS"),
    "virtual-arm64": ClassFacts("arm64", virtual=True, console="ttyAMA"),
}


def class_fits_architecture(profile: Profile) -> Iterator[Finding]:
    """A hardware class has one architecture."""
    wanted = CLASSES[profile.hardware.hardware_class].architecture
    if profile.architecture != wanted:
        yield finding(
            ("architecture",),
            f"`{profile.architecture}`, but hardware class {profile.hardware.hardware_class} is {wanted}",
            f"write `architecture: {wanted}`, or choose another hardware.hardware_class",
        )


def console_fits_class(profile: Profile) -> Iterator[Finding]:
    """Known consoles of a class; boards name theirs."""
    wanted, console = CLASSES[profile.hardware.hardware_class].console, profile.hardware.serial_console
    if wanted and console and not re.fullmatch(wanted + "[0-9]+", console):
        message = f"`{console}` is no console of {profile.hardware.hardware_class}"
        yield finding(("hardware", "serial_console"), message, f"write `{wanted}0`")


def modules_are_listed_once(profile: Profile) -> Iterator[Finding]:
    """Also when spelt with a dash and with an underscore."""
    for key, modules in (("modules", profile.hardware.modules), ("initrd_modules", profile.hardware.initrd_modules)):
        names = [normal_module(name) for name in modules]
        yield from duplicates(("hardware", key), names, hint="remove one of the two")


def initrd_can_mount_the_root(profile: Profile) -> Iterator[Finding]:
    """Without these the device cannot boot; the drivers of its disk only its maker knows."""
    has = {normal_module(name) for name in profile.hardware.initrd_modules}
    for name, consequence in _INITRD_NEEDS.items():
        if name not in has:
            yield finding(("hardware", "initrd_modules"), f"`{name}` is missing: {consequence}", f"add `- {name}`")


def data_partition_can_be_opened(profile: Profile) -> Iterator[Finding]:
    """A data partition that is bound to the TPM is LUKS2."""
    hardware = profile.hardware
    has = {normal_module(name) for name in (*hardware.modules, *hardware.initrd_modules)}
    if hardware.tpm == "required" and "dm_crypt" not in has:
        message = "`dm_crypt` is missing: the data partition could not be opened"
        yield finding(("hardware", "modules"), message, "add `- dm_crypt`, or write `tpm: absent`")


def tpm_fits_class(profile: Profile) -> Iterator[Finding]:
    """Debian's arm64 kernel has no driver for the TPM of QEMU's arm machine."""
    if profile.hardware.hardware_class == "virtual-arm64" and profile.hardware.tpm == "required":
        message = "`required`, but the arm64 kernel has no driver for the virtual machine's TPM"
        yield finding(("hardware", "tpm"), message, "write `tpm: absent`; the data partition is then plain")


def firmware_stays_below_its_directory(profile: Profile) -> Iterator[Finding]:
    """Relative paths without `..`, each once."""
    for number, path in enumerate(profile.hardware.firmware):
        if path.startswith("/") or ".." in path.split("/") or not path:
            message = f"`{path}` is not a path below /usr/lib/firmware"
            yield finding(("hardware", "firmware", number), message, "write it relative, like `intel/vpu`")
    yield from duplicates(("hardware", "firmware"), profile.hardware.firmware, hint="remove one of the two")


def usb_classes_are_listed_once(profile: Profile) -> Iterator[Finding]:
    """Each class once."""
    yield from duplicates(("hardware", "usb_classes"), profile.hardware.usb_classes, hint="remove one of the two")


def sticks_have_their_drivers(profile: Profile) -> Iterator[Finding]:
    """A stick comes after the boot, when no module can be loaded any more. A virtual machine's medium is a disk."""
    if MASS_STORAGE not in profile.hardware.usb_classes or CLASSES[profile.hardware.hardware_class].virtual:
        return
    has = {normal_module(name) for name in profile.hardware.modules}
    for name in STICK_MODULES:
        if name not in has:
            message = f"`{name}` is missing: a stick of the USB class {MASS_STORAGE} could not be read"
            hint = f"add `- {name}`, or remove `{MASS_STORAGE}` from hardware.usb_classes"
            yield finding(("hardware", "modules"), message, hint)


def source_fits_class(profile: Profile) -> Iterator[Finding]:
    """A virtual machine has no camera, a board no virtio channel."""
    virtual = CLASSES[profile.hardware.hardware_class].virtual
    source = profile.inference.source
    if source.kind == "v4l2" and virtual:
        message = f"`v4l2`, but {profile.hardware.hardware_class} has no camera"
        yield finding(("inference", "source", "kind"), message, "write `kind: virtio`")
    elif source.kind == "virtio" and not virtual:
        message = f"`virtio`, but {profile.hardware.hardware_class} is not a virtual machine"
        yield finding(("inference", "source", "kind"), message, "write `kind: v4l2` and `device: /dev/video0`")
    elif source.kind == "v4l2" and not re.fullmatch(r"/dev/(video[0-9]+|v4l/\S+)", source.device):
        message = f"`{source.device}` is no camera"
        yield finding(("inference", "source", "device"), message, "write a device like `/dev/video0`")


def agent_only_in_virtual_classes(profile: Profile) -> Iterator[Finding]:
    """The agent is root; it exists for the VM tests only."""
    if profile.development.test_agent and not CLASSES[profile.hardware.hardware_class].virtual:
        message = f"a root agent, refused on {profile.hardware.hardware_class}"
        yield finding(("development", "test_agent"), message, "only virtual classes may have it: remove the line")


def times_leave_room_for_each_other(profile: Profile) -> Iterator[Finding]:
    """A unit must be able to time out, and the watchdog to bite, before the health gate gives up."""
    deadline = profile.health.deadline_s
    if profile.timeout_s > deadline:
        message = f"{profile.timeout_s} s, longer than health.deadline_s ({deadline} s)"
        yield finding(
            ("timeout_s",), message, "a unit that is slow but good would fail the health gate: raise the latter"
        )
    if profile.hardware.watchdog_s > deadline:
        message = f"{profile.hardware.watchdog_s} s, longer than health.deadline_s ({deadline} s)"
        yield finding(("hardware", "watchdog_s"), message, "a wedged boot would outlast the health gate: lower it")
    if profile.inference.deadline_ms > deadline * 1000:
        message = f"{profile.inference.deadline_ms} ms, longer than health.deadline_s ({deadline} s)"
        yield finding(("inference", "deadline_ms"), message, "the first verdict is part of the health gate: lower it")


def promises_are_well_formed(profile: Profile) -> Iterator[Finding]:
    """End of support and contact. Whether the day has passed is not asked: a build knows no clock."""
    if profile.support_until is not None:
        try:
            datetime.date.fromisoformat(profile.support_until)
        except ValueError:
            yield finding(("support_until",), f"`{profile.support_until}` is not a day of the calendar", "count again")
    contact = profile.security_contact
    if contact is not None and not _CONTACT.fullmatch(contact):
        hint = "write `mailto:security@example.com` or `https://example.com/security`"
        yield finding(("security_contact",), f"`{contact}` is neither a mailto: nor an https: address", hint)


RULES: tuple[Rule, ...] = (
    class_fits_architecture,
    console_fits_class,
    modules_are_listed_once,
    initrd_can_mount_the_root,
    data_partition_can_be_opened,
    tpm_fits_class,
    firmware_stays_below_its_directory,
    usb_classes_are_listed_once,
    sticks_have_their_drivers,
    source_fits_class,
    agent_only_in_virtual_classes,
    times_leave_room_for_each_other,
    promises_are_well_formed,
)
