"""The partition table of a device, as definitions for systemd-repart (repart.d(5)). Pure."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from builder.image.seal import VerityImage, product_uuid
from builder.profile.types import Profile

ROOT_TYPE = {"x86_64": "root-x86-64", "arm64": "root-arm64"}
LABELS = ("esp", "root-a", "root-a-verity", "root-b", "root-b-verity")


def definitions(profile: Profile, image: VerityImage, *, esp_source: Path) -> dict[str, str]:
    """File name → text. esp_source: directory whose content the ESP gets. The data partition is made on the device."""
    root = ROOT_TYPE[profile.architecture]
    slot, hashes = f"{profile.disk.root_slot}M", f"{profile.disk.verity_slot}M"
    return {
        "10-esp.conf": _partition(
            "esp",
            "esp",
            f"{profile.disk.esp}M",
            product_uuid(profile.product, "esp"),
            f"Format=vfat\nCopyFiles={esp_source}:/",
        ),
        "20-root-a.conf": _partition(
            root, "root-a", slot, product_uuid(profile.product, "root-a"), f"CopyBlocks={image.data}\nReadOnly=yes"
        ),
        "21-root-a-verity.conf": _partition(
            f"{root}-verity",
            "root-a-verity",
            hashes,
            product_uuid(profile.product, "root-a-verity"),
            f"CopyBlocks={image.hashes}\nReadOnly=yes",
        ),
        "30-root-b.conf": _partition(root, "root-b", slot, product_uuid(profile.product, "root-b"), "ReadOnly=yes"),
        "31-root-b-verity.conf": _partition(
            f"{root}-verity", "root-b-verity", hashes, product_uuid(profile.product, "root-b-verity"), "ReadOnly=yes"
        ),
    }


def _partition(kind: str, label: str, size: str, uuid: UUID, more: str) -> str:
    return f"[Partition]\nType={kind}\nLabel={label}\nUUID={uuid}\nSizeMinBytes={size}\nSizeMaxBytes={size}\n{more}\n"
