"""compose: the disk image. Only sealed and signed parts get in, which the types say."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from builder.boot.uki import FALLBACK_NAME, SignedUki
from builder.disk.layout import definitions
from builder.host.sandbox import Sandbox
from builder.image.seal import VerityImage, product_uuid
from builder.profile.types import Profile

LOADER_SETTINGS = b"timeout 0\neditor no\nauto-entries no\nauto-firmware no\n"


@dataclass(frozen=True)
class SignedLoader:
    """The boot loader, signed."""

    data: bytes


def uki_path(profile: Profile, *, tries: int | None = None) -> str:
    """Path on the ESP. tries: of a trial boot (the UAPI group's Boot Loader Specification, boot counting)."""
    counter = "" if tries is None else f"+{tries}-0"
    return f"EFI/Linux/edgeseal_{profile.version}{counter}.efi"


def esp_files(profile: Profile, uki: SignedUki, loader: SignedLoader) -> dict[str, bytes]:
    """Path on the ESP → bytes."""
    return {
        f"EFI/BOOT/{FALLBACK_NAME[profile.architecture]}": loader.data,
        uki_path(profile): uki.data,
        "loader/loader.conf": LOADER_SETTINGS,
        "loader/entries.srel": b"type1\n",
    }


def compose(
    profile: Profile,
    image: VerityImage,
    uki: SignedUki,
    loader: SignedLoader,
    tools: Sandbox,
    target: Path,
    *,
    epoch: int,
) -> None:
    """Write the sparse disk image `target`, an absolute path, which must not exist."""
    assert target.is_absolute(), target
    with TemporaryDirectory(dir=target.parent, prefix=".compose-") as name:
        directory = Path(name)
        esp = directory / "esp"
        _write_esp(esp_files(profile, uki, loader), esp, epoch)
        (directory / "definitions").mkdir()
        for file, content in definitions(profile, image, esp_source=esp).items():
            (directory / "definitions" / file).write_text(content)
        disk = directory / "disk.raw"
        tools.run(
            [
                "systemd-repart",
                "--empty=create",
                f"--size={profile.disk.total}M",
                "--offline=yes",
                f"--sector-size={profile.disk.sector_size}",
                f"--seed={product_uuid(profile.product, 'disk')}",
                f"--definitions={directory / 'definitions'}",
                "--dry-run=no",
                "--no-pager",
                disk,
            ],
            reason="write the disk image",
            writable=[directory],
            binds={image.data: None, image.hashes: None},
            environment={"SOURCE_DATE_EPOCH": str(epoch)},
        )
        disk.replace(target)


def _write_esp(files: dict[str, bytes], directory: Path, epoch: int) -> None:
    for path, data in sorted(files.items()):
        place = directory / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    # FAT stores the times of the sources
    for place in sorted(directory.rglob("*"), reverse=True):
        os.utime(place, (epoch, epoch))
    os.utime(directory, (epoch, epoch))
