"""The kernel command line: one line, fixed in the signed UKI. Pure.

Mitigations are named even where they are the default: reviewers' tools count only what is said.
"""

from __future__ import annotations

import base64

from builder.image.seal import VerityImage
from builder.profile.types import Profile

_HARDENING = (
    "lsm=landlock,lockdown,yama,loadpin,safesetid,integrity,bpf,ipe",
    "lockdown=integrity",
    "module.sig_enforce=1",
    "dm_verity.require_signatures=1",
    "ipe.enforce=1",
    "audit=1",  # systemd tells of failed units, the kernel of killed processes; edgeseal-watch reads it
    "proc_mem.force_override=never",
    "init_on_alloc=1",
    "init_on_free=1",
    "slab_nomerge",
    "page_alloc.shuffle=1",
    "hash_pointers=always",
    "randomize_kstack_offset=on",
    "kfence.sample_interval=100",
    "debugfs=off",
    "oops=panic",
    "panic=10",
    "random.trust_bootloader=off",
    "random.trust_cpu=off",
    "usbcore.authorized_default=0",
    "ipv6.disable=1",
    "mitigations=auto",
)
_HARDENING_OF = {
    "x86_64": (
        "vsyscall=none",
        "vdso32=0",
        "ia32_emulation=0",
        "iommu=force",
        "iommu.passthrough=0",
        "iommu.strict=1",
        "intel_iommu=on",
        "amd_iommu=force_isolation",
        "efi=disable_early_pci_dma",
        "pti=on",
        "tsx=off",
        "spectre_v2=on",
        "spec_store_bypass_disable=on",
    ),
    "arm64": ("iommu.passthrough=0", "iommu.strict=1", "kpti=1", "ssbd=force-on", "arm64.nosme"),
}


def command_line(profile: Profile, image: VerityImage, *, root_hash_signature: bytes) -> str:
    """root_hash_signature: detached CMS over the root hash in hex, DER."""
    signature = base64.b64encode(root_hash_signature).decode()
    console = profile.hardware.serial_console
    return " ".join(
        (
            f"roothash={image.root_hash}",
            f"systemd.verity_root_data=UUID={image.data_uuid}",
            f"systemd.verity_root_hash=UUID={image.hash_uuid}",
            f"systemd.verity_root_options=root-hash-signature=base64:{signature},panic-on-corruption",
            "ro",
            "rootfstype=erofs",
            "systemd.machine_id=firmware",
            "systemd.firstboot=off",
            "systemd.getty_auto=0",
            "systemd.volatile=no",
            *((f"console={console}",) if console else ("quiet",)),
            *_HARDENING,
            *_HARDENING_OF[profile.architecture],
        )
    )
