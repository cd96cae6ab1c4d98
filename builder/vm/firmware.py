"""The emulator's firmware and the variable store of a machine."""

from __future__ import annotations

import shutil
from pathlib import Path

from builder.host.sandbox import Sandbox
from builder.profile.types import Architecture
from builder.signing.keyset import KeySet, PublicKeys
from builder.signing.variables import enroll
from builder.vm.config import Firmware

# The firmware that can enforce Secure Boot, and an empty variable store: then it does not (setup mode).
CODE = {"x86_64": "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "arm64": "/usr/share/AAVMF/AAVMF_CODE.secboot.fd"}
TEMPLATE = {"x86_64": "usr/share/OVMF/OVMF_VARS_4M.fd", "arm64": "usr/share/AAVMF/AAVMF_VARS.fd"}


def make_firmware(
    architecture: Architecture, target: Path, tree: Sandbox, *, keys: KeySet | PublicKeys | None
) -> Firmware:
    """Write a fresh variable store to `target`. keys: enrolled, with Secure Boot on; None: Secure Boot off."""
    template = tree.root / TEMPLATE[architecture]
    if keys is None:
        shutil.copyfile(template, target)
    else:
        target.write_bytes(enroll(template.read_bytes(), keys))
    return Firmware(code=CODE[architecture], variables=target)
