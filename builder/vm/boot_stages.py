"""How far a machine has come, read from its console. The patterns are those of the images' own messages."""

from __future__ import annotations

import re
from collections.abc import Callable

from appliance.core.errors import EdgesealError
from builder.host.progress import step
from builder.vm.deadline import Deadline, wait_until
from builder.vm.machine import VirtualMachine

STAGES = (
    ("the firmware checks the boot loader and the kernel image", r"Linux version \d"),
    ("the kernel starts, locked down", r"Booting initrd of edgeseal"),
    ("the initrd opens the root with its signed hash tree", r"Welcome to edgeseal"),
    ("the services start", r"Started edgeseal-inference\.service"),
)
HOPELESS = (
    (r"Kernel panic - not syncing: (.*)", "the kernel panicked"),
    (r"(Access Denied|Security Violation)", "the firmware refused what it was to start"),
    (r"(No bootable option or device was found)", "the firmware found nothing to start"),
    (r"(Freezing execution)", "systemd gave up"),
    (r"edgeseal: (emergency|rescue) target reached", "the device gave up and reboots"),
)


def require_hope(text: str) -> None:
    """Raises EdgesealError when the console says that this boot leads nowhere."""
    for pattern, meaning in HOPELESS:
        hit = re.search(pattern, text)
        if hit is not None:
            raise EdgesealError(f"{meaning}: {hit[1].strip()}")


def wait_for_services(machine: VirtualMachine, *, within_s: float) -> None:
    """Follow a boot to its end, with progress. Raises EdgesealError when it fails or takes longer than `within_s`."""
    deadline = Deadline(within_s)
    for number, (title, _) in enumerate(STAGES):
        with step(title):
            wait_until(_reached(machine, number), what=title, within_s=deadline.left_s, check=lambda: _check(machine))


def _reached(machine: VirtualMachine, number: int) -> Callable[[], bool]:
    """Whether the stage, or one behind it, is over: a message may be lost, but not all of them."""
    compiled = re.compile("|".join(pattern for _, pattern in STAGES[number:]))
    return lambda: compiled.search(machine.console.text()) is not None


def _check(machine: VirtualMachine) -> None:
    machine.require_alive()
    require_hope(machine.console.text())
