"""Our keys and signatures before real firmware: Debian's edk2 builds, the x86_64 one also started in the emulator."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from builder.host.toolstree import vm_tree
from builder.signing.authenticode import sign_pe
from builder.signing.certificates import certificate_der
from builder.signing.pe import parse_pe
from builder.signing.roles import Role
from builder.signing.variables import enroll, enrollment_files, read_enrolled
from tests.support.efi import boot_binaries
from tests.support.keys import keyset

TEMPLATES = ["OVMF/OVMF_VARS_4M.fd", "OVMF/OVMF_VARS_4M.ms.fd", "AAVMF/AAVMF_VARS.fd", "AAVMF/AAVMF_VARS.ms.fd"]
OURS = {"PK": Role.PK, "KEK": Role.KEK, "db": Role.DB}
DEADLINE_S = 180
STARTED, REFUSED = b"Reboot Into Firmware", b"Access Denied"  # systemd-boot's menu, edk2's boot manager


def _template(name: str) -> bytes:
    return Path(vm_tree().root, "usr/share", name).read_bytes()


def _ours() -> dict[str, list[bytes]]:
    return {name: [certificate_der(keyset().certificate(role))] for name, role in OURS.items()}


@pytest.mark.parametrize("name", TEMPLATES)
def test_exactly_our_keys_are_enrolled(name: str) -> None:
    template = _template(name)
    assert ("PK" in read_enrolled(template)) == (".ms." in name)
    enrolled = enroll(template, keyset())
    assert len(enrolled) == len(template)
    assert enroll(template, keyset()) == enrolled
    assert read_enrolled(enrolled) == _ours()


@pytest.fixture(scope="module")
def loader(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return (boot_binaries("virtual-x86_64", tmp_path_factory.mktemp("efi")) / "systemd-bootx64.efi").read_bytes()


def test_firmware_starts_what_we_signed(loader: bytes, tmp_path: Path) -> None:
    signed = sign_pe(loader, keyset().signer(Role.DB))
    assert _boot(tmp_path, signed, enroll(_template(TEMPLATES[0]), keyset())) == STARTED


def test_firmware_refuses_anything_else(loader: bytes, tmp_path: Path) -> None:
    variables = enroll(_template(TEMPLATES[0]), keyset())
    tampered = bytearray(sign_pe(loader, keyset().signer(Role.DB)))
    tampered[parse_pe(loader).sections[0].offset] ^= 1
    wrong_role = sign_pe(loader, keyset().signer(Role.KEK))
    wrong_owner = sign_pe(loader, keyset("other").signer(Role.DB))
    for image in (loader, bytes(tampered), wrong_role, wrong_owner):
        assert _boot(tmp_path, image, variables) == REFUSED


def test_firmware_takes_our_enrolment_files(loader: bytes, tmp_path: Path) -> None:
    """As a machine is set up: systemd-boot finds the files in setup mode, hands them to the firmware and resets."""
    keys = tmp_path / "esp/loader/keys/auto"
    keys.mkdir(parents=True)
    for name, data in enrollment_files(keyset()).items():
        (keys / name).write_bytes(data)
    (tmp_path / "esp/loader/loader.conf").write_text("secure-boot-enroll force\n")
    signed = sign_pe(loader, keyset().signer(Role.DB))
    assert _boot(tmp_path, signed, _template(TEMPLATES[0])) is None
    assert read_enrolled((tmp_path / "variables").read_bytes()) == _ours()
    assert _boot(tmp_path, loader, (tmp_path / "variables").read_bytes()) == REFUSED


def _boot(directory: Path, image: bytes, variables: bytes) -> bytes | None:
    """Start `image` from an EFI partition: the marker that was seen, or None when the machine reset itself."""
    (directory / "esp/EFI/BOOT").mkdir(parents=True, exist_ok=True)
    (directory / "esp/EFI/BOOT/BOOTX64.EFI").write_bytes(image)
    (directory / "variables").write_bytes(variables)
    flash = "if=pflash,format=raw,unit"
    command = ["timeout", str(DEADLINE_S), "qemu-system-x86_64", "-machine", "q35,smm=on", "-m", "256", "-cpu", "max"]
    command += ["-global", "driver=cfi.pflash01,property=secure,value=on", "-nodefaults", "-display", "none"]
    command += ["-serial", "stdio", "-no-reboot"]
    command += ["-drive", f"{flash}=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.secboot.fd"]
    command += ["-drive", f"{flash}=1,file={directory}/variables", "-drive", f"format=raw,file=fat:rw:{directory}/esp"]
    with subprocess.Popen(vm_tree().command(command, writable=[directory]), stdout=subprocess.PIPE) as machine:
        assert machine.stdout is not None
        seen = b""
        while chunk := machine.stdout.read1(4096):
            seen += chunk
            for marker in (STARTED, REFUSED):
                if marker in seen:
                    machine.kill()
                    return marker
    assert machine.returncode == 0, f"the machine did nothing in {DEADLINE_S} s: {seen!r}"
    return None
