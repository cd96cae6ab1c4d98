"""What is true of a device after its first boot, under Secure Boot and with a TPM."""

from __future__ import annotations

from builder.vm.historian import Historian
from tests.support.images import Image
from tests.support.machine import Machine


def test_secure_boot_is_on_and_the_kernel_is_locked_down(vm: Machine) -> None:
    secure_boot = vm.read("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c")
    setup_mode = vm.read("/sys/firmware/efi/efivars/SetupMode-8be4df61-93ca-11d2-aa0d-00e098032b8c")
    assert (secure_boot[4], setup_mode[4]) == (1, 0)
    assert "[integrity]" in vm.text("/sys/kernel/security/lockdown")
    assert vm.text("/sys/module/module/parameters/sig_enforce") == "Y"
    assert vm.text("/sys/module/dm_verity/parameters/require_signatures") == "Y"


def test_it_runs_version_1_from_slot_a_and_nothing_failed(vm: Machine) -> None:
    assert (vm.booted_slot(), vm.image_version()) == ("a", 1)
    assert vm.succeed(["systemctl", "--failed", "--no-legend", "--plain"]) == ""
    assert vm.succeed(["systemctl", "is-system-running"]).strip() == "running"
