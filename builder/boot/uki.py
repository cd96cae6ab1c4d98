"""kernel and sign: one PE file with kernel, initrd and command line, its PCR 11 policy signed, then signed itself.

Formats: the UAPI group's Unified Kernel Image specification; systemd-stub(7). The signed phase is the one in which the
data partition is unlocked, after the initrd and before sysinit.target: later the TPM gives the key to nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from builder.host.paths import cache_directory
from builder.host.sandbox import Sandbox
from builder.host.scratch import scratch_directory
from builder.rootfs.entries import File
from builder.signing.authenticode import sign_pe
from builder.signing.pcrpolicy import PHASE_DATA, measure_uki, pcr_signature
from builder.signing.pe import pe_sections
from builder.signing.signer import Signer

STUB_NAME = {"x86_64": "linuxx64.efi.stub", "arm64": "linuxaa64.efi.stub"}
LOADER_NAME = {"x86_64": "systemd-bootx64.efi", "arm64": "systemd-bootaa64.efi"}
FALLBACK_NAME = {"x86_64": "BOOTX64.EFI", "arm64": "BOOTAA64.EFI"}
EFI_ARCHITECTURE = {"x86_64": "x64", "arm64": "aa64"}


@dataclass(frozen=True)
class UkiParts:
    """What a UKI is made of. kernel, initrd, stub: files; the rest: text."""

    architecture: str
    kernel: Path
    kernel_version: str
    initrd: Path
    stub: Path
    command_line: str
    os_release: File
    epoch: int


@dataclass(frozen=True)
class UnsignedUki:
    """A UKI that no firmware of ours starts."""

    data: bytes


@dataclass(frozen=True)
class SignedUki:
    """A UKI whose PCR policy and image are signed."""

    data: bytes
    command_line: str


def build_uki(parts: UkiParts, tools: Sandbox, *, pcr: Signer, pcr_public_pem: bytes) -> UnsignedUki:
    """Assemble twice: once to measure what the firmware will measure, once with the signature over it."""
    measured = _ukify(parts, tools, pcr_public_pem=pcr_public_pem, signature=None)
    values = measure_uki(pe_sections(measured), (PHASE_DATA,))
    signature = pcr_signature(values, pcr)
    return UnsignedUki(_ukify(parts, tools, pcr_public_pem=pcr_public_pem, signature=signature))


def sign_uki(uki: UnsignedUki, signer: Signer, *, command_line: str) -> SignedUki:
    """Authenticode over the whole file."""
    return SignedUki(sign_pe(uki.data, signer), command_line)


def _ukify(parts: UkiParts, tools: Sandbox, *, pcr_public_pem: bytes, signature: bytes | None) -> bytes:
    with scratch_directory(cache_directory(), ".uki-") as directory:
        files = {"cmdline": parts.command_line.encode(), "osrel": parts.os_release.read(), "pcrpkey": pcr_public_pem}
        for key, data in files.items():
            (directory / key).write_bytes(data)
        words: list[str | Path] = [
            "ukify",
            "build",
            f"--linux={parts.kernel}",
            f"--initrd={parts.initrd}",
            f"--stub={parts.stub}",
            f"--efi-arch={EFI_ARCHITECTURE[parts.architecture]}",
            f"--uname={parts.kernel_version}",
            f"--cmdline=@{directory / 'cmdline'}",
            f"--os-release=@{directory / 'osrel'}",
            f"--pcrpkey={directory / 'pcrpkey'}",
            f"--output={directory / 'uki.efi'}",
        ]
        if signature is not None:
            (directory / "pcrsig").write_bytes(signature)
            words.append(f"--section=.pcrsig:@{directory / 'pcrsig'}")
        tools.run(
            words,
            reason="assemble the unified kernel image",
            writable=[directory],
            binds={parts.kernel: None, parts.initrd: None, parts.stub: None},
            environment={"SOURCE_DATE_EPOCH": str(parts.epoch)},
        )
        return (directory / "uki.efi").read_bytes()
