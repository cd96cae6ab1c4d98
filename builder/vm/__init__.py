"""Images in an emulator: QEMU with UEFI Secure Boot and a TPM, the broker outside, and the ways in for a test.

How-to: docs/how-to/run-in-a-vm.md. Everything runs from the locked "vm" tree; nothing of the host is used.
"""
